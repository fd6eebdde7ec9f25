"""Imports tried out in processes of their own: a project's, and those of real packages."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Callable

import pytest
from helpers import device_environment

from mx_autopatch.doctor.diagnosis import FAILS, FIXED, OK
from mx_autopatch.doctor.examine import imports_of, package_health, script_health
from mx_autopatch.doctor.probe import attempt

needs_mmdet = pytest.mark.skipif(not find_spec("mmdet"), reason="needs mmdet")


@pytest.fixture
def project(write: Callable[..., Path]) -> Path:
    return write(
        {
            "train.py": """
                import json
                try:
                    import only_an_option_of_nowhere
                except ImportError:
                    pass
                from inner.models import Model
                def later():
                    import imported_later_of_nowhere
            """,
            "inner/__init__.py": "",
            "inner/models.py": "import numpy\nimport package_of_nowhere\nfrom . import parts\n",
            "inner/parts.py": "from inner import models\n",
            "collected.py": "from collections import Mapping\n",
            "broken.py": "def (\n",
        }
    )


def test_what_a_script_imports_is_followed_through_its_own_modules(project: Path) -> None:
    packages, missing = imports_of(project / "train.py")
    assert packages == ["json", "numpy", "package_of_nowhere"]
    assert missing == {"package_of_nowhere": str(project / "inner" / "models.py")}
    (diagnosis,) = script_health(project / "train.py", {})
    assert (diagnosis.subject, diagnosis.verdict) == ("package_of_nowhere", FAILS)
    with pytest.raises(SyntaxError):
        imports_of(project / "broken.py")


def test_an_import_that_a_patch_lets_pass(project: Path) -> None:
    (diagnosis,) = package_health(["collected"], {})
    assert diagnosis.verdict == FIXED
    assert diagnosis.remedy == "python.collections_aliases"


def test_an_import_that_nothing_lets_pass(project: Path) -> None:
    (diagnosis,) = package_health(["inner.models"], {})
    assert diagnosis.verdict == FAILS
    assert "package_of_nowhere is not installed" in diagnosis.what


def test_an_interpreter_that_dies(write: Callable[..., Path]) -> None:
    write({"deadly.py": "import os, sys\nsys.stderr.write('last words')\nos._exit(3)\n"})
    assert attempt(["deadly"], False, {}).errors == {"deadly": "the interpreter died: last words"}


@needs_mmdet
def test_mmdet_asserts_a_version_and_is_given_one() -> None:
    found = list(package_health(["mmdet"], device_environment(active=True)))
    assert [d.verdict for d in found] == [FIXED]
    assert "the package asserts mmcv>=2.0.0rc4, <2.2.0, and mmcv is 2.2.0" in found[0].what
    assert found[0].remedy == "mmcv.version_gate"


def test_a_package_that_imports(write: Callable[..., Path]) -> None:
    write({"healthy/__init__.py": ""})
    (diagnosis,) = package_health(["healthy"], {})
    assert diagnosis.verdict == OK
