"""torchvision's kernels on CUDA, where they give the same numbers as the portable ones.

On the CPU the portable ones are ahead, so there torchvision is not even imported: beside
torchvision 0.28 on one core, suppression of 1,000 to 20,000 boxes takes 0.5 to 1 times as
long, RoIAlign of 512 boxes 0.1 to 0.3 and deformable convolution 0.2 to 0.4 times, with and
without gradients (benchmarks/torchvision_operators.py). On CUDA torchvision has one kernel
where the portable implementations are a dozen, with everything in between in memory.

Whether to use them is decided once for each operator and type of device, at the first call:
torchvision is there, its compiled operators work, and what they give on a few random
arguments with ties, regions beyond the image and groups is what the portable implementation
gives on the CPU. ``decisions`` has why not. A call that is not covered goes to the portable
one: an ``offset``, maxima, nothing in it, or, of what torchvision sums in no certain order,
if the user asked for deterministic algorithms.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable

import torch
from torch import Tensor

from ._check import compute_dtype
from .deform_conv import deform_conv2d_backward_op, deform_conv2d_op
from .nms import nms_op
from .roi_align import roi_align_backward_op, roi_align_op

__all__ = ["BINDINGS", "Binding", "bind", "decisions", "is_used"]

Arguments = tuple[Any, ...]

_TOLERANCE = 1e-5  # of the largest value: float32, sums of some hundred numbers

#: By operator and type of device: empty where torchvision's kernel is used, else why not.
decisions: dict[tuple[str, str], str] = {}

# Registrations end with the library object that made them.
_library = torch.library.Library("mx_autopatch", "IMPL")


@dataclass(frozen=True)
class Binding:
    """How torchvision computes an operator.

    Attributes:
        op: the operator.
        native: takes its arguments; None where the call is not covered.
        probes: arguments to try it with, on the CPU.
    """

    op: Any
    native: Callable[..., Any]
    probes: Callable[[], Iterator[Arguments]]


def bind(binding: Binding, key: str, library: torch.library.Library) -> None:
    """Put torchvision's kernel under the operator for a dispatch key, below autograd."""
    portable = binding.op._init_fn

    def kernel(*args: Any) -> Any:
        device = next(a for a in args if isinstance(a, Tensor)).device
        result = binding.native(*args) if is_used(binding, device) else None
        return portable(*args) if result is None else result

    library.impl(binding.op._name, kernel, key)


def is_used(binding: Binding, device: torch.device) -> bool:
    place = binding.op._name, device.type
    if place not in decisions:
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return False  # no results can be looked at now
        try:
            decisions[place] = _objection(binding, device)
        except Exception as error:  # whatever it raises, the portable one computes
            said = str(error).strip().partition("\n")[0]
            decisions[place] = f"{type(error).__name__}: {said}"
    return not decisions[place]


def _objection(binding: Binding, device: torch.device) -> str:
    """Why torchvision's kernel is not to be used; may raise that, too."""
    if importlib.util.find_spec("torchvision") is None:
        return "torchvision is not installed"
    importlib.import_module("torchvision")  # registers torch.ops.torchvision
    portable = binding.op._init_fn
    for args in binding.probes():
        moved = [a.to(device) if isinstance(a, Tensor) else a for a in args]
        for got, want in zip(_tensors(binding.native(*moved)), _tensors(portable(*args))):
            got = got.cpu()
            if got.shape != want.shape:
                return f"shape {tuple(got.shape)} instead of {tuple(want.shape)}"
            largest = float(want.abs().max()) if want.numel() else 0.0
            error = float((got - want).abs().max()) if want.numel() else 0.0
            if not error <= _TOLERANCE * largest:
                return f"off by {error:.1e}, the largest value being {largest:.1e}"
    return ""


def _tensors(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


def _may_add_in_any_order() -> bool:
    return not torch.are_deterministic_algorithms_enabled()


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor | None:
    # The dispatcher leaves out what has its default value.
    dtype = compute_dtype(boxes.dtype)
    # Scores of another precision could become equal.
    if offset or not len(boxes) or compute_dtype(scores.dtype) != dtype:
        return None
    kept: Tensor = torch.ops.torchvision.nms(boxes.to(dtype), scores.to(dtype), iou_threshold)
    return kept


def _nms_probes() -> Iterator[Arguments]:
    g = torch.Generator().manual_seed(0)
    low = torch.randint(0, 20, (60, 2), generator=g).float()
    # Some of no area, some that are equal.
    boxes = torch.cat((low, low + torch.randint(0, 9, (60, 2), generator=g)), 1)
    scores = torch.randint(0, 9, (60,), generator=g) / 8
    for threshold in (0.0, 0.25, 0.5):
        yield boxes, scores, threshold, 0


def _roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: list[int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: str,
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor] | None:
    dtype = compute_dtype(input.dtype)
    if pool_mode != "avg" or not (input.numel() and rois.numel()):
        return None
    if compute_dtype(rois.dtype) != dtype:
        return None
    output: Tensor = torch.ops.torchvision.roi_align(
        input.to(dtype), rois.to(dtype), spatial_scale, *output_size, sampling_ratio, aligned
    )
    none = input.new_empty(0, dtype=dtype)
    return output.to(input.dtype), none, none.clone()


def _roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    input_shape: list[int],
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: str,
    aligned: bool,
) -> Tensor | None:
    dtype = compute_dtype(grad_output.dtype)
    if pool_mode != "avg" or not (grad_output.numel() and min(input_shape)):
        return None
    if compute_dtype(rois.dtype) != dtype or not _may_add_in_any_order():
        return None
    grad: Tensor = torch.ops.torchvision._roi_align_backward(
        grad_output.to(dtype),
        rois.to(dtype),
        spatial_scale,
        *grad_output.shape[2:],
        *input_shape,
        sampling_ratio,
        aligned,
    )
    return grad.to(grad_output.dtype)


