"""Version conditions, capabilities and functions."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from mx_autopatch.device import is_device
from mx_autopatch.engine.requires import Requirements


@pytest.fixture
def requirements() -> Requirements:
    loaded = {"pretend": "9.9", "unversioned": "main"}
    return Requirements({"device": lambda name: is_device(name, "npu")}, loaded.get)


@pytest.mark.parametrize(
    ("requirement", "why"),
    [
        ("packaging>=1", ""),
        ("packaging>=1,!=0.5", ""),
        ("packaging", ""),
        ("python>=3.9", ""),
        ("pretend>=9", ""),
        ("module:json", ""),
        ("module:json.decoder", ""),
        ("device:npu", ""),
        (lambda: True, ""),
        ("packaging<1", "requires packaging<1, found "),
        ("python<3.9", "requires python<3.9, found 3."),
        ("pretend>=9.9", ""),
        ("pretend>=9.9rc1", ""),
        ("pretend>=9.9.post1", "requires pretend>=9.9.post1, found 9.9"),
        ("pretend>=10", "requires pretend>=10, found 9.9"),
        ("no-such-thing>=1", "requires no-such-thing>=1: not installed"),
        ("module:no_such_thing", "requires the module no_such_thing, which is not importable"),
        ("module:no_such.thing", "requires the module no_such.thing: No module named 'no_such'"),
        ("device:cuda", "requires the device cuda, this run is for npu"),
        ("colour:blue", "requires colour:blue: unknown capability 'colour'"),
        ("unversioned>=1", "requires unversioned>=1, found 'main', which is no version"),
        ("torch => 2", "requires 'torch => 2': "),
        ("torch>=2x", "requires 'torch>=2x': "),
        (lambda: "it is Tuesday", "it is Tuesday"),
        (lambda: False, "requires <lambda>"),
    ],
)
def test_requirements(requirements: Requirements, requirement: Any, why: str) -> None:
    verdict = requirements.unmet((requirement,))
    assert verdict.startswith(why)
    assert bool(verdict) is bool(why)


def test_the_first_that_fails_is_told(requirements: Requirements) -> None:
    assert requirements.unmet(("python>=3", "pretend<1", "nowhere")) == (
        "requires pretend<1, found 9.9"
    )


def test_an_import_name_finds_its_distribution(requirements: Requirements) -> None:
    # Distribution pytest-timeout installs the module pytest_timeout: neither a
    # distribution of that name nor, here, a loaded module with a version.
    import importlib_metadata

    expected = importlib_metadata.version("pytest-timeout")
    assert requirements.version("pytest_timeout") == expected
    assert requirements.version("_pytest") == importlib_metadata.version("pytest")


def test_prereleases_count(monkeypatch: Any) -> None:
    fake = types.ModuleType("fake_release")
    fake.__version__ = "2.0.0rc4"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_release", fake)
    requirements = Requirements(
        {}, lambda name: getattr(sys.modules.get(name), "__version__", None)
    )
    assert requirements.unmet(("fake_release>=2.0.0rc1",)) == ""
