"""A configuration that changes while it is in force, and patches that depend on it."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from mx_autopatch import ConfigError, PatchError, bootstrap
from mx_autopatch.model import Patch, Replace

PATCH = Patch(
    "lib.f",
    (Replace("lib_of_reconfigure:f", lambda: "new"),),
    requires=("configured:brake,mmcv.version",),
)


def test_a_requirement_is_decided_anew(write: Any, engine: Any) -> None:
    write({"lib_of_reconfigure.py": "def f():\n    return 'old'\n"})
    report = engine(PATCH)
    lib = importlib.import_module("lib_of_reconfigure")
    (outcome,) = report()
    assert (str(outcome.status), lib.f()) == ("UNMET", "old")
    assert outcome.reason == "brake or mmcv.version would have to be set"

    bootstrap.reconfigure({"brake": 0}, "a test")  # 0 is a value
    assert lib.f() == "old"
    bootstrap.reconsider(["lib.f", "lib.unknown"])
    (outcome,) = report()
    assert (str(outcome.status), lib.f()) == ("LATE", "new")

    bootstrap.reconsider(["lib.f"])  # it is in force, and stays so
    (outcome,) = report()
    assert (str(outcome.status), lib.f()) == ("LATE", "new")
    bootstrap.deactivate()
    assert lib.f() == "old"


def test_a_trigger_that_comes_later_meets_the_new_configuration(write: Any, engine: Any) -> None:
    write({"lib_of_reconfigure.py": "def f():\n    return 'old'\n"})
    report = engine(PATCH)
    bootstrap.reconfigure({"mmcv.version": "1.7.2"}, "a test")
    bootstrap.reconsider(["lib.f"])
    assert importlib.import_module("lib_of_reconfigure").f() == "new"
    (outcome,) = report()
    assert str(outcome.status) == "APPLIED"


def test_a_value_that_is_not_valid_changes_nothing(engine: Any) -> None:
    engine(PATCH)
    with pytest.raises(ConfigError, match="a test braek: unknown key; did you mean 'brake'"):
        bootstrap.reconfigure({"profile.level": 1, "braek": 3}, "a test")
    with pytest.raises(ConfigError, match="a test brake: expected a whole number, 0 or more"):
        bootstrap.reconfigure({"profile.level": 1, "brake": -3}, "a test")
    finder = bootstrap.active()
    assert finder is not None
    assert finder.session is not None
    assert finder.session.config.profile_level == 0


def test_without_an_engine() -> None:
    with pytest.raises(PatchError, match=r"who\(\): mx_autopatch is not active"):
        bootstrap.reconfigure({"brake": 3}, "who()")
    with pytest.raises(PatchError, match="mx_autopatch is not active"):
        bootstrap.reconsider([])
