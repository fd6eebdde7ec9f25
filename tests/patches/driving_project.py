"""The files of a driving project with compiled operators of its own, as such projects are written.

Each of the four packages below ``ops`` has its autograd.Function in Python, and imports the
extension that the setup.py beside it would have compiled.
"""

from __future__ import annotations

BEV_POOL = """
    import torch

    from . import bev_pool_ext

    class QuickCumsumCuda(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, geom_feats, ranks, B, D, H, W):
            first = torch.ones(x.shape[0], device=x.device, dtype=torch.bool)
            first[1:] = ranks[1:] != ranks[:-1]
            starts = torch.where(first)[0].int()
            lengths = torch.zeros_like(starts)
            lengths[:-1] = starts[1:] - starts[:-1]
            lengths[-1] = x.shape[0] - starts[-1]
            geom_feats = geom_feats.int()
            out = bev_pool_ext.bev_pool_forward(x, geom_feats, lengths, starts, B, D, H, W)
            ctx.save_for_backward(starts, lengths, geom_feats)
            ctx.saved_shapes = B, D, H, W
            return out

        @staticmethod
        def backward(ctx, out_grad):
            starts, lengths, geom_feats = ctx.saved_tensors
            grad = bev_pool_ext.bev_pool_backward(
                out_grad.contiguous(), geom_feats, lengths, starts, *ctx.saved_shapes
            )
            return grad, None, None, None, None, None, None

    def bev_pool(feats, coords, B, D, H, W):
        assert feats.shape[0] == coords.shape[0]
        ranks = coords[:, 0] * (W * D * B) + coords[:, 1] * (D * B) + coords[:, 2] * B
        ranks = ranks + coords[:, 3]
        order = ranks.argsort()
        x = QuickCumsumCuda.apply(feats[order], coords[order], ranks[order], B, D, H, W)
        return x.permute(0, 4, 1, 2, 3).contiguous()
"""

BEV_POOL_V2 = """
    import torch

    from . import bev_pool_v2_ext

    class QuickCumsumCuda(torch.autograd.Function):
        @staticmethod
        def forward(ctx, depth, feat, ranks_depth, ranks_feat, ranks_bev,
                    bev_feat_shape, interval_starts, interval_lengths):
            ranks_bev = ranks_bev.int()
            depth, feat = depth.contiguous().float(), feat.contiguous().float()
            ranks_depth, ranks_feat = ranks_depth.contiguous().int(), ranks_feat.contiguous().int()
            out = feat.new_zeros(bev_feat_shape)
            bev_pool_v2_ext.bev_pool_v2_forward(
                depth, feat, out, ranks_depth, ranks_feat, ranks_bev,
                interval_lengths.contiguous().int(), interval_starts.contiguous().int(),
            )
            ctx.save_for_backward(ranks_bev, depth, feat, ranks_feat, ranks_depth)
            return out

        @staticmethod
        def backward(ctx, out_grad):
            ranks_bev, depth, feat, ranks_feat, ranks_depth = ctx.saved_tensors
            order = ranks_feat.argsort()
            ranks_feat, ranks_depth = ranks_feat[order], ranks_depth[order]
            ranks_bev = ranks_bev[order]
            first = torch.ones(ranks_bev.shape[0], device=ranks_bev.device, dtype=torch.bool)
            first[1:] = ranks_feat[1:] != ranks_feat[:-1]
            starts = torch.where(first)[0].int()
            lengths = torch.zeros_like(starts)
            lengths[:-1] = starts[1:] - starts[:-1]
            lengths[-1] = ranks_bev.shape[0] - starts[-1]
            depth_grad, feat_grad = depth.new_zeros(depth.shape), feat.new_zeros(feat.shape)
            bev_pool_v2_ext.bev_pool_v2_backward(
                out_grad.contiguous(), depth_grad, feat_grad, depth, feat,
                ranks_depth, ranks_feat, ranks_bev, lengths, starts,
            )
            return depth_grad, feat_grad, None, None, None, None, None, None

    def bev_pool_v2(depth, feat, ranks_depth, ranks_feat, ranks_bev, shape, starts, lengths):
        args = ranks_depth, ranks_feat, ranks_bev, shape, starts, lengths
        return QuickCumsumCuda.apply(depth, feat, *args).permute(0, 4, 1, 2, 3).contiguous()
"""

