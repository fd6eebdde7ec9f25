"""``report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from said import Cli, words

from mx_autopatch.engine.report import FORMAT, Report
from mx_autopatch.model import Outcome, Status


def outcome(target: str, status: Status = Status.APPLIED, reason: str = "", **more: Any) -> Outcome:
    values = {"kind": "replace", "trigger": target.partition(":")[0], **more}
    return Outcome("mmcv.nms", target=target, status=status, reason=reason, **values)


def save(name: str, *outcomes: Outcome, **more: Any) -> Path:
    data = {**Report(list(outcomes), []).to_dict(), **more}
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def test_one_process(cli: Cli) -> None:
    applied = outcome("mmcv.ops:nms", rebound=("x:nms",))
    late = outcome("mmcv.ops:soft", Status.LATE, "late", unreachable=("a closure of f",))
    pending = outcome("mmcv.more", Status.PENDING, kind="", trigger="mmcv.more")
    said = cli("report", save("r.json", applied, late, pending))
    assert said.code == 0
    text = words(said.out)
    assert "patch edit target outcome reason mmcv.nms replace mmcv.ops:nms APPLIED" in text
    assert "replace mmcv.ops:soft LATE late (still unpatched: a closure of f)" in text
    assert "mmcv.more PENDING" in text
    assert text.endswith("1 process, nothing to look at")
    assert "rank" not in text


@pytest.mark.parametrize("status", [Status.FAILED, Status.MISSING, Status.CONFLICT])
def test_a_fault_is_exit_status_1(cli: Cli, status: Status) -> None:
    save("0.json", outcome("a:b"), rank=0)
    save("1.json", outcome("a:b", status, "why"), rank=1)
    said = cli("report", "0.json", "1.json")
    assert said.code == 1
    text = words(said.out)
    assert f"a:b APPLIED (rank 0) {status} (rank 1) why" in text
    assert "2 processes, 1 to look at" in text


def test_what_is_equal_is_counted(cli: Cli) -> None:
    for rank in range(12):
        status = Status.UNMET if rank in (3, 11) else Status.APPLIED
        save(f"r-{rank}.json", outcome("a:b"), outcome("a:c", status), rank=rank, pid=rank + 100)
    text = words(cli("report", "r-*.json").out)
    assert "a:b APPLIED x 12 replace" in text
    assert "a:c APPLIED x 10 (rank 0, 1, 2, 4, 5, 6, 7, 8, 9, 10) UNMET x 2 (rank 3, 11)" in text


def test_processes_of_one_rank_are_told_apart_by_pid(cli: Cli) -> None:
    save("a.json", outcome("a:b"), pid=71)
    save("b.json", outcome("a:b", Status.REVERTED), pid=72)
    assert "APPLIED (pid 71) REVERTED (pid 72)" in words(cli("report", "a.json", "b.json").out)


def test_a_process_that_never_imported_the_trigger(cli: Cli) -> None:
    """It has one PENDING for the trigger, not one for each edit."""
    save("0.json", outcome("a:b"), outcome("a:c"), rank=0)
    save("1.json", outcome("a", Status.PENDING, kind="", trigger="a"), rank=1)
    text = words(cli("report", ".").out)
    assert "a:b APPLIED (rank 0) PENDING (rank 1)" in text
    assert "a:c APPLIED (rank 0) PENDING (rank 1)" in text
    assert text.count("PENDING") == 2


def test_two_edits_of_one_target(cli: Cli) -> None:
    save("0.json", outcome("a:b"), outcome("a:b", Status.FAILED))
    assert words(cli("report", "0.json").out).count("a:b") == 2


def test_problems_come_once(cli: Cli) -> None:
    for rank in range(2):
        save(f"{rank}.json", outcome("a:b"), rank=rank, problems=["plugin [x]: no"])
    assert cli("report", "0.json", "1.json").out.count("problem: plugin [x]: no") == 1


def test_a_folder_and_a_file_in_it_count_once(cli: Cli) -> None:
    save("out/0.json", outcome("a:b"))
    assert "1 process" in cli("report", "out", "out/0.json", "out/*.json").out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere.json", None, "nowhere.json: cannot be read: No such file or directory"),
        ("*.none", None, "*.none: no file fits this pattern"),
        ("empty", ..., "empty: there is no .json file in this folder"),
        ("x.json", "{", "x.json: this is not a report: not JSON"),
        ("x.json", b"\xff", "x.json: this is not a report: not JSON"),
        ("x.json", "[]", "x.json: this is not a report of mx_autopatch"),
        ("x.json", "{}", "x.json: this is not a report of mx_autopatch"),
        ("x.json", '{"outcomes": [], "format": 99}', "format 99, not"),
        ("x.json", f'{{"outcomes": [], "format": {FORMAT}}}', "x.json: this report is damaged"),
        (
            "x.json",
            f'{{"outcomes": [1], "format": {FORMAT}, "rank": 0, "pid": 1, "problems": []}}',
            "x.json: this report is damaged",
        ),
    ],
)
def test_what_cannot_be_read(cli: Cli, name: str, content: Any, message: str) -> None:
    if content is ...:
        Path(name).mkdir()
    elif content is not None:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    said = cli("report", name)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("mx-autopatch: ")
    assert message in said.err
    assert "Traceback" not in said.err
