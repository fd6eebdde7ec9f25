"""torch's fast path for transformers in inference, for the devices that have it.

Why: without gradients nn.TransformerEncoderLayer, nn.TransformerEncoder and
     nn.MultiheadAttention take a way of their own, on any device that is CPU, CUDA or a
     registered backend. On an NPU it is none: torch_npu has no kernel for
     ``_transformer_encoder_layer_fwd``, so that the whole layer is copied to the CPU,
     computed there and copied back ("will fall back to run on the CPU"); no nested tensors,
     which the encoder makes of a padding mask, so that it fails ("Could not run
     'aten::_to_copy' with arguments from the 'NestedTensornpu' backend"); and what it has for
     ``_native_multi_head_attention`` is torch's version for the CPU, without fused attention.
How: the name of the backend is taken out of the three lists of devices. An NPU goes
     the way that it goes in training, by scaled_dot_product_attention, which is
     npu_fusion_attention there. Everywhere else nothing changes.
Upstream: torch/nn/modules/transformer.py and activation.py, torch >= 2.1.
Remove when: torch_npu has _transformer_encoder_layer_fwd.
"""

from mx_autopatch.model import Patch, Rewrite

_BACKEND = "torch.utils.backend_registration._privateuse1_backend_name"

_FUNCTIONS = (
    "torch.nn.modules.transformer:TransformerEncoder.forward",
    "torch.nn.modules.transformer:TransformerEncoderLayer.forward",
    "torch.nn.modules.activation:_check_arg_device",
)

PATCHES = (
    Patch(
        name="torch.attention_fast_path",
        edits=tuple(Rewrite(function, find=_BACKEND, replace="'cpu'") for function in _FUNCTIONS),
        requires=("device:npu", "torch>=2.1"),
    ),
)
