"""torch.transfer_to_npu on the real torch_npu over the soft device."""

from __future__ import annotations

import ast
import importlib
import json
import sys
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import environment, python

from mx_autopatch import bootstrap
from mx_autopatch.model import Status

torch = pytest.importorskip("torch")
torch_npu = pytest.importorskip("torch_npu")

NAME = "torch.transfer_to_npu"
HERE = Path(__file__).resolve().parent


@pytest.fixture
def patch_file() -> Any:
    """The patch's module, with everything imported that it compares."""
    file = importlib.import_module("mx_autopatch.patches.torch.transfer_to_npu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (*file.NEEDED, *file.ASSIGNED, *file.WRAPPED):
            importlib.import_module(name)
    return file


def modules() -> dict[str, Any]:
    return {n: m for n, m in sys.modules.items() if n.split(".")[0] in ("torch", "torch_npu")}


def owners() -> list[Any]:
    """Every module and class of torch and torch_npu.

    Found without the package's own comparison, as is what differs below.
    """
    found: list[Any] = [m for m in modules().values() if type(m) is types.ModuleType]
    seen = set(map(id, found))
    for owner in found:  # grows
        for value in list(vars(owner).values()):
            if issubclass(type(value), type) and id(value) not in seen:
                seen.add(id(value))
                found.append(value)
    return found


def state(of: list[Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """What their names stand for, and the content of lists, dictionaries and sets."""
    names: dict[Any, Any] = {}
    contents: dict[Any, Any] = {}
    for owner in of:
        for key, value in list(vars(owner).items()):
            if key not in ("__annotations__", "__warningregistry__"):
                names[owner, key] = value
                if type(value) in (list, dict, set):
                    content = value.items() if type(value) is dict else value
                    contents[owner, key] = list(content)
    return names, contents


def differing(before: dict[Any, Any], after: dict[Any, Any]) -> set[str]:
    missing, keys = object(), {*before, *after}
    different = [k for k in keys if before.get(k, missing) is not after.get(k, missing)]
    return {f"{owner.__name__}.{name}" for owner, name in different}


def changed_content(before: dict[Any, Any], after: dict[Any, Any]) -> set[str]:
    def ids(content: list[Any]) -> list[Any]:
        return [tuple(map(id, i)) if isinstance(i, tuple) else id(i) for i in content]

    found = [k for k in before.keys() & after.keys() if ids(before[k]) != ids(after[k])]
    return {f"{owner.__name__}.{name}" for owner, name in found}


def short(name: str) -> str:
    """``Tensor.cuda`` of ``torch.Tensor.cuda``: a class's own name says no module."""
    return ".".join(name.split(".")[-2:])


def test_all_it_changes_is_named_and_taken_back(engine: Any, patch_file: Any) -> None:
    everyone, loaded, filters = owners(), modules(), list(warnings.filters)
    names, contents = state(everyone)
    initialised = torch.npu.is_initialized()
    engine(patches__only=[NAME], device="soft")
    assert warnings.filters == filters
    assert torch.npu.is_initialized() is initialised
    first = bootstrap.report().of(NAME)[0]
    assert (first.target, first.status) == ("torch", Status.LATE)
    assert first.unreachable == first.rebound == ()
    count, *lines = first.reason.splitlines()
    named = [
        f"{owner}.{name}"
        for owner, _, listed in (line.partition(": ") for line in lines)
        for name in listed.split(", ")
    ]
    assert count.startswith(f"{len(named)} names of torch replaced; ")
    names_during, contents_during = state(everyone)
    truly = differing(names, names_during)
    assert len(truly) > 250
    assert set(map(short, truly)) == set(map(short, named))
    assert torch.cuda.Event is torch.npu.Event
    in_place = {f"{name}.{attribute}" for _, name, attribute in patch_file.CONTAINERS}
    in_place.add("torch.jit._builtins._builtin_table")  # ours
    if not initialised:
        in_place.add("torch_npu.npu._queued_calls")
    assert changed_content(contents, contents_during) == in_place
    assert modules().keys() - loaded.keys() == {patch_file.TRANSFER}

    bootstrap.deactivate()
    names_after, contents_after = state(everyone)
    assert differing(names, names_after) == set()
    assert changed_content(contents, contents_after) == set()
    assert modules() == loaded
    assert warnings.filters == filters
    assert torch.UntypedStorage(3).nbytes() == 3  # of which __new__ had been replaced
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(1).cuda()


def test_taken_back_with_what_others_put_round_it(engine: Any, patch_file: Any) -> None:
    everyone = owners()
    names, _ = state(everyone)
    others = ["torch.distributed_backend", "torch.device_capability"]
    engine(patches__only=[NAME, *others], device="soft")
    assert all(any(o.status.in_force for o in bootstrap.report().of(n)) for n in (NAME, *others))
    bootstrap.deactivate()
    assert differing(names, state(everyone)[0]) == set()


def test_what_was_put_off_is_all_that_it_assigns_there(patch_file: Any) -> None:
    # Read in its source: that no attribute of theirs is read, and which are assigned.
    spec = importlib.util.find_spec(patch_file.TRANSFER)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    for name in patch_file.ASSIGNED:
        uses = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(f"{name}.")
        ]
        assert uses, name
        assert all(isinstance(node.ctx, ast.Store) for node in uses), name


def test_options(engine: Any) -> None:
    option = torch_npu._C._npu_getOption
    torch_npu.npu.config.allow_internal_format = False
    values = {"allow_internal_format": True, "jit_script": False}
    engine(patches__only=[NAME], device="soft", patches__options={NAME: values})
    (reason, *_) = bootstrap.report().of(NAME)[0].reason.splitlines()
    assert reason.endswith("; allow_internal_format=True, jit_compile=False")
    assert option("ALLOW_INTERNAL_FORMAT") == b"enable"
    assert option("jitCompile") == b"disable"
    assert torch.jit.script(_plus_one) is _plus_one
    bootstrap.deactivate()
    assert option("ALLOW_INTERNAL_FORMAT") == b"disable"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert torch.jit.script(_plus_one) is not _plus_one


def _plus_one(x):  # type: ignore[no-untyped-def]
    return x + 1


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("cpu", "requires the device npu, this run is for cpu"),
        (
            "contract",
            "on the device 'contract' there is none, which .cuda() and autocast initialise",
        ),
    ],
)
def test_only_where_there_is_an_npu(engine: Any, device: str, reason: str) -> None:
    engine(patches__only=[NAME], device=device)
    first = bootstrap.report().of(NAME)[0]
    assert (first.status, first.reason) == (Status.UNMET, reason)


