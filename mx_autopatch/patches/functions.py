"""An operator in place of what an autograd.Function computes, for tensors on an NPU.

The Function's ``forward`` and ``backward`` are replaced, not its ``apply``: torch.compile
traces the two and never calls ``apply``, and it knows ``f = Function.apply``, as mmcv writes
it, by comparing with the class's ``apply`` (pytorch, torch/_dynamo/variables/builder.py), so
that one graph is still made of what other devices compute.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Callable

from mx_autopatch.model import Replace, Subclasses

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Compute", "Derive", "computed_on_npu", "projects_own"]

#: What ``forward`` returns, of its arguments without ``ctx``.
Compute = Callable[..., "Tensor"]
#: ``derive(needed, grad, *arguments)``: gradients of the first arguments, None for no tensor.
Derive = Callable[..., "tuple[Tensor | None, ...]"]


def computed_on_npu(
    function: str,
    compute: Compute,
    derive: Derive,
    unless: Callable[..., bool] | None = None,
    cast_inputs: str = "",
) -> tuple[Replace, Replace]:
    """Edits that let the autograd.Function compute by ``compute`` where tensors are on npu.

    Args:
        function: its target with what separates it from a member: ``mmcv.ops.nms:NMSop.``,
            or ``*:`` for one that matched.
        compute: of the arguments of ``forward``, under autograd, whose graph is kept for the
            backward pass, so that no kernel has to calculate anything twice.
        derive: the gradients once more, as a formula: for torch.compile, which cannot trace
            a graph within a Function, and for a second backward pass through a graph that
            was retained. ``needed`` is ``ctx.needs_input_grad``.
        unless: true of arguments that stay the Function's own business.
        cast_inputs: a dtype of torch. Under autocast floating tensors become that, as by
            ``custom_fwd(cast_inputs=...)``, which is replaced with the function under it.
    """

    def forward(ctx: Any, *args: Any) -> Any:
        import torch

        args = _cast(args, cast_inputs)
        ctx.save_for_backward(*(a for a in args if isinstance(a, torch.Tensor)))
        # None marks the place of a saved tensor.
        ctx.arguments = [None if isinstance(a, torch.Tensor) else (a,) for a in args]
        if torch.compiler.is_compiling() or not any(ctx.needs_input_grad):
            return compute(*args)
        with torch.enable_grad():
            leaves = [
                a.detach().requires_grad_(need) if isinstance(a, torch.Tensor) else a
                for a, need in zip(args, ctx.needs_input_grad)
            ]
            output = compute(*leaves)
        ctx.graph = (output, leaves) if output.requires_grad else None
        return output.detach()

    def backward(ctx: Any, grad: Any) -> Any:
        import torch
        from torch.autograd.function import once_differentiable

        if torch.compiler.is_compiling():
            return formula(ctx, grad)
        return once_differentiable(kept)(ctx, grad)

    def kept(ctx: Any, grad: Any) -> Any:
        import torch

        graph, ctx.graph = ctx.graph, None  # whose memory is free after this
        if graph is None:
            return formula(ctx, grad)
        _ = ctx.saved_tensors  # complains if they are free already
        output, leaves = graph
        needed = ctx.needs_input_grad
        wanted = [leaf for leaf, need in zip(leaves, needed) if need]
        grads = iter(torch.autograd.grad(output, wanted, grad, allow_unused=True))
        return tuple(next(grads) if need else None for need in needed)

    def formula(ctx: Any, grad: Any) -> Any:
        saved = iter(ctx.saved_tensors)
        args = [next(saved) if place is None else place[0] for place in ctx.arguments]
        needed = ctx.needs_input_grad
        grads = [
            g.to(a.dtype) if need and g is not None else None
            for g, a, need in zip(derive(needed, grad, *args), args, needed)
        ]
        return (*grads, *[None] * (len(args) - len(grads)))

    def is_ours(ctx: Any, first: Any, *rest: Any) -> bool:
        return first.device.type == "npu" and not (unless is not None and unless(first, *rest))

    def was_ours(ctx: Any, grad: Any) -> bool:
        return bool(grad.device.type == "npu")

    return (
        Replace(f"{function}forward", forward, guard=is_ours),
        Replace(f"{function}backward", backward, guard=was_ours),
    )


def _cast(args: tuple[Any, ...], dtype: str) -> tuple[Any, ...]:
    import torch

    # Not torch.is_autocast_enabled, which transfer_to_npu makes opaque to compilers.
    if not dtype or not torch._C.is_autocast_enabled("npu"):
        return args
    return tuple(
        a.to(getattr(torch, dtype))
        if isinstance(a, torch.Tensor) and a.is_floating_point() and a.dtype != torch.float64
        else a
        for a in args
    )


def projects_own(
    names: Collection[str],
    parameters: Sequence[str],
    compute: Compute,
    derive: Derive,
    cast_inputs: str = "",
) -> Subclasses:
    """Edits of the autograd.Functions that projects write themselves, wherever they keep them.

    Args:
        names: of the class.
        parameters: of its ``forward``, after ``ctx``: these, in this order. Its
            ``backward`` has to take one gradient.
        compute, derive, cast_inputs: see computed_on_npu.
    """
    wanted = tuple(parameters)

    def match(cls: type) -> str | bool:
        if cls.__name__ not in names or not {"forward", "backward"} <= vars(cls).keys():
            return False
        if cls.__module__.partition(".")[0] in ("mmcv", "mx_driving", "mx_autopatch"):
            return False
        # Below custom_fwd, once_differentiable and the like.
        forward, backward = (
            tuple(inspect.signature(getattr(cls, name)).parameters)[1:]
            for name in ("forward", "backward")
        )
        if forward != wanted or len(backward) != 1:
            return False
        return f"class {cls.__name__} with forward({', '.join(wanted)})"

    edits = computed_on_npu("*:", compute, derive, cast_inputs=cast_inputs)
    return Subclasses("torch.autograd.function:Function", match=match, edits=edits)