DEFORMABLE_AGGREGATION = """
    import torch
    from torch.autograd.function import Function, once_differentiable

    from . import deformable_aggregation_ext

    class DeformableAggregationFunction(Function):
        @staticmethod
        def forward(
            ctx, mc_ms_feat, spatial_shape, scale_start_index, sampling_location, weights
        ):
            tensors = (
                mc_ms_feat.contiguous().float(), spatial_shape.contiguous().int(),
                scale_start_index.contiguous().int(), sampling_location.contiguous().float(),
                weights.contiguous().float(),
            )
            output = deformable_aggregation_ext.deformable_aggregation_forward(*tensors)
            ctx.save_for_backward(*tensors)
            return output

        @staticmethod
        @once_differentiable
        def backward(ctx, grad_output):
            feat, shape, start, location, weights = ctx.saved_tensors
            grads = [torch.zeros_like(t) for t in (feat, location, weights)]
            deformable_aggregation_ext.deformable_aggregation_backward(
                feat, shape, start, location, weights, grad_output.contiguous(), *grads
            )
            return grads[0], None, None, grads[1], grads[2]

    def deformable_aggregation_function(
        feature_maps, spatial_shape, scale_start_index, sampling_location, weights
    ):
        tables = spatial_shape, scale_start_index
        return DeformableAggregationFunction.apply(
            feature_maps, *tables, sampling_location, weights
        )
"""

# The files of BEVFormer and its kin, which call mmcv's extension past mmcv's own Function.
MS_DEFORM_ATTN = """
    import torch
    from mmcv.utils import ext_loader
    from torch.autograd.function import Function, once_differentiable
    from torch.cuda.amp import custom_bwd, custom_fwd

    ext_module = ext_loader.load_ext(
        '_ext', ['ms_deform_attn_backward', 'ms_deform_attn_forward'])
"""

for _name, _dtype in (("fp16", "float16"), ("fp32", "float32")):
    MS_DEFORM_ATTN += f"""
    class MultiScaleDeformableAttnFunction_{_name}(Function):
        @staticmethod
        @custom_fwd(cast_inputs=torch.{_dtype})
        def forward(ctx, value, value_spatial_shapes, value_level_start_index,
                    sampling_locations, attention_weights, im2col_step):
            ctx.im2col_step = im2col_step
            tensors = (value, value_spatial_shapes, value_level_start_index,
                       sampling_locations, attention_weights)
            ctx.save_for_backward(*tensors)
            return ext_module.ms_deform_attn_forward(*tensors, im2col_step=ctx.im2col_step)

        @staticmethod
        @once_differentiable
        @custom_bwd
        def backward(ctx, grad_output):
            value, shapes, starts, locations, weights = ctx.saved_tensors
            grads = [torch.zeros_like(t) for t in (value, locations, weights)]
            ext_module.ms_deform_attn_backward(
                value, shapes, starts, locations, weights, grad_output.contiguous(),
                *grads, im2col_step=ctx.im2col_step)
            return grads[0], None, None, grads[1], grads[2], None
"""

# Deformable DETR, Mask2Former and their kin.
MSDA = """
    import torch
    from torch.autograd import Function
    from torch.autograd.function import once_differentiable

    import MultiScaleDeformableAttention as MSDA

    class MSDeformAttnFunction(Function):
        @staticmethod
        def forward(ctx, value, value_spatial_shapes, value_level_start_index,
                    sampling_locations, attention_weights, im2col_step):
            ctx.im2col_step = im2col_step
            tensors = (value, value_spatial_shapes, value_level_start_index,
                       sampling_locations, attention_weights)
            ctx.save_for_backward(*tensors)
            return MSDA.ms_deform_attn_forward(*tensors, ctx.im2col_step)

        @staticmethod
        @once_differentiable
        def backward(ctx, grad_output):
            value, location, weight = MSDA.ms_deform_attn_backward(
                *ctx.saved_tensors, grad_output, ctx.im2col_step)
            return value, None, None, location, weight, None
"""

FILES = {
    "projects/__init__.py": "",
    "projects/plugin/__init__.py": "",
    "projects/plugin/ops/__init__.py": """
        from .bev_pool import bev_pool
        from .bev_pool_v2.bev_pool import bev_pool_v2
        from .deformable_aggregation import DeformableAggregationFunction
    """,
    "projects/plugin/ops/bev_pool/__init__.py": "from .bev_pool import bev_pool\n",
    "projects/plugin/ops/bev_pool/bev_pool.py": BEV_POOL,
    "projects/plugin/ops/bev_pool_v2/__init__.py": "",
    "projects/plugin/ops/bev_pool_v2/bev_pool.py": BEV_POOL_V2,
    "projects/plugin/ops/deformable_aggregation.py": DEFORMABLE_AGGREGATION,
    "projects/plugin/multi_scale_deformable_attn_function.py": MS_DEFORM_ATTN,
    "projects/plugin/ms_deform_attn_func.py": MSDA,
}

# The compiled extensions, where they are there and load, but have kernels for CUDA alone.
_REFUSES = """
    def __getattr__(name):
        if name.startswith("__"):
            raise AttributeError(name)

        def function(first, *rest):
            raise RuntimeError(f"{name}: not compiled for {first.device.type}")

        return function
"""

COMPILED = {
    f"{path}.py": _REFUSES
    for path in (
        "projects/plugin/ops/bev_pool/bev_pool_ext",
        "projects/plugin/ops/bev_pool_v2/bev_pool_v2_ext",
        "projects/plugin/ops/deformable_aggregation_ext",
        "MultiScaleDeformableAttention",
    )
}