def test_scripts_written_for_cuda_and_every_order_of_imports(tmp_path: Path) -> None:
    soft = environment(active=True, MX_AUTOPATCH_DEVICE="soft", OMP_NUM_THREADS="1")
    looks = "import torch; print(torch.ones(1).cuda().device, torch.cuda.is_available())"
    runs: dict[str, Any] = {
        "semantics": ([HERE / "written_for_cuda.py"], soft),
        "torch_npu first": (["-c", f"import torch_npu; {looks}"], soft),
        "no autoload": (["-c", looks], {**soft, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}),
    }
    with ThreadPoolExecutor(2) as pool:
        started = {
            name: pool.submit(python, *args, cwd=tmp_path, env=env, warnings=False, timeout=200)
            for name, (args, env) in runs.items()
        }
        done = {name: run.result() for name, run in started.items()}
    assert done["torch_npu first"].stdout == done["no autoload"].stdout == "npu:0 True\n"
    for run in done.values():
        assert "transfer_to_npu" not in run.stderr
        assert "****" not in run.stderr
    seen = json.loads(done["semantics"].stdout.splitlines()[-1])
    assert "once Warning" not in seen["filters"]
    source = (HERE / "written_for_cuda.py").read_text()
    assert len(seen["held"]) == source.count("\n@holds\n") > 15
