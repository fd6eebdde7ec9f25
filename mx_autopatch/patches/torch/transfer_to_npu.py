"""torch.cuda means torch.npu: torch_npu's own transfer_to_npu, enabled for the script.

Why: a script written for CUDA says ``.cuda()``, ``"cuda:0"``, ``torch.cuda.amp``, ``nccl``.
     58 of 61 published migrations begin with the two imports that this patch makes.
How: once torch and torch_npu have executed, torch_npu.contrib.transfer_to_npu is imported,
     and the internal formats and the compilation of operators are switched off, as 29 and
     23 of those migrations do, unless the options say otherwise. Beyond that:
     - what transfer_to_npu replaces is found by comparing torch before and after, is named
       in the report, and is taken back on revert;
     - torch.jit.script stays, where transfer_to_npu makes it return its argument. What is
       wrapped (torch.zeros ...) keeps its place among TorchScript's builtins, or nothing
       that calls it would compile. A ``cuda`` inside a scripted function is not replaced.
       With the option ``jit_script = false`` it is as transfer_to_npu leaves it;
     - ``.cuda("cuda:0")``, ``.cuda(torch.device(...))``, ``.type("torch.cuda.FloatTensor")``
       and DataParallel work as well, and torch.load("runs/cuda/last.pth") opens that file,
       not runs/npu/last.pth;
     - its banners are not printed, and the warnings filters are as before;
     - the device is not initialised, so a forked process may use it: torch_npu keeps the
       settings until it is;
     - modules of torch.compile and of the extension builder, which take longer to import
       than all the rest, are changed when the script imports them.
     On revert a setting goes back to what it was, if torch_npu had a value for it.
Upstream: torch_npu.contrib.transfer_to_npu, torch_npu 2.1 - 2.13.
Remove when: never; it is torch_npu's own way.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Callable

from mx_autopatch.model import Call, Context, NotNeeded, Patch

TRANSFER = "torch_npu.contrib.transfer_to_npu"

#: What transfer_to_npu imports and changes: imported before the comparison begins, since
#: a new module cannot be compared with what it was.
NEEDED = (
    *("torch.utils._device", "torch.utils._triton", "torch.autograd.profiler_util"),
    "torch.distributed.checkpoint.filesystem",
    "torch.distributed.fsdp.fully_sharded_data_parallel",
    "torch.distributed.pipelining.stage",
    *("torch._dynamo.trace_rules", "torch._dynamo.utils", "torch.jit._builtins"),
    *("torch._inductor.fx_passes", "torch._inductor.runtime.autotune_cache"),
    *("torch._inductor.utils", "torch_npu.contrib", "torch_npu.utils._dynamo"),
)

#: The same, put off until the script imports it: what it only assigns to, and then the
#: functions that it wraps.
ASSIGNED = (
    *("torch._inductor.autotune_process", "torch._inductor.compile_fx"),
    *("torch._inductor.fx_passes.joint_graph", "torch._inductor.fx_passes.post_grad"),
)
WRAPPED = {"torch.utils.cpp_extension": ("include_paths",)}

#: What it changes in place.
CONTAINERS = (
    ("torch.nn.parameter", "UninitializedTensorMixin", "_allowed_methods"),
    ("torch.distributed.distributed_c10d", "Backend", "default_device_backend_map"),
)

#: Option of the patch -> its name in torch_npu.
OPTIONS = {"allow_internal_format": "ALLOW_INTERNAL_FORMAT", "jit_compile": "jitCompile"}

Undo = Callable[[], None]

# Module that was put off -> what it is to be given.
_later: dict[str, dict[str, Any]] = {}


def _transfer(context: Context) -> tuple[str, Undo]:
    """Enable it; the reason says how much was changed, and then names everything."""
    from mx_autopatch.patches.comparison import listed

    _wait_for_other(context.module.__name__)
    if context.config.device == "contract":
        raise NotNeeded(
            "on the device 'contract' there is none, which .cuda() and autocast initialise"
        )
    try:
        import torch_npu
    except ImportError as error:
        raise NotNeeded(f"requires torch_npu, which cannot be imported: {error}") from error
    if TRANSFER in sys.modules:
        raise NotNeeded(f"{TRANSFER} has been imported already")
    jit_script = bool(context.options["jit_script"])
    try:
        changes, undo = _enable(jit_script, later=(*ASSIGNED, *WRAPPED))
    except AttributeError:  # a version that also reads what those that we know assign to
        changes, undo = _enable(jit_script, later=())
    values, reset = _set_options(torch_npu, context.options)

    def end() -> None:
        reset()
        undo()

    return f"{len(changes)} names of torch replaced; {values}\n{listed(changes)}", end


def _wait_for_other(executed: str) -> None:
    """Whichever of torch and torch_npu comes first imports the other before its own end."""
    name = "torch_npu" if executed == "torch" else "torch"
    if getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False):
        raise NotNeeded(f"{name} has not executed to its end yet: done when it has")


def _enable(jit_script: bool, later: Iterable[str]) -> tuple[list[Any], Undo]:
    """Import transfer_to_npu; return what that changed, and what takes it all back."""
    import torch

    from mx_autopatch.patches.comparison import Change, Names
    from mx_autopatch.patches.transfer_gaps import complete

    # Recorded as well, since transfer_to_npu changes the filters before it speaks.
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        for name in NEEDED:
            with contextlib.suppress(ImportError):  # not in this version of torch
                importlib.import_module(name)
        before, containers = Names(("torch", "torch_npu")), list(_containers())
        contents = [container.copy() for container in containers]
        generators = torch.cuda.default_generators
        changes: list[Change] = []
        ends: list[Undo] = []

        def undo() -> None:
            _later.clear()
            for end in ends:
                end()
            for change in reversed(changes):
                change.take_back()
            sys.modules.update(before.modules_replaced())
            for container, content in zip(containers, contents):
                container.clear()
                (container.update if isinstance(container, dict) else container.extend)(content)
            # What it does once the device is initialised: still to be done, or done.
            waiting = sys.modules["torch_npu"].npu._queued_calls
            waiting[:] = [call for call in waiting if _home(call[0]) != TRANSFER]
            torch.cuda.default_generators = generators
            sys.modules.pop(TRANSFER, None)

        builtins = _builtins() if jit_script else {}
        try:
            with _put_off(later):
                complete(torch, importlib.import_module(TRANSFER))
            if jit_script:
                _give_script_back(torch)
        except BaseException:
            changes += before.changes()
            undo()
            raise
        changes += before.changes()
    ends.append(_add_builtins(builtins, changes))
    return changes, undo


def _home(function: Any) -> str:
    return getattr(function, "__module__", "")


def _containers() -> Iterator[Any]:
    for module, name, attribute in CONTAINERS:
        container = getattr(getattr(sys.modules.get(module), name, None), attribute, None)
        if container is not None:
            yield container


@contextlib.contextmanager
def _put_off(names: Iterable[str]) -> Iterator[None]:
    """Empty modules in place of those that are not loaded; what they are given is noted."""
    modules = {name: types.ModuleType(name) for name in names if name not in sys.modules}
    own = set(vars(types.ModuleType("")))
    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        sys.modules[name] = module
        setattr(sys.modules[parent], last, module)
    try:
        yield
    finally:
        for name, module in modules.items():
            parent, _, last = name.rpartition(".")
            del sys.modules[name]
            delattr(sys.modules[parent], last)
            _later[name] = {key: v for key, v in vars(module).items() if key not in own}


def _give(context: Context) -> str:
    """Change a module that was put off, now that the script has imported it."""
    module = context.module
    given = _later.get(module.__name__)
    if given is None:
        raise NotNeeded("transfer_to_npu is not in force, or changed this with the rest")
    given = dict(given)
    for name in WRAPPED.get(module.__name__, ()):
        given[name] = sys.modules[TRANSFER]._wrapper_cuda(getattr(module, name))
    for name, value in given.items():
        setattr(module, name, value)
    return ", ".join(given)


def _give_script_back(torch: Any) -> None:
    script = importlib.import_module("torch.jit._script")
    for name in ("script", "script_method"):
        if _home(getattr(torch.jit, name)) == TRANSFER:
            setattr(torch.jit, name, getattr(script, name))


def _builtins() -> dict[int, str]:
    """TorchScript's table: id of a function -> operator. Made when it is first asked for."""
    table: dict[int, str] = importlib.import_module("torch.jit._builtins")._get_builtin_table()
    return table


