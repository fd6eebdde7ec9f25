"""Activations with their first two derivatives, in forms in which nothing overflows."""

from __future__ import annotations

from typing import Callable, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, softplus

__all__ = ["ACTIVATIONS", "Activation"]

_SELU_SCALE = 1.0507009873554804934193349852946
_SELU_ALPHA = 1.6732632423543772848170429916717


class Activation(NamedTuple):
    """Functions of a tensor and alpha.

    The derivatives are functions of the value of the activation, or, with ``of_input``, of
    its argument.
    """

    value: Callable[[Tensor, float], Tensor]
    slope: Callable[[Tensor, float], Tensor]
    curve: Callable[[Tensor, float], Tensor]
    of_input: bool = False


def _zero(y: Tensor, alpha: float) -> Tensor:
    return torch.zeros_like(y)


def _selu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x >= 0, x, _SELU_ALPHA * x.clamp(max=0).expm1()) * _SELU_SCALE


def _swish_slope(x: Tensor, alpha: float) -> Tensor:
    s = x.sigmoid()
    return s * (1 + x * (-x).sigmoid())


def _swish_curve(x: Tensor, alpha: float) -> Tensor:
    s, rest = x.sigmoid(), (-x).sigmoid()
    return s * rest * (2 + x * (rest - s))


ACTIVATIONS = {
    "linear": Activation(lambda x, a: x, lambda y, a: torch.ones_like(y), _zero),
    "relu": Activation(lambda x, a: x.relu(), lambda y, a: (y > 0).to(y.dtype), _zero),
    "lrelu": Activation(
        # A fortieth of the time of torch.where.
        lambda x, a: leaky_relu(x, a),
        lambda y, a: torch.ops.aten.leaky_relu_backward(torch.ones_like(y), y, a, False),
        _zero,
    ),
    "tanh": Activation(
        lambda x, a: x.tanh(),
        lambda y, a: 1 - y * y,
        lambda y, a: (1 - y * y) * (-2 * y),
    ),
    "sigmoid": Activation(
        lambda x, a: x.sigmoid(),
        lambda y, a: y * (1 - y),
        lambda y, a: y * (1 - y) * (1 - 2 * y),
    ),
    "elu": Activation(
        lambda x, a: torch.where(x >= 0, x, x.clamp(max=0).expm1()),
        lambda y, a: torch.where(y >= 0, 1, y + 1),
        lambda y, a: torch.where(y >= 0, 0, y + 1),
    ),
    "selu": Activation(
        _selu,
        lambda y, a: torch.where(y >= 0, _SELU_SCALE, y + _SELU_SCALE * _SELU_ALPHA),
        lambda y, a: torch.where(y >= 0, 0, y + _SELU_SCALE * _SELU_ALPHA),
    ),
    "softplus": Activation(
        # Without torch's threshold, above which it takes the argument itself.
        lambda x, a: softplus(x, threshold=80),
        lambda y, a: -(-y).expm1(),
        lambda y, a: (-y).exp() * -(-y).expm1(),
    ),
    "swish": Activation(lambda x, a: x * x.sigmoid(), _swish_slope, _swish_curve, True),
}
