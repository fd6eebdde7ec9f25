"""``rehearse`` as far as no NPU is needed; tests/softnpu runs scripts by it."""

from __future__ import annotations

import importlib.util
import io
from typing import Any

import pytest
from said import Cli

from mx_autopatch.cli import app, rehearse, rehearsed
from mx_autopatch.cli.plan import Given

has_torch_npu = importlib.util.find_spec("torch_npu") is not None


@pytest.fixture
def finishing(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be done at exit; the device is taken for granted."""
    registered: list[Any] = []
    monkeypatch.setattr(rehearse.atexit, "register", registered.append)
    monkeypatch.setattr(rehearse, "_check", lambda device: None)
    return registered


@pytest.mark.parametrize(
    ("args", "target", "rest", "module", "overrides"),
    [
        (["rehearse", "x.py"], "x.py", (), False, {"device": "soft"}),
        (["rehearse", "x.py", "--json", "-m"], "x.py", ("--json", "-m"), False, {"device": "soft"}),
        (["rehearse", "-m", "mod", "a"], "mod", ("a",), True, {"device": "soft"}),
        (["rehearse", "--top", "3", "--", "--x"], "--x", (), False, {"device": "soft"}),
        (["rehearse", "--device", "npu", "x"], "x", (), False, {"device": "npu"}),
        (["--device", "npu", "rehearse", "x"], "x", (), False, {"device": "npu"}),
        (["--device", "npu", "rehearse", "--device", "soft", "x"], *("x", (), False),
         {"device": "soft"}),
        (["--strict", "--config", "c", "rehearse", "x"], *("x", (), False),
         {"device": "soft", "strict": True}),
        (["--only", "mmcv.ext", "rehearse", "x"], *("x", (), False),
         {"device": "soft", "patches.only": ["mmcv.ext", "rehearse.recorder"]}),
    ],
)  # fmt: skip
def test_it_makes_a_run(
    cli: Cli,
    finishing: list[Any],
    args: list[str],
    target: str,
    rest: tuple[str, ...],
    module: bool,
    overrides: dict[str, Any],
) -> None:
    plan = app.parse(args)
    config = "c" if "--config" in args else None
    assert plan[:4] == (target, rest, module, Given(config, overrides))
    assert [patch.name for patch in plan.patches] == ["rehearse.recorder"]
    assert len(finishing) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["rehearse"], "Missing argument 'SCRIPT'"),
        (["rehearse", "--device", "cpu", "x.py"], "'cpu' is not one of 'soft', 'npu'"),
        (["--device", "cuda", "rehearse", "x.py"], "--device cuda: expected soft or npu"),
        (["rehearse", "--top", "-1", "x.py"], "-1 is not in the range"),
    ],
)
def test_mistakes(cli: Cli, args: list[str], message: str) -> None:
    said = cli(*args)
    assert (said.code, said.out) == (2, "")
    assert message in said.err


@pytest.mark.skipif(has_torch_npu, reason="torch-npu is installed")
def test_without_torch_npu_it_says_what_to_install(cli: Cli) -> None:
    said = cli("rehearse", "x.py")
    assert (said.code, said.out) == (2, "")
    assert "pip install torch-npu==<version of torch>" in said.err
    said = cli("rehearse", "--device", "npu", "x.py")
    assert said.code == 2
    assert "torch-npu is not installed: pip install torch-npu" in said.err


@pytest.mark.skipif(not has_torch_npu, reason="torch-npu is not installed")
def test_a_real_npu_that_is_not_there(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mx_autopatch.device.has_cann", lambda: False)
    said = cli("rehearse", "--device", "npu", "x.py")
    assert (said.code, said.out) == (2, "")
    assert "CANN cannot be loaded" in said.err
    assert "--device soft" in said.err


# -- the text -----------------------------------------------------------------------


def place(file: str, line: int, source: str = "x.item()", **more: Any) -> dict[str, Any]:
    named = {"file": file, "line": line, "function": "f", "source": source}
    where = {"own": False, "called_from": None, "through": None, "backward": False}
    return {**named, **where, **more}


def found(**more: Any) -> dict[str, Any]:
    lists = ("operators", "waits", "copies", "casts", "computed", "refused", "failed")
    return {
        **{name: [] for name in lists},
        "argv": ["train.py", "--x"],
        "device": "soft",
        "versions": {"python": "3.11", "torch": "2.13.0", "torch_npu": "2.13.0"},
        "recorded": True,
        "ended_by": None,
        "patches": [],
        "problems": [],
        **more,
    }


def shown(top: int = 15, **more: Any) -> str:
    file = io.StringIO()
    rehearsed.show(found(**more), file, top)
    return file.getvalue().rstrip("\n")


def test_operators_with_what_needs_attention_first() -> None:
    operators = [
        {"name": "aten::add.Tensor", "count": 9, "where": "native"},
        {"name": "aten::sub.Tensor", "count": 5, "where": "native"},
        {"name": "aten::mode", "count": 1, "where": "cpu"},
        {"name": "npu::npu_ifmr", "count": 2, "where": "refused"},
    ]
    text = shown(top=3, operators=operators)
    assert "operators: 2 with a kernel of torch_npu (called 14 times)" in text
    assert "1 computed on the CPU for want of one (called once)" in text
    assert "1 refused by the soft NPU (called 2 times)" in text
    lines = text.splitlines()
    start = lines.index("count  operator          runs on")
    assert [line.split()[1] for line in lines[start + 1 : start + 4]] == [
        *("aten::mode", "npu::npu_ifmr", "aten::add.Tensor")
    ]
    assert "and 1 more (--top 0 shows all)" in text
    assert "nothing here is about speed" in text


def test_lines_and_who_called_them() -> None:
    main = {"file": "/p/train.py", "line": 7, "function": "main", "source": "run()"}
    other = {**main, "line": 9}
    library = "/v/site-packages/mmdet/models/loss.py"
    waits = [
        {"what": "nonzero", "count": 4, **place(library, 3, "m.nonzero()", called_from=main)},
        {"what": "item", "count": 1, **place("/p/train.py", 5, own=True)},
    ]
    text = shown(waits=waits)
    assert "the host waits for the device: 5 times, by 2 lines (* is your own)" in text
    assert "the libraries' lines all come from * /p/train.py:7" in text
    assert "4      nonzero    mmdet/models/loss.py:3\n" in text
    assert "1      item     * /p/train.py:5\n" in text
    assert "m.nonzero()" in text
    waits.append({"what": "nonzero", "count": 2, **place(library, 3, called_from=other)})
    waits.append({"what": "equal", "count": 1, **place(library, 8, called_from=other)})
    text = shown(waits=waits)
    assert "6      nonzero    mmdet/models/loss.py:3  from * train.py:7" in text  # as one
    assert "mmdet/models/loss.py:8  from * train.py:9" in text


def test_the_rest_of_the_text() -> None:
    text = shown(
        copies=[{"count": 2, "bytes": 1234567, "blocking": 2, **place("a.py", 1)}],
        computed=[
            {"dtype": "float64", "count": 5, "operators": {f"aten::{n}": 1 for n in "abcde"},
             **place("a.py", 2, backward=True)},
        ],
        casts=[{"what": "float32 to float64", "count": 1, **place("a.py", 3)}],
        refused=[{"name": "npu::x", "count": 1, "message": "no x\nmore", **place("a.py", 4)}],
        patches=[
            {"patch": "mmcv.ext", "target": "t", "status": "APPLIED", "reason": ""},
            {"patch": "mmcv.nms", "target": "m:f", "status": "MISSING", "reason": "gone"},
        ],
        problems=["plugin x: no"],
        ended_by="ValueError: no",
    )  # fmt: skip
    for part in (
        "1,234,567",
        "a, b, c and 2 more",
        "a.py:2 (in the backward pass that it starts)",
        "float32 to float64",
        "1      npu::x      a.py:4\n",
        "\nno x\n",
        "patches applied, with their edits: mmcv.ext (1)",
        "mmcv.nms: m:f: MISSING: gone",
        "problem: plugin x: no",
        "ended by ValueError: no",
    ):
        assert part in text + "\n"


def test_where_nothing_was_recorded() -> None:
    assert "the script did not import torch" in shown(recorded=False)
    off = {"patch": "rehearse.recorder", "target": "torch_npu", "status": "DISABLED"}
    text = shown(recorded=False, patches=[{**off, "reason": "patches.only does not name it"}])
    assert "nothing was recorded: DISABLED: patches.only does not name it" in text
