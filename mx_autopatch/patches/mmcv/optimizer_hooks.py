"""mmcv 1.x's optimizer hooks with the clipping of torch_npu's fused optimizers.

Why: OptimizerHook, its accumulating and its fp16 forms clip parameter by parameter, several
     kernels each; an NPU computes them faster than the host can call them. And the fp16
     forms free the gradients (model.zero_grad() does, since torch 2.0), on which
     torch_npu's fused optimizers go on stepping.
How: ``clip_grads`` calls ``clip_grad_norm_fused_`` of the runner's optimizer where that is
     the same clipping, and takes the runner as a second argument, as mx_driving's hooks do.
     The classes are patched in place: what registries, configs and constructors make, and
     hooks of projects that derive from these, are the same classes. Gradients of an
     optimizer that clips so are zeroed, not freed.
Upstream: mmcv.runner.hooks.optimizer, mmcv 1.3.12 - 1.7; torch_npu.optim.
Remove when: mmcv 1.x is out of use.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from mx_autopatch.model import Patch, Rewrite, Subclasses, Wrap

HOOKS = "mmcv.runner.hooks.optimizer"

#: The runner whose step is being taken, which mmcv does not tell ``clip_grads``.
_runner: ContextVar[Any] = ContextVar("runner", default=None)


def _stepping(wrapped: Any, instance: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    token = _runner.set(args[0] if args else kwargs["runner"])
    try:
        return wrapped(*args, **kwargs)
    finally:
        _runner.reset(token)


def _clip_grads(wrapped: Any, instance: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    from mx_autopatch.patches.fused_clip import clip_fused

    def clip(params: Any, runner: Any = None) -> Any:
        params = list(params)
        runner = _runner.get() if runner is None else runner
        norm = clip_fused(getattr(runner, "optimizer", None), params, instance.grad_clip)
        return wrapped(params) if norm is None else norm

    return clip(*args, **kwargs)


def _steps_itself(cls: type) -> bool:
    return "after_train_iter" in vars(cls)


def _keeps_gradients(optimizer: Any) -> bool:
    return hasattr(optimizer, "clip_grad_norm_fused_")


def _zeroing(hook: str) -> Rewrite:
    return Rewrite(
        f"{HOOKS}:{hook}.after_train_iter",
        find="runner.model.zero_grad()",
        replace="runner.model.zero_grad(set_to_none=not keeps_gradients(runner.optimizer))",
        names={"keeps_gradients": _keeps_gradients},
    )


PATCHES = (
    Patch(
        name="mmcv.optimizer_hooks",
        edits=(
            Wrap(f"{HOOKS}:OptimizerHook.clip_grads", _clip_grads),
            _zeroing("Fp16OptimizerHook"),
            _zeroing("GradientCumulativeFp16OptimizerHook"),
            Wrap(f"{HOOKS}:OptimizerHook.after_train_iter", _stepping),
            Subclasses(
                f"{HOOKS}:OptimizerHook",
                match=_steps_itself,
                edits=(Wrap("*:after_train_iter", _stepping),),
            ),
        ),
        requires=("device:npu", "mmcv>=1.3.12", "mmcv<2", "torch>=2.0"),
    ),
)
