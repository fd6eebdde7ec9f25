"""A training of two ranks with two workers each, stopped: what is left of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from launching import HERE, finished, free_port, ranks_environment

STEP = 5


def processes_of(mark: str) -> list[str]:
    """The command lines of all processes whose environment has ``mark``."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:  # not a process, not ours to read, or over
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("how", "end"),
    [("mmengine", "after_run"), ("loop", "finally")],
    ids=["mmengine, spawned workers", "a loop, forked workers"],
)
def test_no_process_is_left(tmp_path: Path, how: str, end: str) -> None:
    mark = f"BRAKE_TEST={tmp_path}"
    env = ranks_environment(2, MX_AUTOPATCH_BRAKE=str(STEP), BRAKE_TEST=str(tmp_path))
    del env["MX_AUTOPATCH_PATCHES_ONLY"]
    if how == "loop":  # two steps before a cycle of three
        env.update(MX_AUTOPATCH_PROFILE=str(tmp_path / "traces"), MX_AUTOPATCH_PROFILE_LEVEL="1")
        env["MX_AUTOPATCH_PROFILE_SKIP_FIRST"] = str(STEP - 3)
    launch = ("torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}")
    script = (str(HERE / "braked.py"), str(tmp_path), how)
    code, said = finished([sys.executable, "-m", *launch, *script], tmp_path, env)
    assert code == 0, said
    assert processes_of(mark) == []
    workers = {int(path.name[6:]) for path in tmp_path.glob("worker*")}
    assert len(workers) == 4
    assert not workers & {int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal()}

    ends = [json.loads((tmp_path / f"{end}{rank}.json").read_text()) for rank in range(2)]
    assert [one["iter"] for one in ends] == [STEP, STEP]
    assert [one["device"] for one in ends] == ["npu", "npu"]
    assert ends[0]["weight"] == ends[1]["weight"]
    assert not list(tmp_path.glob("beyond*")), "what follows the training was run"
    assert not list(tmp_path.glob("swallowed*"))
    assert said.count(f"mx_autopatch: stopped after step {STEP}") == 1  # rank 0 says so
    for trouble in ("Traceback", "destroy_process_group", "Error"):
        assert trouble not in said, said
    if how == "loop":
        check_traces(tmp_path / "traces")


def check_traces(folder: Path) -> None:
    """One of each rank, of the last step alone."""
    traces = sorted(folder.iterdir())
    assert [path.name.partition("_")[0] for path in traces] == ["rank0", "rank1"]
    for trace in traces:
        content = json.loads((trace / "ASCEND_PROFILER_OUTPUT" / "trace_view.json").read_text())
        names = {event["name"] for event in content}
        assert {name for name in names if name.startswith("iter")} == {f"iteration {STEP}"}
