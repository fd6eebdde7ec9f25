"""Pseudo samplers without ``unique``, on NPUs.

Why: the indices of positive and negative priors are ``nonzero(...).squeeze(-1).unique()``.
     Those of nonzero are in order and each there once, so unique changes nothing; on an NPU
     it sorts, and the host waits for the length of its result: four times an image in place
     of twice.
How: ``unique()`` is left out, in the samplers and in the heads of DETR's kind that do the
     same in place. The results are indices, as before: a bool mask, which mx_driving hands on
     in their place, has as many elements as there are priors, so that heads that count
     positives by ``numel()`` divide their losses by another number.
Upstream: mmdet/core/bbox/samplers (2.x), mmdet/models/task_modules/samplers (3.x),
     mmdet3d/models/task_modules/samplers/pseudosample.py (1.1 - 1.4).
Remove when: they do without unique.
"""

from __future__ import annotations

from mx_autopatch.model import Context, Patch, Rewrite, When


def _without_unique(target: str) -> Rewrite:
    return Rewrite(
        target,
        find="torch.nonzero($chosen, as_tuple=False).squeeze(-1).unique()",
        replace="torch.nonzero($chosen, as_tuple=False).squeeze(-1)",
        count=2,
    )


_MMDET2 = "mmdet.core.bbox.samplers"
_MMDET3 = "mmdet.models.task_modules.samplers"
_HEADS = "mmdet.models.dense_heads"


def _samples_itself(context: Context) -> bool | str:
    return hasattr(context.module.DETRHead, "_get_targets_single") or (
        "in this release it samples by a sampler"
    )


PATCHES = (
    Patch(
        name="mmdet.pseudo_sampler",
        edits=(
            _without_unique(f"{_MMDET2}.pseudo_sampler:PseudoSampler.sample"),
            _without_unique(f"{_MMDET2}.mask_pseudo_sampler:MaskPseudoSampler.sample"),
            _without_unique(f"{_MMDET3}.pseudo_sampler:PseudoSampler.sample"),
            _without_unique(f"{_MMDET3}.mask_pseudo_sampler:MaskPseudoSampler.sample"),
            _without_unique(
                "mmdet3d.models.task_modules.samplers.pseudosample:PseudoSampler.sample"
            ),
            When(
                edit=_without_unique(f"{_HEADS}.detr_head:DETRHead._get_targets_single"),
                condition=_samples_itself,
            ),
            _without_unique(f"{_HEADS}.grounding_dino_head:GroundingDINOHead._get_targets_single"),
        ),
        requires=("device:npu",),
    ),
)
