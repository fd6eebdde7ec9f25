"""Error texts that are known, with their cause and remedy."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Symptom", "recognise"]


@dataclass(frozen=True)
class Symptom:
    """A kind of failure.

    Attributes:
        text: What the error says, as a regular expression.
        cause: Why; groups of the expression may be named in it.
        remedy: What to do where no patch helps.
        patch: The patch that fixes it; empty if none does.
    """

    text: str
    cause: str
    remedy: str = ""
    patch: str = ""

    def told(self, match: re.Match[str]) -> Symptom:
        """The same, about this error."""
        return Symptom(self.text, match.expand(self.cause), match.expand(self.remedy), self.patch)


# The most telling first.
_SYMPTOMS = (
    Symptom(
        r"No module named 'mmcv\._ext'",
        "this mmcv has no compiled operators (mmcv#2059, mmdetection#11475)",
        patch="mmcv.ext",
    ),
    Symptom(
        r"MMCV==(\S+) is used but incompatible\. Please install mmcv(.+?)\.?$",
        r"the package asserts mmcv\2, and mmcv is \1 (mmdetection#12312, mmcv#3071)",
        patch="mmcv.version_gate",
    ),
    Symptom(
        r"(\w+)==(\S+) is used but incompatible\. Please install (.+?)\.?$",
        r"the package asserts \3, and \1 is \2",
        r"pip install '\3'",
    ),
    Symptom(
        r"No module named 'pkg_resources'",
        "setuptools 82 and later have no pkg_resources (mmcv#3325)",
        patch="setuptools.pkg_resources",
    ),
    Symptom(
        r"has no attribute 'ImpImporter'",
        "a setuptools that is too old for Python 3.12 (mmcv#3263)",
        "pip install 'setuptools>=66.1'",
    ),
    Symptom(
        r"module 'numpy' has no attribute '(\w+)'",
        r"numpy 1.24 and later have no numpy.\1 (OpenPCDet#1359, cocoapi#569)",
        patch="numpy.aliases",
    ),
    Symptom(
        r"cannot import name '(\w+)' from 'collections'|"
        r"module 'collections' has no attribute '(\w+)'",
        "Python 3.10 and later have the abstract classes in collections.abc alone",
        patch="python.collections_aliases",
    ),
    Symptom(
        r"numpy\.dtype size changed|_ARRAY_API not found|compiled using NumPy 1|"
        r"numpy\.core\.multiarray failed to import",
        "a compiled module that was built for another numpy",
        "install a build for this numpy (pip install --force-reinstall --no-binary :all: "
        "--no-deps PACKAGE), or pin 'numpy<2'",
    ),
    Symptom(
        r"operator torchvision::\w+ does not exist",
        "this torchvision was built for another torch",
        "install the torchvision that belongs to this torch; for mmcv 1.x none is needed",
    ),
    Symptom(
        r"(\S+\.so\S*): undefined symbol: (\S+)",
        r"\1 was built for another torch: an ABI mismatch (\2)",
        "build it again with this torch, or remove it: mmcv._ext is provided then",
    ),
    Symptom(
        r"lib(ascendcl|hccl|ge_runner|acl_op_compiler|graph)\.so",
        "torch_npu links CANN, which is not on this process's library path",
        "source set_env.sh of the Ascend toolkit; without an NPU, --device soft",
    ),
    Symptom(
        r"libGL\.so\.1|libgthread-2\.0|libglib-2\.0",
        "OpenCV links libraries of the desktop",
        "apt install libgl1 libglib2.0-0, or opencv-python-headless in place of opencv-python",
    ),
    Symptom(
        r"(\S+) is already registered in (.+?) at",
        r"\1 is registered twice (mmengine#1609, mmpretrain#369)",
        "patches.options: mmengine.registry_errors = { override = true }, or a newer mmengine",
    ),
    Symptom(
        r"cannot import name '(\w+)' from partially initialized module '([\w.]+)'",
        r"\2 is imported in a circle (mmdetection#3249)",
        r"import \2 first, or move the import into the function that needs it",
    ),
    Symptom(
        r"No module named '([\w.]+)'",
        r"\1 is not installed",
        r"pip install the distribution that has \1",
    ),
)


def recognise(text: str) -> Symptom:
    """The symptom that an error's text shows; one that says no more than the text if unknown."""
    for symptom in _SYMPTOMS:
        match = re.search(symptom.text, text, re.MULTILINE)
        if match:
            return symptom.told(match)
    return Symptom("", text.strip().rpartition("\n")[2], "not a failure that is known here")
