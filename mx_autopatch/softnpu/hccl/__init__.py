"""Backend ``hccl`` on the soft NPU: collectives between processes on one machine or several.

torch_npu's ProcessGroupHCCL, which drives the hardware's communication library, gives its
place to a process group that has Gloo move the data.
"""

from __future__ import annotations

from typing import Any

__all__ = ["register"]


def register() -> None:
    """Answer for backend ``hccl`` wherever torch.distributed makes a process group.

    torch_npu has registered it, and torch takes no name twice: what makes a group is
    exchanged.
    """
    from torch.distributed import Backend

    plugin = Backend._plugins["HCCL"]
    Backend._plugins["HCCL"] = plugin._replace(creator_fn=_new_group, extended_api=True)
    if "LCCL" in Backend._plugins:
        lccl = Backend._plugins["LCCL"]
        Backend._plugins["LCCL"] = lccl._replace(creator_fn=_refused, extended_api=True)


def _new_group(given: Any, options: Any) -> Any:
    """What torch_npu makes of its arguments, with another class at the end."""
    from torch_npu._C._distributed_c10d import ProcessGroupHCCL

    from mx_autopatch.softnpu.hccl.group import ProcessGroupSoftHCCL

    if not isinstance(options, ProcessGroupHCCL.Options):
        options = ProcessGroupHCCL.Options()
    options._timeout = given.timeout
    options.global_ranks_in_group = given.global_ranks_in_group
    options.group_id = given.group_id
    return ProcessGroupSoftHCCL(given.store, given.group_rank, given.group_size, options)


def _refused(given: Any, options: Any) -> Any:
    from mx_autopatch.errors import SoftNpuError

    raise SoftNpuError("backend 'lccl' runs on the hardware only; the soft NPU has backend 'hccl'")
