"""What is said about a process: object, JSON, lines at exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mx_autopatch.engine.report import Report, describe
from mx_autopatch.model import Define, Outcome, Patch, Replace, Status

ROOT = Path(__file__).parents[2]


def outcome(patch: str = "a.b", status: Status = Status.APPLIED, **more: Any) -> Outcome:
    return Outcome(patch, "replace", "m:x", "m", status, **more)


def test_pending_applied_and_disabled(write: Any, engine: Any) -> None:
    write({"lib.py": "X = 1\n"})
    off = Patch("lib.off", (Define("lib:Z", 1),), default=False)
    report = engine(
        Patch("lib.on", (Replace("lib:X", 2),)),
        Patch("lib.never", (Define("nowhere:X", 1),)),
        off,
        patches__only=[],
    )
    assert [str(o.status) for o in report().of("lib.on")] == ["PENDING"]
    __import__("lib")
    assert [str(o.status) for o in report().of("lib.on")] == ["APPLIED"]
    assert [str(o.status) for o in report().of("lib.never")] == ["PENDING"]
    (disabled,) = report().of("lib.off")
    assert (str(disabled.status), disabled.reason) == ("DISABLED", "lib.off is off by default")


def test_json_is_written_whole_with_pid_and_rank(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("RANK", "3")
    report = Report([outcome(reason="why", rebound=("q:x",))], ["a problem"])
    path = report.save(str(tmp_path / "deep" / "r{rank}-{pid}.json"))
    assert path == str(tmp_path / "deep" / f"r3-{os.getpid()}.json")
    data = json.loads(Path(path).read_text())
    assert (data["format"], data["pid"], data["rank"]) == (1, os.getpid(), 3)
    assert data["problems"] == ["a problem"]
    assert data["outcomes"] == [report.outcomes[0].to_dict()]
    assert os.listdir(tmp_path / "deep") == [os.path.basename(path)]


def test_summary_is_silent_when_nothing_applied() -> None:
    quiet = [outcome(status=s) for s in (Status.PENDING, Status.DISABLED, Status.UNMET)]
    assert Report(quiet, []).summary() == []


def test_summary_names_patches_and_faults() -> None:
    outcomes = [outcome("x.one"), outcome("x.three", Status.MISSING, reason="m has no x")]
    assert Report(outcomes, []).summary() == [
        "mx_autopatch: 1 patch applied",
        "  x.one  replace m:x",
        "mx_autopatch: x.three: replace m:x: MISSING: m has no x",
    ]
    many = [outcome("x.many") for _ in range(4)]
    assert Report(many, []).summary()[1] == "  x.many  4 edits in m"
    assert Report(many, []).summary(detail=True)[1].count("replace m:x") == 4


def test_describe_says_what_stays_unpatched() -> None:
    text = describe(outcome(status=Status.LATE, unreachable=("closure of f",)))
    assert text == "a.b: replace m:x: LATE (still unpatched: closure of f)"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Run Python code with a plugin that patches ``lib.X``; returns the process."""
    (tmp_path / "lib.py").write_text("X = 1\n")
    (tmp_path / "plugin.py").write_text(
        "from mx_autopatch.model import *\nPATCHES = (Patch('lib.x', (Replace('lib:X', 2),)),)\n"
    )

    def start(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MX_AUTOPATCH")}
        environ.update(
            PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path)]),
            MX_AUTOPATCH="1",
            MX_AUTOPATCH_PLUGINS_MODULES="plugin",
            **environment,
        )
        code = "from mx_autopatch.bootstrap import start; start()\n" + code
        (tmp_path / "main.py").write_text(code)
        return subprocess.run(
            [sys.executable, "main.py"], env=environ, cwd=tmp_path, capture_output=True, text=True
        )

    return start


SUMMARY = "mx_autopatch: 1 patch applied\n  lib.x  replace lib:X\n"


def test_summary_at_exit(run: Any) -> None:
    done = run("import lib; print(lib.X)")
    assert (done.stdout, done.stderr) == ("2\n", SUMMARY)
    assert run("import lib", MX_AUTOPATCH_REPORT_LEVEL="silent").stderr == ""
    assert run("import json").stderr == ""


def test_rank_0_alone_prints(run: Any) -> None:
    assert run("import lib", RANK="0").stderr == SUMMARY
    assert run("import lib", RANK="1").stderr == ""


def test_children_do_not_print(run: Any) -> None:
    code = """
import subprocess, sys, lib
if len(sys.argv) == 1:
    print(subprocess.run([sys.executable, __file__, "child"], capture_output=True, text=True))
"""
    done = run(code)
    assert "stderr=''" in done.stdout
    assert done.stderr == SUMMARY


def test_every_process_writes_its_report(run: Any, tmp_path: Path) -> None:
    code = """
import subprocess, sys, lib
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "child"], check=True)
"""
    run(code, MX_AUTOPATCH_REPORT=str(tmp_path / "out" / "{pid}.json"))
    reports = [json.loads(path.read_text()) for path in (tmp_path / "out").iterdir()]
    assert len(reports) == 2
    for report in reports:
        found = {o["patch"]: o["status"] for o in report["outcomes"]}
        assert found["lib.x"] == "APPLIED"


def test_a_relative_path_is_that_of_the_start(run: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    run("import os, lib; os.chdir('elsewhere')", MX_AUTOPATCH_REPORT="report.json")
    assert (tmp_path / "report.json").exists()


def test_a_report_that_cannot_be_written_is_said_and_breaks_nothing(run: Any) -> None:
    done = run("import lib; print(lib.X)", MX_AUTOPATCH_REPORT="/dev/null/x.json")
    assert (done.returncode, done.stdout) == (0, "2\n")
    assert done.stderr.startswith("mx_autopatch: no report: ")
    assert len(done.stderr.splitlines()) == 1
