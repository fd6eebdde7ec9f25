"""A virtual ``mmcv._ext`` where no compiled one can be imported.

Why: mmcv-lite has every file of mmcv.ops but not the extension they load, and mmcv's
     wheels exist for a few old versions of torch only: ``No module named 'mmcv._ext'``
     (mmcv#2059, mmdetection#11475), or an undefined symbol at its import.
How: the module is provided by mx_autopatch.mmcv_ext, in the calling convention of the
     compiled one, on portable torch operators. A compiled one that loads is left alone.
Upstream: mmcv/ops/csrc/pytorch/pybind.cpp, mmcv 1.3 - 2.2.
Remove when: mmcv ships its operators without a compiler for current torch.
"""

from mx_autopatch.model import Patch, Provide

PATCHES = (
    Patch(
        name="mmcv.ext",
        edits=(Provide("mmcv._ext", source="mx_autopatch.mmcv_ext"),),
        requires=("module:torch",),
    ),
)
