"""Reference implementations of torch_npu's own operators, from their documented contracts."""

from __future__ import annotations

from mx_autopatch.softnpu.npu import (  # noqa: F401  each files its references
    activation,
    attention,
    attention_fused_infer,
    attention_infer,
    attention_versions,
    boxes,
    casts,
    coding,
    convolution,
    deformable,
    derivatives,
    dropout,
    experts,
    grouped,
    linear,
    norm,
    optim,
    quantised,
    roi,
    rotary,
    rotated,
    softmax,
    suppression,
    tensors,
)
from mx_autopatch.softnpu.npu.native import COMPOSITE, NATIVE
from mx_autopatch.softnpu.npu.reference import REFERENCES, kernel_for
from mx_autopatch.softnpu.npu.refusals import why_refused

__all__ = ["COMPOSITE", "NATIVE", "REFERENCES", "kernel_for", "why_refused"]
