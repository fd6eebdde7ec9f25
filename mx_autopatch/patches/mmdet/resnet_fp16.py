"""ResNets in half precision, the rest of the model as it was.

Why: a backbone spends most of the time of a detector, and tolerates half precision where its
     heads and their losses may not. Some published migrations rewrite the whole ``forward``
     for it.
How: where ``forward`` is that of a ResNet (see patches/resnets.py), in whatever package, it
     runs under torch.autocast of its input's device, and what it returns is in the data type of
     the input again. Option ``dtype``: "float16" or "bfloat16". Not on by default: it changes
     numbers, and with float16 small gradients vanish unless the loss is scaled.
Upstream: ResNet.forward in mmdet, mmseg, mmpretrain, mmcv 1.x, …
Remove when: never; it is a choice.
"""

from __future__ import annotations

from typing import Any, Callable

from mx_autopatch.errors import PatchError
from mx_autopatch.model import Call, Context, Patch, Subclasses, Wrap
from mx_autopatch.patches.resnets import is_resnet

_DTYPES = ("float16", "bfloat16")
# What the option says, since a wrapper is not given it.
_chosen: dict[str, Any] = {}


def _choose(context: Context) -> tuple[str, Callable[[], None]]:
    name = context.options["dtype"]
    if name not in _DTYPES:
        raise PatchError(
            f"patches.options.'mmdet.resnet_fp16'.dtype: {name!r} is not one of "
            f"{', '.join(_DTYPES)}"
        )
    _chosen["dtype"] = getattr(context.module, name)
    return f"in {name}", _chosen.clear


def _in_half(
    forward: Callable[..., Any], resnet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    import torch

    given = [*args, *kwargs.values()]
    images = [x for x in given if isinstance(x, torch.Tensor) and x.is_floating_point()]
    if not images:
        return forward(*args, **kwargs)
    with torch.autocast(images[0].device.type, dtype=_chosen["dtype"]):
        features = forward(*args, **kwargs)
    return _as(features, images[0].dtype)


def _as(value: Any, dtype: Any) -> Any:
    """The floating tensors in ``value`` as ``dtype``."""
    if isinstance(value, (tuple, list)):
        return type(value)([_as(each, dtype) for each in value])
    is_tensor = hasattr(value, "is_floating_point")
    return value.to(dtype) if is_tensor and value.is_floating_point() else value


PATCHES = (
    Patch(
        name="mmdet.resnet_fp16",
        edits=(
            Call("torch", _choose, copies=False),
            Subclasses("torch:nn.Module", match=is_resnet, edits=(Wrap("*:forward", _in_half),)),
        ),
        default=False,
        options={"dtype": "float16"},
    ),
)
