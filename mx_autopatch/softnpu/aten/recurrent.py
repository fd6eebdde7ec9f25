"""The cells of LSTM and GRU in one operator each, which torch has for GPUs alone.

torch composes ``lstm`` and ``gru`` of these on every device that is not a CPU. Gates are
(batch, gates x hidden), in the order of torch.nn.LSTM (input, forget, cell, output) and
torch.nn.GRU (reset, update, new); the workspace holds what the backward operator needs.
Source: the equations in the documentation of torch.nn.LSTMCell and torch.nn.GRUCell.
"""

from __future__ import annotations

from typing import Any, Callable

import torch
from torch import Tensor

__all__ = ["FUNCTIONS"]


def _with(gates: Tensor, bias: Tensor | None) -> Tensor:
    return gates if bias is None else gates + bias


def lstm_cell(
    input_gates: Tensor,
    hidden_gates: Tensor,
    cx: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The next hidden and cell state, and the four gates after their activations."""
    gates = _with(input_gates, input_bias) + _with(hidden_gates, hidden_bias)
    into, forget, cell, out = gates.chunk(4, 1)
    into, forget, cell, out = into.sigmoid(), forget.sigmoid(), cell.tanh(), out.sigmoid()
    cy = forget * cx + into * cell
    return out * cy.tanh(), cy, torch.cat((into, forget, cell, out), 1)


def lstm_cell_backward(
    grad_hy: Tensor | None,
    grad_cy: Tensor | None,
    cx: Tensor,
    cy: Tensor,
    workspace: Tensor,
    has_bias: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of the gates, of ``cx`` and of the bias."""
    if grad_hy is None and grad_cy is None:
        return None, None, None
    into, forget, cell, out = workspace.chunk(4, 1)
    squashed = cy.tanh()
    to_hidden = torch.zeros_like(cy) if grad_hy is None else grad_hy
    to_cell = to_hidden * out * (1 - squashed.square())
    if grad_cy is not None:
        to_cell = to_cell + grad_cy
    gates = torch.cat(
        (
            to_cell * cell * into * (1 - into),
            to_cell * cx * forget * (1 - forget),
            to_cell * into * (1 - cell.square()),
            to_hidden * squashed * out * (1 - out),
        ),
        1,
    )
    return gates, to_cell * forget, gates.sum(0) if has_bias else None


def gru_cell(
    input_gates: Tensor,
    hidden_gates: Tensor,
    hx: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The next hidden state; and reset, update, new, ``hx`` and the hidden part of new."""
    input_reset, input_update, input_new = _with(input_gates, input_bias).chunk(3, 1)
    hidden_reset, hidden_update, hidden_new = _with(hidden_gates, hidden_bias).chunk(3, 1)
    reset = (input_reset + hidden_reset).sigmoid()
    update = (input_update + hidden_update).sigmoid()
    new = (input_new + reset * hidden_new).tanh()
    workspace = torch.cat((reset, update, new, hx, hidden_new), 1)
    return new + update * (hx - new), workspace


def gru_cell_backward(
    grad_hy: Tensor, workspace: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """The gradients of input gates, hidden gates, ``hx``, and of the two biases."""
    reset, update, new, hx, hidden_new = workspace.chunk(5, 1)
    to_new = grad_hy * (1 - update) * (1 - new.square())
    to_update = grad_hy * (hx - new) * update * (1 - update)
    to_reset = to_new * hidden_new * reset * (1 - reset)
    input_gates = torch.cat((to_reset, to_update, to_new), 1)
    hidden_gates = torch.cat((to_reset, to_update, to_new * reset), 1)
    biases = (input_gates.sum(0), hidden_gates.sum(0)) if has_bias else (None, None)
    return input_gates, hidden_gates, grad_hy * update, *biases


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "aten::_thnn_fused_lstm_cell": lstm_cell,
    "aten::_thnn_fused_lstm_cell_backward_impl": lstm_cell_backward,
    "aten::_thnn_fused_gru_cell": gru_cell,
    "aten::_thnn_fused_gru_cell_backward": gru_cell_backward,
}
