"""A kernel of ours over one of torch_npu's, at torch's dispatcher.

There it concerns tensors of the device alone: code for any other device runs as without us,
torch.compile traces as without us, and derivatives stay torch's where the kernel lies below
autograd. What a kernel of ours does not handle goes to the one that stood there, which is
taken hold of before it is covered: a redispatch with the same key would come back to ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Callable

__all__ = ["AUTOGRAD", "DEVICE", "Kernel", "override"]

#: The keys of the device npu: its kernels, and those that make derivatives by themselves.
DEVICE, AUTOGRAD = "PrivateUse1", "AutogradPrivateUse1"

#: ``kernel(below, *args, **kwargs)``; ``below(*args, **kwargs)`` calls what stood there.
Kernel = Callable[..., Any]


def override(kernels: Mapping[str, Kernel], keys: Sequence[str] = (DEVICE,)) -> Callable[[], None]:
    """Put each kernel over that of its operator (``aten::index.Tensor``) under ``keys``.

    Returns:
        What takes all of them away again. What stood there is then in force as before.

    Raises:
        RuntimeError: there is no such operator.
    """
    import torch

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
                    over = _over(torch.library.get_kernel(name, key).call_boxed, kernel)
                    libraries[namespace].impl(rest, over, key, with_keyset=True)
    except BaseException:
        end()
        raise
    return end


def _over(call_boxed: Callable[..., Any], kernel: Kernel) -> Callable[..., Any]:
    def registered(keys: Any, *args: Any, **kwargs: Any) -> Any:
        def below(*args: Any, **kwargs: Any) -> Any:
            return call_boxed(keys, *args, **kwargs)

        return kernel(below, *args, **kwargs)

    return registered
