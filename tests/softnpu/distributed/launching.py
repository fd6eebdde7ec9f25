"""Starts ranks, each with a soft NPU of its own, and hears what they found.

A script of ranks has functions named ``check_…``. Every rank runs all of them, in order,
and writes down what became of each; a test function then looks at one of them.
"""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from helpers import environment  # noqa: E402

_RESULTS = "RANKS_RESULTS"


def names_of_checks(script: str) -> list[str]:
    """The names of a script's checks, read from its source."""
    tree = ast.parse((HERE / script).read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [name for name in functions if name.startswith("check_")]


def ranks_environment(ranks: int, **more: str) -> dict[str, str]:
    """For processes that are to have ``ranks`` soft NPUs."""
    settings = {
        "MX_AUTOPATCH_DEVICE": "soft",
        "MX_AUTOPATCH_SOFT_DEVICES": str(ranks),
        "MX_AUTOPATCH_PATCHES_ONLY": "torch.soft_npu",
        "OMP_NUM_THREADS": "1",
    }
    return environment([HERE], active=True, **{**settings, **more})


def free_port() -> int:
    """A port for the ranks to meet at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def finished(
    command: list[str], folder: Path, env: dict[str, str], timeout: float = 100
) -> tuple[int, str]:
    """Run a command to its end, or end it and all that it has started.

    Returns:
        The exit status, and what all of them wrote.
    """
    process = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun, which gives its ranks sessions of their own, ends them
        try:
            said, _ = process.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
        said = f"not finished within {timeout} s\n{said}"
    return process.returncode, said


def torchrun(
    script: Path, ranks: int, folder: Path, timeout: float = 100, **env: str
) -> dict[str, list[str]]:
    """Run a script of checks under torchrun.

    Returns:
        check -> what each rank says of it: ``ok``, or how it failed.
    """
    code, said = finished(
        [
            *(sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"),
            *(f"--master-port={free_port()}", str(script)),
        ],
        folder,
        ranks_environment(ranks, **{_RESULTS: str(folder), **env}),
        timeout,
    )
    files = sorted(folder.glob("rank*.json"))
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    assert len(results) == ranks, said
    names = {name for result in results for name in result}
    if code != 0 and all(r[n] == "ok" for r in results for n in r):
        raise AssertionError(said)
    return {name: [result.get(name, said) for result in results] for name in names}


def run_checks(namespace: Mapping[str, Any], rank: int, names: Iterable[str] = ()) -> None:
    """Run the checks of a script and write down what became of them."""
    chosen = list(names) or [name for name in namespace if name.startswith("check_")]
    path = Path(os.environ[_RESULTS]) / f"rank{rank}.json"
    results: dict[str, str] = {}
    for name in chosen:
        try:
            namespace[name]()
            results[name] = "ok"
        except BaseException:  # pytest.fail raises no Exception
            results[name] = traceback.format_exc()
        path.write_text(json.dumps(results), encoding="utf-8")
