"""mmcv's and projects' MultiheadAttention without the weights that they throw away, on NPUs.

Why: they write ``self.attn(query=…, key=…, value=…, attn_mask=…, key_padding_mask=…)[0]`` and
     let nn.MultiheadAttention make the weights beside the result: all scores are
     written to memory, batch x heads x queries x keys, averaged over the heads and dropped,
     in every layer of DETR, BEVFormer, PETR and their kin.
How: where ``self.attn`` is an nn.MultiheadAttention and the query is on the device npu,
     ``need_weights=False`` is added to that one call, which so goes through
     scaled_dot_product_attention, npu_fusion_attention there. With bool masks
     torch.multihead_attention sees to that. Elsewhere the call is as written. Any class below
     mmengine's or mmcv 1.x's BaseModule with such a call in its forward, whatever its name:
     mmcv's own, PETR's, those of mmdet's PVT.
     Random numbers of dropout are drawn by another kernel, so training with dropout has the
     same distribution, not the same numbers.
Upstream: mmcv/cnn/bricks/transformer.py, mmcv 1.3 - 2.2.
Remove when: mmcv says need_weights=False.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

from mx_autopatch.model import Patch, Rewrite, Subclasses

#: The names of the arguments -> an edit, for the ways in which it is called.
_WAYS = (
    ("query", "key", "value", "attn_mask", "key_padding_mask"),
    ("query", "key", "value"),
)


def _attend(attention: Any, **given: Any) -> Any:
    if given["query"].device.type == "npu":
        from torch import nn

        torchs = type(attention).forward is nn.MultiheadAttention.forward
        if torchs and not attention._forward_hooks:  # which may look at the weights
            given["need_weights"] = False
    return attention(**given)[0]


def _calls(cls: type) -> list[tuple[str, ...]]:
    """The names of the arguments of each call ``self.attn(...)[0]`` in the class's forward."""
    forward = inspect.unwrap(vars(cls)["forward"]) if "forward" in vars(cls) else None
    # Most classes are told by this, without their source.
    if "attn" not in getattr(getattr(forward, "__code__", None), "co_names", ()):
        return []
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(forward)))  # type: ignore[arg-type]
    except (OSError, TypeError, SyntaxError):
        return []
    return [
        tuple(keyword.arg or "" for keyword in node.value.keywords)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Call)
        and not node.value.args
        and ast.unparse(node.value.func) == "self.attn"
        and ast.unparse(node.slice) == "0"
    ]


def _edits(base: str, way: tuple[str, ...]) -> Subclasses:
    def throws_weights_away(cls: type) -> bool | str:
        found = _calls(cls).count(way) == 1
        return f"it drops the weights of self.attn({', '.join(way)})" if found else False

    arguments = ", ".join(f"{name}=${name}" for name in way)
    call = Rewrite(
        "*:forward",
        find=f"self.attn({arguments})[0]",
        replace=f"_attend(self.attn, {arguments})",
        names={"_attend": _attend},
    )
    return Subclasses(base, match=throws_weights_away, edits=(call,))


PATCHES = (
    Patch(
        name="projects.multihead_attention",
        edits=tuple(
            _edits(base, way)
            for base in (
                "mmengine.model.base_module:BaseModule",
                "mmcv.runner.base_module:BaseModule",
            )
            for way in _WAYS
        ),
        requires=("device:npu", "module:torch"),
    ),
)
