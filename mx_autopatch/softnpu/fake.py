"""Calls a function on fake tensors of the device npu, and notes what torch_npu says."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch._ops import OpOverload, OpOverloadPacket
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from mx_autopatch.softnpu import runtime
from mx_autopatch.softnpu.contract import ContractResult, OperatorCall, TensorSpec
from mx_autopatch.softnpu.operators import has_meta, name_of, where

__all__ = ["run"]

_VALUES = (fake_tensor.DataDependentOutputException, fake_tensor.DynamicOutputShapeException)


def run(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    backward: bool,
) -> ContractResult:
    """See ``contract.check``; torch_npu has been imported."""
    if runtime.is_loaded():
        runtime.show_one()  # autograd asks it for its stream, fake tensors or not
    notes = _Notes()
    output, error = None, None
    with ExitStack() as stack:
        stack.enter_context(_silent())
        # One that is real belongs to the function, and is where it is.
        mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        # The engine has threads for the devices that there were at its first use.
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(_faked(_modules(function, args, kwargs), mode))
        given, named = tree_map(functools.partial(_fake, mode), (list(args), dict(kwargs)))
        stack.enter_context(_Packets(notes))
        stack.enter_context(_Overloads(notes))
        try:
            result = function(*given, **named)
            if backward:
                _differentiate(result)
            output = tree_map(_spec, result)
        except Exception as raised:
            error = raised.with_traceback(None)  # whose frames hold the fake tensors
    return ContractResult(tuple(notes.calls.values()), output, error)


@contextmanager
def _silent() -> Iterator[None]:
    """Without torch's log of the errors of meta functions, which are in the result."""
    former, fake_tensor.log.disabled = fake_tensor.log.disabled, True
    try:
        yield
    finally:
        fake_tensor.log.disabled = former


def _differentiate(result: Any) -> None:
    results = [t for t in tree_iter(result) if isinstance(t, torch.Tensor) and t.requires_grad]
    if not results:
        raise ValueError("backward: no result of the function requires a gradient")
    torch.autograd.backward([t.sum() for t in results])


# -- fake tensors --------------------------------------------------------------------


def _fake(mode: FakeTensorMode, value: Any) -> Any:
    """The fake npu tensor that a tensor stands for; what has ``to`` is moved."""
    if isinstance(value, torch.Tensor):
        if isinstance(value, FakeTensor) and value.fake_mode is not mode:
            raise TypeError("a fake tensor of another mode: give a real one, or one on 'meta'")
        made = torch.empty_strided(
            tuple(value.shape), _strides(value), dtype=value.dtype, device="npu"
        )
        made.requires_grad_(value.requires_grad)
        return torch.nn.Parameter(made, value.requires_grad) if _is_parameter(value) else made
    if isinstance(value, torch.nn.Module) or inspect.isclass(value):
        return value
    move = getattr(value, "to", None)
    return move("npu") if callable(move) else value


def _strides(tensor: torch.Tensor) -> tuple[int, ...]:
    if tensor.layout is not torch.strided:
        raise TypeError(f"a tensor of layout {tensor.layout}: only strided ones can be faked")
    return tuple(tensor.stride())


def _is_parameter(value: torch.Tensor) -> bool:
    return isinstance(value, torch.nn.Parameter)


def _spec(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    dtype = str(value.dtype).partition(".")[2]
    return TensorSpec(tuple(int(n) for n in value.shape), dtype, str(value.device))


def _modules(
    function: Any, args: Iterable[Any], kwargs: Mapping[str, Any]
) -> list[torch.nn.Module]:
    """The modules that the call will use, as far as one can see."""
    found: list[torch.nn.Module] = []
    todo = [function, *tree_iter((list(args), dict(kwargs)))]
    seen: dict[int, Any] = {}  # and kept, so that no id comes twice
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, torch.nn.Module):
            found.append(value)
        elif isinstance(value, functools.partial):
            todo += [value.func, *value.args, *value.keywords.values()]
        elif inspect.ismethod(value):
            held = getattr(value.__self__, "__dict__", {}).values()
            todo += [value.__self__, value.__func__]
            todo += [each for each in held if isinstance(each, torch.nn.Module)]
        elif inspect.isfunction(value):
            variables = inspect.getclosurevars(value)
            todo += [v for v in variables.nonlocals.values() if _leads_on(v)]
            todo += [v for v in variables.globals.values() if isinstance(v, torch.nn.Module)]
    return found


