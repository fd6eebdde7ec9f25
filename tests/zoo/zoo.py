"""Build, train and predict with one config of every architecture of mmdet, mmseg and mmdet3d.

    python -m mx_autopatch tests/zoo/zoo.py [--only PART ...] [--jobs N] [--seconds LIMIT]

The table says for each config how many seconds each part took, or the line of its error. Ends
with status 1 if anything fails that ``known.py`` does not list, or passes that it lists.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import configs
from known import known
from trial import DATA, Result, folder_of_configs, run

HERE = Path(__file__).resolve().parent

CASES = {
    "mmdet": configs.DETECTION,
    "mmseg": configs.SEGMENTATION,
    "mmdet3d": configs.DETECTION_3D,
}
#: Folders that hold parts of configs, and no model.
NOT_MODELS = {"_base_", "common", "__pycache__"}


def missing_folders(library: str) -> list[str]:
    """Folders of the installed library that have configs and none in the zoo."""
    have = {name.partition("/")[0] for name in CASES[library]} | NOT_MODELS
    folders = (entry for entry in folder_of_configs(library).iterdir() if entry.is_dir())
    return sorted(f.name for f in folders if f.name not in have and any(f.rglob("*.py")))


def trials(cases: list[tuple[str, str]], jobs: int, seconds: float) -> Iterator[Result]:
    """Results as they come, each from a fork of this process, which has imported it all."""
    waiting, running = list(reversed(cases)), {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                library, config = waiting.pop()
                pid, pipe = _fork(library, config)
                running[pipe] = (pid, Result(library, config), time.monotonic() + seconds)
            ready, _, _ = select.select(list(running), [], [], 1)
            for pipe, (pid, blank, end) in list(running.items()):
                if pipe not in ready and time.monotonic() < end:
                    continue
                if pipe not in ready:
                    os.kill(pid, signal.SIGKILL)
                with os.fdopen(pipe, "rb") as stream:
                    said = stream.read()
                del running[pipe]
                _, status = os.waitpid(pid, 0)
                yield _result(said, blank, status, pipe in ready, seconds)
    finally:
        for pid, _, _ in running.values():
            os.kill(pid, signal.SIGKILL)


def _result(said: bytes, blank: Result, status: int, in_time: bool, seconds: float) -> Result:
    try:
        return Result(**json.loads(said))
    except ValueError:
        why = f"ended with status {status}" if in_time else f"more than {seconds:.0f} s"
        blank.cause = why
        return blank


def _fork(library: str, config: str) -> tuple[int, int]:
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.close(reader)
    # What models print is not ours; the errors of this process are.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if not os.environ.get("ZOO_VERBOSE"):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        said = json.dumps(run(library, config).as_dict()).encode()
        with os.fdopen(writer, "wb") as stream:
            stream.write(said)
    except BaseException:
        traceback.print_exc()
    os._exit(0)


def judge(result: Result) -> str:
    """``ok``, ``known``, or what is wrong."""
    entry = known(result.library, result.config)
    if result.stage == "all":
        return "PASSES, but is listed as known not to" if entry else "ok"
    if entry and entry.stage == result.stage and entry.cause in result.cause:
        return "known"
    return "FAILED"


def line(result: Result, verdict: str) -> str:
    """A line of the table."""
    parts = []
    for stage in ("build", "loss", "predict"):
        if stage in result.done:
            parts.append(f"{result.done[stage]:6.1f}")
        else:
            parts.append("  fail" if stage == result.stage else "     -")
    name = f"{result.library}/{result.config[:-3]}"
    text = f"{name[:78]:78} {' '.join(parts)}  {verdict}"
    entry = known(result.library, result.config)
    if entry and verdict == "known":
        return f"{text}: {entry.reason}"
    return f"{text}  {result.cause}".rstrip()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], help="parts of 'library/folder/config'")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=180, help="for one config")
    options = parser.parse_args()
    cases = [
        (library, config)
        for library, names in CASES.items()
        for config in names
        if not options.only or any(part in f"{library}/{config}" for part in options.only)
    ]
    warnings.simplefilter("ignore")
    sys.path.append(str(HERE / "stand_ins"))  # the last, so that what is installed is first
    import torch

    torch.set_num_threads(1)  # a thread pool would not survive the fork
    for library in dict.fromkeys(library for library, _ in cases):
        importlib.import_module(f"{library}.models")
        importlib.import_module(DATA[library])

    start = time.monotonic()
    print(f"{'seconds for':78}  build   loss   pred")
    counts: dict[str, int] = {}
    for result in trials(cases, options.jobs, options.seconds):
        verdict = judge(result)
        counts[verdict] = counts.get(verdict, 0) + 1
        print(line(result, verdict), flush=True)
    wrong = sum(count for verdict, count in counts.items() if verdict not in ("ok", "known"))
    if not options.only:
        for library in CASES:
            for folder in missing_folders(library) if library != "mmdet3d" else ():
                wrong += 1
                print(f"{library}/{folder}: a folder of configs, and none of them in the zoo")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(
        f"{len(cases)} configs: {counts.get('ok', 0)} ok, {counts.get('known', 0)} known not to"
        f" pass, {wrong} wrong; {time.monotonic() - start:.0f} s, at most {memory:.1f} GB each"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
