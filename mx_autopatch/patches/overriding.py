"""A kernel of ours over one of torch_npu's, at torch's dispatcher.

There it concerns tensors of the device alone: code for any other device runs as without us,
torch.compile traces as without us, and derivatives stay torch's where the kernel lies below
autograd. What a kernel of ours does not handle goes to the one that stood there, which is
taken hold of before it is covered (a redispatch with the same key would come back to ours),
by torch.library.get_kernel, of torch 2.9.

The one price: a kernel of ours is Python, so that torch_npu's is called with Python's lock in
hand. torch_npu lets go of the lock where it launches, but does not take it again when the
launch fails (Py_BEGIN_ALLOW_THREADS round what throws, in OpParamMaker.cpp): then Python ends
with "Fatal Python error: PyThreadState_Get", and CANN's own message is in its log alone. So
where launches are blocking, which is how such failures are looked for, nothing is covered.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from mx_autopatch.model import NotNeeded

__all__ = ["AUTOGRAD", "DEVICE", "Kernel", "override"]

#: The keys of the device npu: its kernels, and those that make derivatives by themselves.
DEVICE, AUTOGRAD = "PrivateUse1", "AutogradPrivateUse1"

#: ``kernel(below, *args, **kwargs)``; ``below(*args, **kwargs)`` calls what stood there.
Kernel = Callable[..., Any]

_BLOCKING = {"ASCEND_LAUNCH_BLOCKING": "1", "TASK_QUEUE_ENABLE": "0"}


def override(kernels: Mapping[str, Kernel], keys: Sequence[str] = (DEVICE,)) -> Callable[[], None]:
    """Put each kernel over that of its operator (``aten::index.Tensor``) under ``keys``.

    Returns:
        What takes all of them away again. What stood there is then in force as before.

    Raises:
        NotNeeded: torch_npu's own kernels have to be left uncovered, see above.
        RuntimeError: there is no such operator.
    """
    import torch

    from mx_autopatch.softnpu import runtime

    for name, value in _BLOCKING.items():
        if os.environ.get(name) == value and not runtime.is_loaded():
            raise NotNeeded(f"{name} is {value}: torch_npu's kernels are left uncovered")
    library_of: Any = torch.library.Library
    libraries: dict[str, Any] = {}

    def end() -> None:
        for library in libraries.values():
            library._destroy()

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*[Oo]verriding a previously registered kernel")
            for name, kernel in kernels.items():
                namespace, _, rest = name.partition("::")
                if namespace not in libraries:
                    libraries[namespace] = library_of(namespace, "IMPL")
                for key in keys:
                    libraries[namespace].impl(rest, _over(name, key, kernel), key, with_keyset=True)
    except BaseException:
        end()
        raise
    return end


def _over(name: str, key: str, kernel: Kernel) -> Callable[..., Any]:
    import torch

    has_kernel: Any = torch._C._dispatch_has_kernel_for_dispatch_key
    composition = "CompositeImplicitAutograd"
    if has_kernel(name, key) or not has_kernel(name, composition):
        return _over_kernel(name, key, kernel)
    # torch's composition, which can be called by a key of its own, and without Python's lock.
    packet, _, overload = name.partition("::")[2].partition(".")
    operator: Any = getattr(getattr(torch.ops.aten, packet), overload or "default")
    composite = getattr(torch._C.DispatchKey, composition)

    def composed(*args: Any, **kwargs: Any) -> Any:
        return operator._op_dk(composite, *args, **kwargs)

    return lambda keys, *args, **kwargs: kernel(composed, *args, **kwargs)


def _over_kernel(name: str, key: str, kernel: Kernel) -> Callable[..., Any]:
    import torch

    call_boxed = torch.library.get_kernel(name, key).call_boxed
    keyset = torch._C.DispatchKeySet

    def registered(*given: Any, **kwargs: Any) -> Any:
        keys, *args = given
        if not isinstance(keys, keyset):
            # Within a TorchDispatchMode (fake tensors are one) torch looks a kernel in Python
            # up by operator and key, and so finds the last one, this, for the soft NPU's
            # below, which takes no keys; also when this one is registered no more.
            return _soft_kernel(name, key)(*given, **kwargs)

        def below(*args: Any, **kwargs: Any) -> Any:
            return call_boxed(keys, *args, **kwargs)

        return kernel(below, *args, **kwargs)

    return registered


def _soft_kernel(name: str, key: str) -> Any:
    from mx_autopatch.softnpu.install import installed_kernels

    found = installed_kernels().get((name, key))
    if found is None:
        raise RuntimeError(
            f"{name}: another kernel in Python stands below that of mx_autopatch, and within a "
            "TorchDispatchMode torch cannot tell them apart; switch off the patch that covers "
            "it (mx-autopatch status names it)"
        )
    return found
