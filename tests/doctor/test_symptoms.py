"""Error texts as the packages write them."""

from __future__ import annotations

import pytest

from mx_autopatch.doctor.symptoms import _SYMPTOMS, recognise
from mx_autopatch.patches.index import INDEX

#: What users report, with a word of the cause, and of the remedy or the patch.
REPORTED = [
    ("No module named 'mmcv._ext'", "no compiled operators", "mmcv.ext"),
    (
        "AssertionError: MMCV==2.2.0 is used but incompatible. "
        "Please install mmcv>=2.0.0rc4, <2.2.0.",
        "asserts mmcv>=2.0.0rc4, <2.2.0, and mmcv is 2.2.0",
        "mmcv.version_gate",
    ),
    (
        "AssertionError: MMEngine==1.2.0 is used but incompatible. "
        "Please install mmengine>=0.7.1, <1.0.0.",
        "asserts mmengine>=0.7.1, <1.0.0, and MMEngine is 1.2.0",
        "pip install 'mmengine>=0.7.1, <1.0.0'",
    ),
    ("No module named 'pkg_resources'", "setuptools 82", "setuptools.pkg_resources"),
    ("module 'pkgutil' has no attribute 'ImpImporter'. Did you mean: 'zipimporter'?", "3.12", "66"),
    ("module 'numpy' has no attribute 'bool'.", "no numpy.bool", "numpy.aliases"),
    (
        "cannot import name 'Mapping' from 'collections' (/usr/lib/collections/__init__.py)",
        "collections.abc",
        "python.collections_aliases",
    ),
    (
        "numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header",
        "another numpy",
        "numpy<2",
    ),
    ("operator torchvision::nms does not exist", "another torch", "torchvision"),
    (
        "ImportError: /x/mmcv/_ext.cpython-311-x86_64-linux-gnu.so: undefined symbol: _ZN3c104impl",
        "ABI mismatch (_ZN3c104impl)",
        "build it again",
    ),
    (
        "libascendcl.so: cannot open shared object file: No such file or directory",
        "CANN",
        "set_env.sh",
    ),
    ("libGL.so.1: cannot open shared object file", "desktop", "libgl1"),
    (
        "KeyError: 'Adafactor is already registered in optimizer at torch.optim'",
        "registered twice",
        "override",
    ),
    (
        "cannot import name 'Head' from partially initialized module 'plug.heads' "
        "(most likely due to a circular import)",
        "plug.heads is imported in a circle",
        "import plug.heads first",
    ),
    ("ModuleNotFoundError: No module named 'ftfy'", "ftfy is not installed", "ftfy"),
]


@pytest.mark.parametrize(("text", "cause", "remedy"), REPORTED, ids=lambda value: value[:24])
def test_a_known_text(text: str, cause: str, remedy: str) -> None:
    symptom = recognise(text)
    assert cause in symptom.cause
    assert remedy in (symptom.patch or symptom.remedy)
    assert bool(symptom.patch) is not bool(symptom.remedy)


def test_every_symptom_has_been_reported() -> None:
    shown = {recognise(text).text for text, _, _ in REPORTED}
    assert shown == {symptom.text for symptom in _SYMPTOMS}


def test_the_patches_exist() -> None:
    assert {symptom.patch for symptom in _SYMPTOMS} - {""} <= set(INDEX)


def test_an_unknown_text_is_repeated() -> None:
    symptom = recognise("Traceback\n  frames\nValueError: something else")
    assert symptom.cause == "ValueError: something else"
    assert symptom.patch == ""
