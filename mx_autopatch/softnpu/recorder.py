"""Records what a program asks of its NPU: operators, and the lines that make the host wait.

On the soft NPU the kernels themselves are wrapped, so every thread is seen, autograd's
included, and every operator is the one that the device would be given. On a real NPU,
whose kernels are not ours to wrap, a TorchDispatchMode looks on instead, in the thread
that started it and in the backward passes that this thread starts.

An operator that torch_npu registers and that the soft NPU composes of simpler ones counts
once, as itself. Allocations and views are not recorded: they ask nothing of a device.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mx_autopatch.errors import SoftNpuError
from mx_autopatch.softnpu import waits
from mx_autopatch.softnpu.aten.native import NATIVE
from mx_autopatch.softnpu.form import overload
from mx_autopatch.softnpu.install import installed_kernels
from mx_autopatch.softnpu.operators import Where, name_of, where
from mx_autopatch.softnpu.origin import Origin, Places

__all__ = ["Recorder"]

Kernel = Callable[..., Any]


class _Thread(threading.local):
    """Of each thread: what it has counted, and whether it is inside an operator."""

    def __init__(self, all_counts: list[dict[str, int]]) -> None:
        self.is_inside = False
        self.counts: dict[str, int] = {}
        all_counts.append(self.counts)


class Recorder:
    """One recording; ``attach`` starts it, ``detach`` ends it.

    Args:
        own: Folders of the user's own code.

    Attributes:
        waits: (what, origin) -> how often the host waited for the device.
        copies: origin -> [how often, bytes, how often without ``non_blocking``] of copies
            to the device.
        casts: ("float64 to float32", origin) -> how often.
        computed: ("float64", operator, origin) -> how often.
        refused: (operator, origin) -> [how often, message]: there is no kernel on the soft NPU.
        failed: the same of operators that raised anything else.
    """

    def __init__(self, own: Iterable[str]) -> None:
        self.waits: dict[tuple[str, Origin], int] = {}
        self.copies: dict[Origin, list[int]] = {}
        self.casts: dict[tuple[str, Origin], int] = {}
        self.computed: dict[tuple[str, str, Origin], int] = {}
        self.refused: dict[tuple[str, Origin], list[Any]] = {}
        self.failed: dict[tuple[str, Origin], list[Any]] = {}
        self._places = Places(own)
        self._counts: list[dict[str, int]] = []
        self._thread = _Thread(self._counts)
        self._lock = threading.Lock()
        self._libraries: dict[str, torch.library.Library] = {}
        self._mode: _Mode | None = None
        self._undo: list[Callable[[], None]] = []

    def operators(self) -> dict[str, int]:
        """Operator -> how often it was called, in all threads."""
        total: dict[str, int] = {}
        for counts in list(self._counts):
            for name, count in list(counts.items()):
                total[name] = total.get(name, 0) + count
        return total

    # -- attaching -------------------------------------------------------------

    def attach(self) -> str:
        """Start to record. Returns how, in words."""
        self._watch_synchronize()
        if not installed_kernels():
            self._mode = _Mode(self)
            self._mode.__enter__()
            return "recording by a dispatch mode, in this thread"
        for name in ("aten", "npu"):
            self._libraries[name] = torch.library.Library(name, "IMPL")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*[Oo]verriding a previously registered kernel")
            count = sum(1 for _ in self._wrap_kernels())
        return f"recording {count} operators"

    def _wrap_kernels(self) -> Iterator[None]:
        for (name, key), kernel in installed_kernels().items():
            namespace, _, rest = name.partition("::")
            self._libraries[namespace].impl(
                rest, self.recorded(name, kernel), key, allow_override=True
            )
            yield
        for name in torch._C._dispatch_get_all_op_names():
            if name.startswith("aten::") and where(name) is Where.CPU:
                op = overload(name)
                if op is None or name_of(op) != name or _is_structured(name):
                    continue
                kernel = self.recorded(name, _fallback(name, op))
                self._libraries["aten"].impl(
                    name.partition("::")[2], kernel, "PrivateUse1", with_keyset=True
                )
                yield

    def detach(self) -> None:
        """Put everything back as it was."""
        for library in self._libraries.values():
            library._destroy()
        self._libraries.clear()
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._mode = None
        while self._undo:
            self._undo.pop()()

    @contextmanager
    def attached(self) -> Iterator[Recorder]:
        """Record for the time of a ``with`` statement."""
        self.attach()
        try:
            yield self
        finally:
            self.detach()

    # -- one call --------------------------------------------------------------

    def recorded(self, name: str, kernel: Kernel) -> Kernel:
        """``kernel`` of the operator ``name``, which records each call of it."""
        state = self._thread
        note = self.note

        def recording(*args: Any, **kwargs: Any) -> Any:
            if state.is_inside:
                return kernel(*args, **kwargs)
            state.is_inside = True
            try:
                note(name, args, kwargs)
                return kernel(*args, **kwargs)
            except Exception as error:
                self._note_error(name, error)
                raise
            finally:
                state.is_inside = False

        return recording

    def note(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Record one call, with its arguments."""
        counts = self._thread.counts
        counts[name] = counts.get(name, 0) + 1
        if args and isinstance(args[0], torch._C.DispatchKeySet):
            args = args[1:]
        wait = waits.wait_of(name)
        if wait is not None:
            what = wait(args, kwargs)
            if what is not None:
                self._add_wait(what)
            else:
                self._note_copy(name, args, kwargs)
        dtype = waits.computing(name, args)
        cast = waits.casting(name, args, kwargs)
        if dtype is not None or cast is not None:
            self._note_types(name, dtype, cast)

    def _note_copy(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        copied = waits.copied(name, args, kwargs)
        if copied is not None:
            origin = self._origin()
            with self._lock:
                found = self.copies.setdefault(origin, [0, 0, 0])
                found[0] += 1
                found[1] += copied.size
                found[2] += copied.is_blocking

    def _note_types(self, name: str, dtype: str | None, cast: str | None) -> None:
        origin = self._origin()
        if origin.is_print:  # torch prints by way of float64; that is counted as printing
            return
        with self._lock:
            if dtype is not None:
                key = (dtype, name, origin)
                self.computed[key] = self.computed.get(key, 0) + 1
            if cast is not None:
                self.casts[cast, origin] = self.casts.get((cast, origin), 0) + 1

    def _note_error(self, name: str, error: Exception) -> None:
        into = self.refused if isinstance(error, SoftNpuError) else self.failed
        origin = self._origin()
        with self._lock:
            found = into.setdefault((name, origin), [0, str(error)])
            found[0] += 1

    def _add_wait(self, what: str) -> None:
        origin = self._origin()
        if origin.is_print:
            what = "a tensor printed"
        key = (what, origin)
        with self._lock:
            self.waits[key] = self.waits.get(key, 0) + 1

    def _origin(self) -> Origin:
        return self._places.origin(sys._getframe(2))

    # -- what is not an operator -----------------------------------------------

    def _watch_synchronize(self) -> None:
        import torch_npu
        from torch_npu.npu import streams

        for owner, name, what in (
            (torch_npu._C, "_npu_synchronize", "synchronize"),
            (torch._C, "_accelerator_synchronizeDevice", "synchronize"),
            (streams.Stream, "synchronize", "Stream.synchronize"),
            (streams.Event, "synchronize", "Event.synchronize"),
        ):
            former = getattr(owner, name, None)
            if former is not None:
                setattr(owner, name, self._waiting(former, what))
                self._undo.append(lambda o=owner, n=name, f=former: setattr(o, n, f))  # type: ignore[misc]

    def _waiting(self, former: Kernel, what: str) -> Kernel:
        def waiting(*args: Any, **kwargs: Any) -> Any:
            self._add_wait(what)
            return former(*args, **kwargs)

        return waiting


class _Mode(TorchDispatchMode):
    """Records what is called with npu tensors, or makes them."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._kernels: dict[Any, Kernel] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kernel = self._kernels.get(func)
        if kernel is None:
            name = name_of(func)
            # prim: a question about a tensor, such as its device
            is_silent = name in NATIVE or func.namespace == "prim"
            kernel = func if is_silent else self._recorder.recorded(name, func)
            self._kernels[func] = kernel
        kwargs = kwargs or {}
        if _on_npu(args) or _on_npu(kwargs.values()):
            return kernel(*args, **kwargs)
        return func(*args, **kwargs)


def _on_npu(arguments: Iterable[Any]) -> bool:
    for argument in arguments:
        if isinstance(argument, (torch.Tensor, torch.device)):
            device = argument if isinstance(argument, torch.device) else argument.device
            if device.type == "npu":
                return True
        elif isinstance(argument, (list, tuple)) and _on_npu(argument):
            return True
    return False


def _is_structured(name: str) -> bool:
    """Whether its ``out`` overload is what falls back, and is recorded."""
    key = "CompositeExplicitAutogradNonFunctional"
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, key)


def _fallback(name: str, op: Any) -> Kernel:
    """What torch_npu does where it has no kernel, warning included."""
    general = torch.library.get_kernel(name, "PrivateUse1")

    def fallback(keys: Any, *args: Any, **kwargs: Any) -> Any:
        # A Python number for a Tensor comes as such, and would not be taken as one.
        given = [
            torch.tensor(value)
            if isinstance(value, (int, float)) and str(argument.type) == "Tensor"
            else value
            for value, argument in zip(args, op._schema.arguments)
        ]
        return general.call_boxed(keys, *given, **kwargs)

    return fallback
