"""nccl means hccl, wherever a script or a config says it.

Why: a script written for CUDA names its communication library: ``backend="nccl"``,
     ``"cuda:nccl,cpu:gloo"``, ``env_cfg.dist_cfg.backend`` of mmengine, ``dist_params`` of
     mmcv 1.x, which hand it on to torch.distributed. On an NPU that ends in "Distributed
     package doesn't have NCCL built in". 13 of 61 published migrations edit it, mostly by a
     wrapper round ``mmcv.runner.init_dist``.
How: init_process_group and new_group, which all of them come to, read ``nccl`` as ``hccl``
     and, before a colon, ``cuda`` as ``npu``; any other backend passes. The public
     ``torch.distributed.is_nccl_available()`` is true where hccl is there, since scripts
     choose gloo by it otherwise. torch's own modules go on asking the true one: behind it
     they name ProcessGroupNCCL, which a torch for NPUs does not have. ``get_backend()``
     tells the truth, ``hccl``, which mmengine knows.
     torch_npu's transfer_to_npu does the same for ``torch.distributed.init_process_group``;
     the two get along.
Upstream: torch.distributed 1.11 - 2.13; torch_npu's ``hccl``.
Remove when: torch.distributed picks the backend of the device by itself for ``nccl`` too.
"""

from __future__ import annotations

from typing import Any, Callable

from mx_autopatch.model import Call, Context, Patch, Wrap


def translated(backend: Any) -> Any:
    """The backend to use on an NPU for one that a script names, as a string of torch's.

    >>> translated("cuda:nccl,cpu:gloo")
    'npu:hccl,cpu:gloo'
    """
    if not isinstance(backend, str):  # None: the default of the device
        return backend
    pairs = [pair.rpartition(":") for pair in backend.lower().split(",")]
    if not any(device.strip() == "cuda" or name.strip() == "nccl" for device, _, name in pairs):
        return backend
    return ",".join(
        f"{_read(device, 'cuda', 'npu')}{colon}{_read(name, 'nccl', 'hccl')}"
        for device, colon, name in pairs
    )


def _read(word: str, as_written: str, meant: str) -> str:
    return meant if word.strip() == as_written else word


def _with_backend_at(position: int) -> Callable[..., Any]:
    """A wrapper for a function whose parameter ``backend`` is at ``position``."""

    def translate(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if "backend" in kwargs:
            kwargs = {**kwargs, "backend": translated(kwargs["backend"])}
        elif len(args) > position:
            changed = translated(args[position])
            args = (*args[:position], changed, *args[position + 1 :])
        return wrapped(*args, **kwargs)

    return translate


def _offer_nccl(context: Context) -> str:
    distributed = context.module
    truly = distributed.is_nccl_available

    def is_nccl_available() -> bool:
        """Whether ``nccl`` may be asked for: it is, or hccl answers for it."""
        return "hccl" in distributed.Backend.backend_list or truly()

    distributed.is_nccl_available = is_nccl_available
    return "torch.distributed.is_nccl_available"


PATCHES = (
    Patch(
        name="torch.distributed_backend",
        edits=(
            Wrap("torch.distributed.distributed_c10d:init_process_group", _with_backend_at(0)),
            Wrap("torch.distributed.distributed_c10d:new_group", _with_backend_at(2)),
            Call("torch.distributed", _offer_nccl, copies=False),
        ),
        requires=("device:npu",),
    ),
)
