"""Up-sampling, filtering and down-sampling as one operator, on the CPU and on NPUs.

Why: off CUDA mmcv 2 takes a "slow reference implementation", which multiplies the zeros
     between the pixels and computes what it then leaves out: up to four times the time of
     this operator, with gradients. mmcv 1.x has the same on the CPU, channel by channel.
How: for such tensors, mx_autopatch.ops.upfirdn2d; filters of one dimension one axis after
     the other. For CUDA tensors, where the reference is asked for, where the filter has a
     gradient, and where a graph is traced that others shall run without us, mmcv's own code
     runs.
Upstream: mmcv/ops/upfirdn2d.py, mmcv 1.3 - 2.2.
Remove when: mmcv's reference filters at the lower of both resolutions.
"""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from mx_autopatch.model import Context, Patch, Replace

if TYPE_CHECKING:
    from torch import Tensor

_Sizes = Union[int, Sequence[int]]


def of_mmcv_2(
    input: "Tensor",
    filter: "Optional[Tensor]",
    up: _Sizes = 1,
    down: _Sizes = 1,
    padding: _Sizes = 0,
    flip_filter: bool = False,
    gain: float = 1,
    use_custom_op: bool = True,
) -> "Tensor":
    from mx_autopatch.ops import upfirdn2d as op

    if filter is None:
        filter = input.new_ones(1, 1)
    (up_x, up_y), (down_x, down_y), sides = _pair(up), _pair(down), _pair(padding)
    left, right, top, bottom = sides if len(sides) == 4 else (*[sides[0]] * 2, *[sides[1]] * 2)
    if filter.dim() == 2:
        pads = top, bottom, left, right
        return op(input, filter, (up_y, up_x), (down_y, down_x), pads, flip_filter, gain)
    pads = 0, 0, left, right
    output = op(input, filter[None], (1, up_x), (1, down_x), pads, flip_filter)
    pads = top, bottom, 0, 0
    return op(output, filter[:, None], (up_y, 1), (down_y, 1), pads, flip_filter, gain)


def of_mmcv_1(
    input: "Tensor",
    kernel: "Tensor",
    up: _Sizes = 1,
    down: _Sizes = 1,
    pad: Sequence[int] = (0, 0),
) -> "Tensor":
    # Two are those before and behind, of both axes.
    return of_mmcv_2(input, kernel, up, down, pad if len(pad) == 4 else (*pad, *pad))


def _pair(value: _Sizes) -> "tuple[int, ...]":
    return (value, value) if isinstance(value, int) else tuple(value)


def _of_version(context: Context) -> Callable[..., Any]:
    parameters = inspect.signature(context.module.upfirdn2d).parameters
    return of_mmcv_1 if "kernel" in parameters else of_mmcv_2


def _computed_here(
    input: "Tensor", filter: "Optional[Tensor]" = None, *args: Any, **kwargs: Any
) -> bool:
    import torch

    filter = kwargs.get("kernel", filter)
    reference = kwargs.get("use_custom_op", True) is False or any(a is False for a in args[5:6])
    return (
        input.device.type in ("cpu", "npu")
        and not reference
        and not (filter is not None and filter.requires_grad)
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    )


PATCHES = (
    Patch(
        name="mmcv.upfirdn2d",
        edits=(Replace("mmcv.ops.upfirdn2d:upfirdn2d", factory=_of_version, guard=_computed_here),),
        requires=("module:torch",),
    ),
)