def _roi_align_probes() -> Iterator[Arguments]:
    g = torch.Generator().manual_seed(0)
    corners = torch.rand(6, 4, generator=g) * 30 - 6
    rois = torch.cat((torch.randint(0, 2, (6, 1), generator=g), corners), 1)
    image = torch.randn(2, 3, 7, 9, generator=g)
    for ratio in (0, 2):
        for aligned in (False, True):
            yield image, rois, [2, 3], 0.5, ratio, "avg", aligned


def _roi_align_backward_probes() -> Iterator[Arguments]:
    none = torch.empty(0)
    for image, rois, size, *options in _roi_align_probes():
        grad = torch.randn(len(rois), 3, *size, generator=torch.Generator().manual_seed(1))
        yield grad, rois, none, none, list(image.shape), *options


def _theirs(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    options: list[Any],
) -> list[Any]:
    """Arguments in torchvision's order and a precision to compute in."""
    dtype = compute_dtype(input.dtype)
    stride, padding, dilation, groups, deform_groups = options
    tensors = (
        input,
        weight,
        # NaN is outside, and so is this; torchvision would make NaN of it.
        offset.to(dtype).nan_to_num(nan=1e9, posinf=torch.inf, neginf=-torch.inf),
        input.new_zeros((len(input), 1)) if mask is None else mask,
        weight.new_zeros(weight.shape[0]) if bias is None else bias,
    )
    sizes = *stride, *padding, *dilation, groups, deform_groups, mask is not None
    return [*(t.to(dtype) for t in tensors), *sizes]


def _deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *options: Any,
) -> Tensor | None:
    if not (input.numel() and offset.numel() and weight.numel()):
        return None
    args = _theirs(input, offset, mask, weight, bias, list(options))
    output: Tensor = torch.ops.torchvision.deform_conv2d(*args)
    return output.to(input.dtype)


def _deform_conv2d_backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    *rest: Any,
) -> tuple[Tensor, ...] | None:
    if not (input.numel() and offset.numel() and weight.numel() and _may_add_in_any_order()):
        return None
    *options, needed = rest
    args = _theirs(input, offset, mask, weight, None, options)
    found = torch.ops.torchvision._deform_conv2d_backward(
        grad_output.to(args[0].dtype).contiguous(), *args
    )
    grad_input, grad_weight, grad_offset, grad_mask, _ = found
    wanted = needed[0], needed[1], needed[2] and mask is not None, needed[3]
    return tuple(
        grad.to(input.dtype) if use else input.new_empty(0)
        for grad, use in zip((grad_input, grad_offset, grad_mask, grad_weight), wanted)
    )


def _deform_conv2d_probes() -> Iterator[Arguments]:
    g = torch.Generator().manual_seed(0)
    input, offset = torch.randn(2, 4, 6, 5, generator=g), torch.randn(2, 24, 3, 4, generator=g) * 2
    weight, bias = torch.randn(6, 2, 3, 2, generator=g), torch.randn(6, generator=g)
    mask = torch.rand(2, 12, 3, 4, generator=g)
    options = [2, 1], [1, 0], [1, 1], 2, 2
    yield input, offset, mask, weight, bias, *options
    yield input, offset, None, weight, None, *options


def _deform_conv2d_backward_probes() -> Iterator[Arguments]:
    for input, offset, mask, weight, _, *options in _deform_conv2d_probes():
        grad = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(1))
        yield grad, input, offset, mask, weight, *options, [True, True, mask is not None, True]


BINDINGS = (
    Binding(nms_op, _nms, _nms_probes),
    Binding(roi_align_op, _roi_align, _roi_align_probes),
    Binding(roi_align_backward_op, _roi_align_backward, _roi_align_backward_probes),
    Binding(deform_conv2d_op, _deform_conv2d, _deform_conv2d_probes),
    Binding(deform_conv2d_backward_op, _deform_conv2d_backward, _deform_conv2d_backward_probes),
)

for _binding in BINDINGS:
    bind(_binding, "CUDA", _library)
