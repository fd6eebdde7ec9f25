"""Activations, resampling, losses and batch statistics."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mx_autopatch import ops
from mx_autopatch.ops import sync_bn
from mx_autopatch.ops.filtered_lrelu import filtered_lrelu_act
from mx_autopatch.verify.check import Arguments, Check
from mx_autopatch.verify.references import activations as plain
from mx_autopatch.verify.source import Source

__all__ = ["CHECKS"]


def _biased(source: Source, n: int) -> Arguments:
    return {"input": source.values(2, 4, n, 5), "bias": source.values(4)}


def _resampled(source: Source, n: int) -> Arguments:
    return {"input": source.values(2, 3, n + 2, 6), "filter": source.values(4, 4), "up": 2,
            "padding": (2, 1, 2, 1)}  # fmt: skip


def _filtered(source: Source, n: int) -> Arguments:
    filters = {"filter_up": source.values(6), "filter_down": source.values(6)}
    return {"input": source.values(2, 4, n + 4, 8), "bias": source.values(4), **filters,
            "up": 2, "down": 2, "padding": 5}  # fmt: skip


def _act(input: Tensor, clamp: float = 256.0) -> Any:
    return filtered_lrelu_act(input, None, (0, 0), 1.5, 0.25, clamp, True)


def _plain_act(input: Tensor, clamp: float = 256.0) -> Any:
    return plain.filtered_lrelu_act(input, 1.5, 0.25, clamp)


def _logits(source: Source, n: int) -> Arguments:
    return {"input": source.values(n, 5), "target": source.whole(6, n), "weight": source.unit(5)}


def _batch(source: Source, n: int) -> Arguments:
    return {"input": source.values(2, 4, n)}


def _moment(source: Source, n: int) -> Arguments:
    return {**_batch(source, n), "mean": source.values(4)}


def _normalised(source: Source, n: int) -> Arguments:
    return {**_moment(source, n), "var": source.unit(4) + 1, "weight": source.values(4),
            "bias": source.values(4), "eps": 1e-5}  # fmt: skip


def _of_parameters(source: Source, n: int) -> Arguments:
    return {"grad_output": source.values(2, 4, n), "norm": source.values(2, 4, n)}


def _of_data(source: Source, n: int) -> Arguments:
    statistics = {key: source.values(4) for key in ("weight", "grad_weight", "grad_bias")}
    return {**_of_parameters(source, n), **statistics, "std": source.unit(4) + 1}


_INPUT = ("input",)
_STATISTICS = ("mean", "var", "weight", "bias", "norm", "grad_weight", "grad_bias", "std")
_ACTS = ("relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")

CHECKS = (
    Check("bias_act", ops.bias_act, plain.bias_act, _biased, ("input", "bias"), _INPUT,
          variants=(*({"act": act} for act in _ACTS), {"clamp": 0.5}),
          loss=4),  # derivatives are of the rounded output
    Check("fused_bias_leakyrelu", ops.fused_bias_leakyrelu, plain.fused_bias_leakyrelu,
          _biased, ("input", "bias"), _INPUT,
          loss=4),  # the bias's gradient sums rounded ones
    Check("upfirdn2d", ops.upfirdn2d, plain.upfirdn2d, _resampled, _INPUT, _INPUT,
          variants=({"flip": True}, {"up": 1, "down": 2}), typical=64),
    # Nothing huge: where that cancels out, the sign is a matter of rounding.
    Check("filtered_lrelu", ops.filtered_lrelu, plain.filtered_lrelu,
          _filtered, ("input", "bias"), _INPUT, huge=(),
          variants=({"clamp": 0.5}, {"flip_filter": True}), typical=64,
          loss=16),  # likewise, of both signs
    Check("filtered_lrelu_act", _act, _plain_act,
          lambda source, n: {"input": source.values(1, 2, n, 16)},
          huge=_INPUT, variants=({"clamp": 0.5},), typical=64),
    Check("sigmoid_focal_loss", ops.sigmoid_focal_loss, plain.sigmoid_focal_loss,
          _logits, _INPUT, ("input",), huge=(),
          variants=({"gamma": 1.5, "alpha": 0.5},)),
    Check("softmax_focal_loss", ops.softmax_focal_loss, plain.softmax_focal_loss,
          _logits, _INPUT, ("input",), huge=(),
          variants=({"gamma": 1.5, "alpha": 0.5},)),
    Check("sync_bn_mean", sync_bn.sync_bn_mean, plain.sync_bn_mean,
          _batch, special=_INPUT, smallest=1),
    Check("sync_bn_var", sync_bn.sync_bn_var, plain.sync_bn_var,
          _moment, special=_INPUT, smallest=1,
          fixed=_STATISTICS),
    Check("sync_bn_output", sync_bn.sync_bn_output, plain.sync_bn_output,
          _normalised, special=_INPUT,
          fixed=_STATISTICS),
    Check("sync_bn_backward_param", sync_bn.sync_bn_backward_param, plain.sync_bn_backward_param,
          _of_parameters,
          special=("grad_output",), fixed=_STATISTICS),
    Check("sync_bn_backward_data", sync_bn.sync_bn_backward_data, plain.sync_bn_backward_data,
          _of_data,
          special=("grad_output",), smallest=1, fixed=_STATISTICS),
)  # fmt: skip