def _add_builtins(table: dict[int, str], changes: Iterable[Any]) -> Undo:
    """Enter each wrapper under the operator of what it wraps."""
    added = {id(c.now): table[id(c.was)] for c in changes if id(c.was) in table}
    table.update(added)

    def forget() -> None:
        for key in added:
            table.pop(key, None)

    return forget


def _set_options(torch_npu: Any, options: Any) -> tuple[str, Undo]:
    """Set torch_npu's options by ours; the result says which, and sets the earlier values."""
    wanted = {name: "enable" if options[option] else "disable" for option, name in OPTIONS.items()}
    former = {name: (torch_npu._C._npu_getOption(name) or b"").decode() for name in wanted}
    torch_npu.npu.config.allow_internal_format = bool(options["allow_internal_format"])
    torch_npu.npu.set_compile_mode(jit_compile=bool(options["jit_compile"]))

    def reset() -> None:
        torch_npu._C._npu_setOption({name: value for name, value in former.items() if value})

    return ", ".join(f"{option}={bool(options[option])}" for option in OPTIONS), reset


PATCHES = (
    Patch(
        name="torch.transfer_to_npu",
        edits=(
            # What other modules hold of torch stays as it is, as with transfer_to_npu.
            Call("torch", _transfer, copies=False),
            Call("torch_npu", _transfer, copies=False),
            *(Call(name, _give, copies=False) for name in (*ASSIGNED, *WRAPPED)),
        ),
        requires=("device:npu",),
        options={"allow_internal_format": False, "jit_compile": False, "jit_script": True},
    ),
)
