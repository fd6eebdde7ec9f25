"""Verdicts on versions, over sets of versions as users have them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mx_autopatch.doctor.diagnosis import FAILS, FIXED, NOTE, OK
from mx_autopatch.doctor.versions import pairs, runtime
from mx_autopatch.patches.index import INDEX


def verdicts(function: object, *more: object, **versions: str) -> dict[str, tuple[str, str]]:
    known = {name.replace("_", "-"): version for name, version in versions.items()}
    return {d.subject: (d.verdict, d.remedy) for d in function(known.get, *more)}  # type: ignore[operator]


def test_torch_npu_belongs_to_one_torch() -> None:
    found = verdicts(pairs, lambda: True, torch="2.13.0+cpu", torch_npu="2.13.0.post1")
    assert found["torch_npu"] == (OK, "")
    found = verdicts(pairs, lambda: False, torch="2.12.0", torch_npu="2.13.0.post1")
    assert found["torch_npu"][0] == FAILS
    assert "pip install 'torch==2.13.0'" in found["torch_npu"][1]
    assert found["CANN"][0] == NOTE
    assert verdicts(pairs, lambda: True)["torch"] == (FAILS, "pip install torch")


def test_one_mmcv_at_a_time() -> None:
    found = verdicts(pairs, lambda: True, torch="2.1", mmcv="2.1.0", mmcv_lite="2.2.0")
    assert found["mmcv"][0] == FAILS
    assert "pip uninstall mmcv mmcv-lite" in found["mmcv"][1]


def test_a_package_that_is_on_the_path_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("one", "two"):
        package = tmp_path / folder / "mmpose"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "one"), str(tmp_path / "two")])
    assert verdicts(pairs, lambda: True, torch="2.1")["mmpose"][0] == NOTE


def test_what_fails_later_than_at_the_import() -> None:
    found = verdicts(
        runtime, torch="2.13.0", mmcv="1.7.2", mmengine="0.8.4", yapf="0.43.0", setuptools="82.0"
    )
    assert found == {
        "torch.load": (FIXED, "mmengine.checkpoint_load"),
        "--local-rank": (FIXED, "torch.local_rank"),
        "yapf": (FIXED, "yapf.format_code"),
        "mmcv": (FIXED, "mmcv.ddp, mmcv.stream"),
        "pkg_resources": (FIXED, "setuptools.pkg_resources"),
    }
    patches = {name for _, remedy in found.values() for name in remedy.split(", ")}
    assert patches <= set(INDEX)


def test_a_set_of_versions_that_fits() -> None:
    found = verdicts(
        runtime, torch="1.13.1", mmcv="2.0.1", mmengine="0.10.7", yapf="0.40.1", setuptools="69.5"
    )
    assert found == {}


def test_adafactor_of_two_libraries() -> None:
    versions = {"torch": "2.5.1", "transformers": "4.40", "setuptools": "70"}
    assert verdicts(runtime, mmengine="0.10.4", **versions)["mmengine"][0] == FAILS
    assert "mmengine" not in verdicts(runtime, mmengine="0.10.5", **versions)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="about Python 3.12")
def test_setuptools_of_before_python_3_12() -> None:
    assert verdicts(runtime, setuptools="65.5")["setuptools"][0] == FAILS