def _leads_on(value: Any) -> bool:
    return callable(value) or isinstance(value, torch.nn.Module)


@contextmanager
def _faked(modules: Iterable[torch.nn.Module], mode: FakeTensorMode) -> Iterator[None]:
    """Give the modules fake parameters and buffers; shared ones stay shared."""
    made: dict[int, Any] = {}
    former: list[tuple[dict[str, Any], dict[str, Any]]] = []
    try:
        for module in dict.fromkeys(each for top in modules for each in top.modules()):
            for tensors in (module._parameters, module._buffers):
                former.append((tensors, dict(tensors)))
                for name, tensor in tensors.items():
                    if tensor is not None:
                        if id(tensor) not in made:
                            made[id(tensor)] = _fake(mode, tensor)
                        tensors[name] = made[id(tensor)]
        yield
    finally:
        for tensors, content in reversed(former):
            tensors.clear()
            tensors.update(content)


# -- what is said to the calls -------------------------------------------------------


class _Notes:
    """The calls so far."""

    def __init__(self) -> None:
        #: (operator, what refused it, error) -> entry.
        self.calls: dict[tuple[str, str | None, str], OperatorCall] = {}
        self._known: list[BaseException] = []

    def add(
        self,
        name: str,
        runs_on: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        refused_by: str | None = None,
        error: BaseException | None = None,
        message: str = "",
        has_meta: bool = True,
    ) -> None:
        """Note a call, refused or not. ``message``: other than what the error says."""
        if error is not None:
            self._known.append(error)
            message = message or f"{type(error).__name__}: {error}".strip()
        key = (name, refused_by, message)
        if key not in self.calls:
            arguments, keywords = tree_map(_spec, (tuple(args), dict(kwargs)))
            self.calls[key] = OperatorCall(
                name, runs_on, arguments, keywords, 0, refused_by, message, has_meta
            )
        self.calls[key].count += 1

    def knows(self, error: BaseException) -> bool:
        """Whether it has been noted: it passes through every call that it is raised in."""
        return any(each is error for each in self._known)


class _Packets(TorchFunctionMode):
    """Sees calls before their arguments are held against a schema."""

    def __init__(self, notes: _Notes) -> None:
        super().__init__()
        self._notes = notes

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        try:
            return func(*args, **kwargs)
        except Exception as error:
            if not self._notes.knows(error):
                self._note(func, args, kwargs, error)
            raise

    def _note(self, func: Any, args: Any, kwargs: Any, error: Exception) -> None:
        by = "schema"
        if isinstance(func, OpOverloadPacket):
            name = func._qualified_op_name
            runs_on = str(where(name_of(getattr(func, func.overloads()[0]))))
        elif isinstance(func, OpOverload):
            name, runs_on = name_of(func), str(where(name_of(func)))
        else:
            name, runs_on = resolve_name(func) or getattr(func, "__name__", str(func)), "composite"
            by = "call"
        self._notes.add(name, runs_on, args, kwargs, refused_by=by, error=error)


class _Overloads(TorchDispatchMode):
    """Sees the operators that are called, and what their meta functions say."""

    def __init__(self, notes: _Notes) -> None:
        super().__init__()
        self._notes = notes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # a question about a tensor, such as its device
            return func(*args, **kwargs)
        name = name_of(func)
        runs_on = str(where(name))
        note = functools.partial(self._notes.add, name, runs_on, args, kwargs)
        try:
            result = func(*args, **kwargs)
        except _VALUES as error:
            note(
                refused_by="values",
                error=error,
                message="its result depends on values, which fake tensors do not have; on an NPU "
                "the host waits for them",
            )
            raise
        except (fake_tensor.UnsupportedOperatorException, NotImplementedError) as error:
            note(
                refused_by="no meta",
                error=error,
                message="there is no meta function for it, so its result is not known; say "
                f"what it is: torch.library.register_fake({name.partition('.')[0]!r})",
            )
            raise
        except Exception as error:
            note(refused_by="meta", error=error)
            raise
        # torch knows the result of what writes into its arguments, and of nothing else.
        note(has_meta=has_meta(name))
        return result
