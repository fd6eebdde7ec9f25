"""What of the command line is ours, and what is the script's."""

from __future__ import annotations

import os

import pytest
from said import Cli

from mx_autopatch.cli.app import COMMANDS, parse
from mx_autopatch.cli.plan import Given, Plan


@pytest.mark.parametrize(
    ("args", "plan"),
    [
        (["x.py"], Plan("x.py", (), False, Given())),
        (["x.py", "--config", "c"], Plan("x.py", ("--config", "c"), False, Given())),
        (["x.py", "-m", "y"], Plan("x.py", ("-m", "y"), False, Given())),
        (["x.py", "list"], Plan("x.py", ("list",), False, Given())),
        (["x.py", "--help"], Plan("x.py", ("--help",), False, Given())),
        (["x.py", "--"], Plan("x.py", ("--",), False, Given())),
        (["x.py", "", "-"], Plan("x.py", ("", "-"), False, Given())),
        (["./list", "-x"], Plan("./list", ("-x",), False, Given())),
        (["-m", "mod"], Plan("mod", (), True, Given())),
        (["-m", "list", "-x"], Plan("list", ("-x",), True, Given())),
        (["-m", "mod", "--strict", "-m"], Plan("mod", ("--strict", "-m"), True, Given())),
        (["--config", "c", "-m", "mod"], Plan("mod", (), True, Given("c"))),
        (["-m", "--config", "c", "mod"], Plan("mod", (), True, Given("c"))),
        (["--strict", "x"], Plan("x", (), False, Given(None, {"strict": True}))),
        (["--device", "npu", "x"], Plan("x", (), False, Given(None, {"device": "npu"}))),
        (
            ["--enable", "a,b", "--enable=c", "--only", "d", "--disable", "e", "x"],
            Plan(
                *("x", (), False),
                Given(
                    None,
                    {
                        "patches.enable": ["a", "b", "c"],
                        "patches.disable": ["e"],
                        "patches.only": ["d"],
                    },
                ),
            ),
        ),
        (["--only", "", "x"], Plan("x", (), False, Given(None, {"patches.only": []}))),
        (["--report", "", "x"], Plan("x", (), False, Given(None, {"report.path": ""}))),
        (
            ["--report", "r/{pid}.json", "x"],
            Plan("x", (), False, Given(None, {"report.path": os.path.abspath("r/{pid}.json")})),
        ),
        (["--brake", "5", "x"], Plan("x", (), False, Given(None, {"brake": "5"}))),
        (
            ["--profile", "traces", "x"],
            Plan("x", (), False, Given(None, {"profile.path": os.path.abspath("traces")})),
        ),
        (["--", "--odd.py", "--x"], Plan("--odd.py", ("--x",), False, Given())),
        (["-", "x"], Plan("-", ("x",), False, Given())),
    ],
)
def test_a_run(args: list[str], plan: Plan) -> None:
    assert parse(args) == plan


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Nothing to run: give a SCRIPT, -m MODULE or a COMMAND."),
        (["--strict"], "Nothing to run"),
        (["-m"], "Nothing to run"),
        (["--confg", "c", "x.py"], "No such option"),
        (["-x", "x.py"], "No such option"),
        (["--config"], "requires an argument"),
        (["--strict", "init"], "'init' takes no options before it"),
        (["--enable", "a", "report", "x"], "'report' takes no options before it"),
        (["list", "more"], "unexpected extra argument"),
        (["show"], "Missing argument 'NAME'"),
        (["status", "--nope"], "No such option"),
    ],
)
def test_a_usage_error_ends_with_status_2(cli: Cli, args: list[str], message: str) -> None:
    said = cli(*args)
    assert said.code == 2
    assert said.out == ""
    assert message in said.err
    assert said.err.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in said.err


@pytest.mark.skipif(os.name == "nt", reason="Windows does not let it be deleted")
@pytest.mark.parametrize("args", [["list"], ["trust"], ["init"], ["--report", "r.json", "x.py"]])
def test_a_working_directory_that_is_gone(cli: Cli, args: list[str]) -> None:
    os.rmdir(os.getcwd())
    said = cli(*args)
    assert (said.code, said.out) == (2, "")
    assert "The working directory was deleted" in said.err


def test_help_names_everything(cli: Cli) -> None:
    said = cli("--help")
    assert said.code == 0
    for name in (*COMMANDS, "--config", "--enable", "--disable", "--only", "--strict", "-m"):
        assert name in said.out
    assert "..." not in said.out.partition("Commands:")[2]  # no help is cut off


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli: Cli, command: str) -> None:
    said = cli(command, "--help")
    assert said.code == 0
    assert f"Usage: mx-autopatch {command}" in said.out


def test_version(cli: Cli) -> None:
    import mx_autopatch

    assert cli("--version").out == f"mx_autopatch, version {mx_autopatch.__version__}\n"
