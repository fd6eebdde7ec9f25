"""Which patch is in which file, and what fires it: written by ``make index``.

Read at start-up in place of the patch files themselves.
"""

INDEX: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "flash_attn.provided": (
        "mx_autopatch.patches.flash_attn.provided",
        (
            "flash_attn",
            "flash_attn.flash_attn_interface",
            "flash_attn.bert_padding",
        ),
        True,
    ),
    "flash_attn.provided_modules": (
        "mx_autopatch.patches.flash_attn.provided_modules",
        (
            "flash_attn.flash_attention",
            "flash_attn.modules",
            "flash_attn.modules.mha",
            "flash_attn.layers",
            "flash_attn.layers.rotary",
        ),
        True,
    ),
    "mmcv.carafe_naive": (
        "mx_autopatch.patches.mmcv.carafe_naive",
        ("mmcv.ops.carafe",),
        True,
    ),
    "mmcv.checkpoint_load": (
        "mx_autopatch.patches.mmcv.checkpoint_load",
        ("mmcv.runner.checkpoint",),
        True,
    ),
    "mmcv.ddp": (
        "mx_autopatch.patches.mmcv.ddp",
        ("mmcv.parallel.distributed",),
        True,
    ),
    "mmcv.ddp_forward": (
        "mx_autopatch.patches.mmcv.ddp_forward",
        ("mmcv.parallel.distributed",),
        True,
    ),
    "mmcv.deform_conv2d": (
        "mx_autopatch.patches.mmcv.deform_conv2d",
        ("mmcv.ops.deform_conv",),
        True,
    ),
    "mmcv.ext": (
        "mx_autopatch.patches.mmcv.ext",
        ("mmcv._ext",),
        True,
    ),
    "mmcv.ext_on_npu": (
        "mx_autopatch.patches.mmcv.ext_on_npu",
        ("mmcv._ext",),
        True,
    ),
    "mmcv.iter_resume": (
        "mx_autopatch.patches.mmcv.iter_resume",
        ("mmcv.runner.iter_based_runner",),
        True,
    ),
    "mmcv.modulated_deform_conv2d": (
        "mx_autopatch.patches.mmcv.modulated_deform_conv2d",
        ("mmcv.ops.modulated_deform_conv",),
        True,
    ),
    "mmcv.msda": (
        "mx_autopatch.patches.mmcv.msda",
        ("mmcv.ops.multi_scale_deform_attn",),
        True,
    ),
    "mmcv.nms": (
        "mx_autopatch.patches.mmcv.nms",
        ("mmcv.ops.nms",),
        True,
    ),
    "mmcv.optimizer_hooks": (
        "mx_autopatch.patches.mmcv.optimizer_hooks",
        ("mmcv.runner.hooks.optimizer",),
        True,
    ),
    "mmcv.points_anywhere": (
        "mx_autopatch.patches.mmcv.points_anywhere",
        (
            "mmcv.ops.points_in_boxes",
            "mmcv.ops.furthest_point_sample",
            "mmcv.ops.knn",
        ),
        True,
    ),
    "mmcv.registry_errors": (
        "mx_autopatch.patches.mmcv.registry_errors",
        ("mmcv.utils.registry",),
        True,
    ),
    "mmcv.roi_align": (
        "mx_autopatch.patches.mmcv.roi_align",
        ("mmcv.ops.roi_align",),
        True,
    ),
    "mmcv.sigmoid_focal_loss": (
        "mx_autopatch.patches.mmcv.sigmoid_focal_loss",
        ("mmcv.ops.focal_loss",),
        True,
    ),
    "mmcv.sparse_conv3d": (
        "mx_autopatch.patches.mmcv.sparse_conv3d",
        (
            "mmcv.ops.sparse_conv",
            "mmcv.ops.sparse_ops",
        ),
        True,
    ),
    "mmcv.stream": (
        "mx_autopatch.patches.mmcv.stream",
        ("mmcv.parallel._functions",),
        True,
    ),
    "mmcv.sync_bn": (
        "mx_autopatch.patches.mmcv.sync_bn",
        ("mmcv.ops.sync_bn",),
        True,
    ),
    "mmcv.torchvision_urls": (
        "mx_autopatch.patches.mmcv.torchvision_urls",
        ("mmcv.runner.checkpoint",),
        True,
    ),
    "mmcv.training_steps": (
        "mx_autopatch.patches.mmcv.training_steps",
        ("mmcv.runner.base_runner",),
        True,
    ),
    "mmcv.upfirdn2d": (
        "mx_autopatch.patches.mmcv.upfirdn2d",
        ("mmcv.ops.upfirdn2d",),
        True,
    ),
    "mmcv.version_gate": (
        "mx_autopatch.patches.mmcv.version_gate",
        (
            "mmdet",
            "mmseg",
            "mmdet3d",
            "mmpose",
            "mmpretrain",
            "mmcls",
            "mmrotate",
            "mmyolo",
            "mmaction",
            "mmocr",
            "mmtrack",
            "mmagic",
            "mmedit",
            "mmgen",
            "mmselfsup",
            "mmrazor",
            "mmfewshot",
            "mmhuman3d",
            "mmflow",
            "mmdeploy",
        ),
        True,
    ),
    "mmcv.voxelization": (
        "mx_autopatch.patches.mmcv.voxelization",
        (
            "mmcv.ops.voxelize",
            "mmdet3d.models.data_preprocessors.voxelize",
        ),
        True,
    ),
    "mmdet.pseudo_sampler": (
        "mx_autopatch.patches.mmdet.pseudo_sampler",
        (
            "mmdet.core.bbox.samplers.pseudo_sampler",
            "mmdet.core.bbox.samplers.mask_pseudo_sampler",
            "mmdet.models.task_modules.samplers.pseudo_sampler",
            "mmdet.models.task_modules.samplers.mask_pseudo_sampler",
            "mmdet3d.models.task_modules.samplers.pseudosample",
            "mmdet.models.dense_heads.detr_head",
            "mmdet.models.dense_heads.grounding_dino_head",
        ),
        True,
    ),
    "mmdet.resnet_add_relu": (
        "mx_autopatch.patches.mmdet.resnet_add_relu",
        ("torch",),
        True,
    ),
    "mmdet.resnet_fp16": (
        "mx_autopatch.patches.mmdet.resnet_fp16",
        ("torch",),
        False,
    ),
    "mmdet.resnet_maxpool": (
        "mx_autopatch.patches.mmdet.resnet_maxpool",
        ("torch",),
        True,
    ),
    "mmdet3d.nuscenes_dataset": (
        "mx_autopatch.patches.mmdet3d.nuscenes_dataset",
        (
            "mmdet3d.datasets.nuscenes_dataset",
            "mmdet3d.datasets.nuscenes_mono_dataset",
        ),
        True,
    ),
    "mmdet3d.nuscenes_metric": (
        "mx_autopatch.patches.mmdet3d.nuscenes_metric",
        ("mmdet3d.evaluation.metrics.nuscenes_metric",),
        True,
    ),
    "mmengine.checkpoint_load": (
        "mx_autopatch.patches.mmengine.checkpoint_load",
        ("mmengine.runner.checkpoint",),
        True,
    ),
    "mmengine.ddp": (
        "mx_autopatch.patches.mmengine.ddp",
        (
            "mmengine.dist.utils",
            "mmengine.model.wrappers.distributed",
        ),
        True,
    ),
    "mmengine.optimizer_wrapper": (
        "mx_autopatch.patches.mmengine.optimizer_wrapper",
        ("mmengine.optim.optimizer.optimizer_wrapper",),
        True,
    ),
    "mmengine.registry_errors": (
        "mx_autopatch.patches.mmengine.registry_errors",
        (
            "mmengine.registry.registry",
            "mmengine.registry.build_functions",
        ),
        True,
    ),
    "mmengine.training_steps": (
        "mx_autopatch.patches.mmengine.training_steps",
        (
            "mmengine.runner.runner",
            "mmengine.runner._flexible_runner",
        ),
        True,
    ),
    "mx_driving.patcher": (
        "mx_autopatch.patches.mx_driving.patcher",
        (
            "mx_driving",
            "mx_driving.patcher",
        ),
        True,
    ),
    "numpy.aliases": (
        "mx_autopatch.patches.numpy.aliases",
        ("numpy",),
        True,
    ),
    "projects.bev_pool": (
        "mx_autopatch.patches.projects.bev_pool",
        (
            "*.bev_pool_ext",
            "bev_pool_ext",
        ),
        True,
    ),
    "projects.bev_pool_function": (
        "mx_autopatch.patches.projects.bev_pool_function",
        ("torch.autograd.function",),
        True,
    ),
    "projects.bev_pool_v2": (
        "mx_autopatch.patches.projects.bev_pool_v2",
        (
            "*.bev_pool_v2_ext",
            "bev_pool_v2_ext",
        ),
        True,
    ),
    "projects.bev_pool_v2_function": (
        "mx_autopatch.patches.projects.bev_pool_v2_function",
        ("torch.autograd.function",),
        True,
    ),
    "projects.deformable_aggregation": (
        "mx_autopatch.patches.projects.deformable_aggregation",
        (
            "*.deformable_aggregation_ext",
            "deformable_aggregation_ext",
        ),
        True,
    ),
    "projects.deformable_aggregation_function": (
        "mx_autopatch.patches.projects.deformable_aggregation_function",
        ("torch.autograd.function",),
        True,
    ),
    "projects.ms_deform_attn": (
        "mx_autopatch.patches.projects.ms_deform_attn",
        ("MultiScaleDeformableAttention",),
        True,
    ),
    "projects.ms_deform_attn_function": (
        "mx_autopatch.patches.projects.ms_deform_attn_function",
        ("torch.autograd.function",),
        True,
    ),
    "projects.multihead_attention": (
        "mx_autopatch.patches.projects.multihead_attention",
        (
            "mmengine.model.base_module",
            "mmcv.runner.base_module",
        ),
        True,
    ),
    "projects.rms_norm": (
        "mx_autopatch.patches.projects.rms_norm",
        ("torch.nn.modules.module",),
        True,
    ),
    "projects.swiglu": (
        "mx_autopatch.patches.projects.swiglu",
        ("torch.nn.modules.module",),
        True,
    ),
    "python.collections_aliases": (
        "mx_autopatch.patches.python.collections_aliases",
        ("collections",),
        True,
    ),
    "setuptools.pkg_resources": (
        "mx_autopatch.patches.setuptools.pkg_resources",
        ("pkg_resources",),
        True,
    ),
    "torch.attention_fast_path": (
        "mx_autopatch.patches.torch.attention_fast_path",
        (
            "torch.nn.modules.transformer",
            "torch.nn.modules.activation",
        ),
        True,
    ),
    "torch.autoload_guard": (
        "mx_autopatch.patches.torch.autoload_guard",
        ("torch",),
        True,
    ),
    "torch.batch_matmul": (
        "mx_autopatch.patches.torch.batch_matmul",
        ("torch_npu",),
        True,
    ),
    "torch.device_capability": (
        "mx_autopatch.patches.torch.device_capability",
        ("torch_npu.npu",),
        True,
    ),
    "torch.distributed_backend": (
        "mx_autopatch.patches.torch.distributed_backend",
        (
            "torch.distributed.distributed_c10d",
            "torch.distributed",
        ),
        True,
    ),
    "torch.index": (
        "mx_autopatch.patches.torch.index",
        ("torch_npu",),
        True,
    ),
    "torch.local_rank": (
        "mx_autopatch.patches.torch.local_rank",
        ("torch.distributed.distributed_c10d",),
        True,
    ),
    "torch.multihead_attention": (
        "mx_autopatch.patches.torch.multihead_attention",
        ("torch.nn.functional",),
        True,
    ),
    "torch.optimizers": (
        "mx_autopatch.patches.torch.optimizers",
        (
            "torch.optim.adam",
            "torch.optim.adamw",
            "torch.optim.sgd",
            "torch.optim",
        ),
        True,
    ),
    "torch.rms_norm": (
        "mx_autopatch.patches.torch.rms_norm",
        ("torch_npu",),
        True,
    ),
    "torch.soft_npu": (
        "mx_autopatch.patches.torch.soft_npu",
        (
            "torch",
            "torch_npu",
        ),
        True,
    ),
    "torch.training_steps": (
        "mx_autopatch.patches.torch.training_steps",
        ("torch.optim.optimizer",),
        True,
    ),
    "torch.transfer_to_npu": (
        "mx_autopatch.patches.torch.transfer_to_npu",
        (
            "torch",
            "torch_npu",
            "torch._inductor.autotune_process",
            "torch._inductor.compile_fx",
            "torch._inductor.fx_passes.joint_graph",
            "torch._inductor.fx_passes.post_grad",
            "torch.utils.cpp_extension",
        ),
        True,
    ),
    "torch_scatter.provided": (
        "mx_autopatch.patches.torch_scatter.provided",
        (
            "torch_scatter",
            "torch_scatter.scatter",
            "torch_scatter.segment_coo",
            "torch_scatter.segment_csr",
            "torch_scatter.composite",
            "torch_scatter.composite.logsumexp",
            "torch_scatter.composite.softmax",
            "torch_scatter.composite.std",
            "torch_scatter.utils",
        ),
        True,
    ),
    "transformers.rotary": (
        "mx_autopatch.patches.transformers.rotary",
        (
            "transformers.models.gemma.modeling_gemma",
            "transformers.models.gemma2.modeling_gemma2",
            "transformers.models.granite.modeling_granite",
            "transformers.models.llama.modeling_llama",
            "transformers.models.mistral.modeling_mistral",
            "transformers.models.mixtral.modeling_mixtral",
            "transformers.models.olmoe.modeling_olmoe",
            "transformers.models.persimmon.modeling_persimmon",
            "transformers.models.phi.modeling_phi",
            "transformers.models.qwen2.modeling_qwen2",
            "transformers.models.qwen2_moe.modeling_qwen2_moe",
            "transformers.models.qwen3.modeling_qwen3",
            "transformers.models.qwen3_moe.modeling_qwen3_moe",
            "transformers.models.stablelm.modeling_stablelm",
            "transformers.models.starcoder2.modeling_starcoder2",
        ),
        True,
    ),
    "yapf.format_code": (
        "mx_autopatch.patches.yapf.format_code",
        ("yapf.yapflib.yapf_api",),
        True,
    ),
}
