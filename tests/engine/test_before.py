"""What is done when a module is about to execute."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Callable

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.errors import PatchError
from mx_autopatch.model import Before, Call, Context, During, NotNeeded, Patch

SEEING = """
    import sys
    SEEN = list(sys.mx_autopatch_log)
    sys.mx_autopatch_log.append("executed")
"""


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    entries: list[str] = []
    monkeypatch.setattr(sys, "mx_autopatch_log", entries, raising=False)
    return entries


def saying(log: list[str], word: str, result: Any = None) -> Callable[[Context], Any]:
    def function(context: Context) -> Any:
        log.append(word)
        return result

    return function


def test_it_comes_before_the_modules_first_line(log: list[str], write: Any, engine: Any) -> None:
    write({"lib.py": SEEING})

    def before(context: Context) -> str:
        assert context.module.__name__ == "lib"
        assert not hasattr(context.module, "SEEN")
        log.append("before")
        return "got ready"

    report = engine(Patch("lib.before", (Before("lib", before),)))
    assert log == []
    assert importlib.import_module("lib").SEEN == ["before"]
    (outcome,) = report()
    assert (outcome.kind, str(outcome.status), outcome.reason) == ("before", "APPLIED", "got ready")


def test_what_it_returns_ends_it_after_the_module_and_before_other_edits(
    log: list[str], write: Any, engine: Any
) -> None:
    write({"lib.py": SEEING})
    edits = (
        Before("lib", saying(log, "first", lambda: log.append("end of first"))),
        Call("lib", saying(log, "call")),
        Before("lib", saying(log, "second", lambda: log.append("end of second"))),
    )
    engine(Patch("lib.before", edits))
    importlib.import_module("lib")
    words = ["first", "second", "executed", "end of second", "end of first", "call"]
    assert log == words
    bootstrap.deactivate()  # what was for that time only is not ended twice
    assert log == words


def test_it_ends_when_the_module_raises(log: list[str], write: Any, engine: Any) -> None:
    write({"bad.py": "raise KeyError('mine')\n"})
    engine(Patch("bad.before", (Before("bad", saying(log, "before", lambda: log.append("end"))),)))
    with pytest.raises(KeyError, match="mine"):
        importlib.import_module("bad")
    assert log == ["before", "end"]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (NotNeeded("nothing to do"), "UNMET", "nothing to do"),
        (LookupError("no such library"), "MISSING", "no such library"),
        (OSError("broken"), "FAILED", "OSError: broken"),
    ],
)
def test_its_own_failure_leaves_the_import_alone(
    write: Any, engine: Any, error: Exception, status: str, reason: str
) -> None:
    write({"lib.py": "X = 1\n"})

    def before(context: Context) -> None:
        raise error

    report = engine(Patch("lib.before", (Before("lib", before),)))
    assert importlib.import_module("lib").X == 1
    (outcome,) = report()
    assert str(outcome.status) == status
    assert outcome.reason.startswith(reason)


def test_a_failure_stops_a_strict_program(write: Any, engine: Any) -> None:
    write({"lib.py": "X = 1\n"})

    def before(context: Context) -> None:
        raise OSError("broken")

    engine(Patch("lib.before", (Before("lib", before),)), strict=True)
    with pytest.raises(PatchError, match="broken"):
        importlib.import_module("lib")


def test_an_end_that_raises_is_a_problem_not_an_error(write: Any, engine: Any) -> None:
    write({"lib.py": "X = 1\n"})

    def end() -> None:
        raise OSError("stuck")

    report = engine(Patch("lib.before", (Before("lib", lambda context: end),)))
    assert importlib.import_module("lib").X == 1
    assert any("stuck" in problem for problem in report().problems)


def test_a_loaded_module_is_too_late(log: list[str], write: Any, engine: Any) -> None:
    write({"lib.py": SEEING})
    importlib.import_module("lib")
    edits = (Before("lib", saying(log, "before")), Call("lib", saying(log, "call")))
    report = engine(Patch("lib.before", edits))
    assert log == ["executed", "call"]
    before, call = report()
    assert str(before.status) == "UNMET"
    assert "lib had executed before mx_autopatch was active" in before.reason
    assert str(call.status) == "LATE"


def test_a_requirement_that_fails_is_said_either_way(
    log: list[str], write: Any, engine: Any
) -> None:
    write({"lib.py": SEEING, "loaded.py": "X = 1\n"})
    importlib.import_module("loaded")
    edits = (Before("lib", saying(log, "before")), Before("loaded", saying(log, "before")))
    report = engine(Patch("lib.before", edits, requires=("module:no_such_module",)))
    importlib.import_module("lib")
    assert log == ["executed"]
    assert {str(o.status) for o in report()} == {"UNMET"}
    assert all("no_such_module" in o.reason for o in report())


def test_reload_does_it_again(log: list[str], write: Any, engine: Any) -> None:
    write({"lib.py": SEEING, "other.py": "VERSION = 1\n"})
    edits = (
        Before("lib", saying(log, "before")),
        During("other:VERSION", module="lib", value=2),
    )
    engine(Patch("lib.before", edits))
    lib = importlib.import_module("lib")
    importlib.reload(lib)
    assert log == ["before", "executed"] * 2


def test_it_wants_a_module_and_a_function() -> None:
    with pytest.raises(PatchError, match="exactly one of function"):
        Before("lib")
    with pytest.raises(PatchError, match="must be callable"):
        Before("lib", "text")
    with pytest.raises(ValueError, match="not a dotted module name"):
        Before("lib:attribute", print)


def test_it_may_return_a_reason_and_an_end(log: list[str], write: Any, engine: Any) -> None:
    write({"lib.py": SEEING})
    both = ("got ready", lambda: log.append("end"))
    report = engine(Patch("lib.before", (Before("lib", lambda context: both),)))
    importlib.import_module("lib")
    assert log == ["executed", "end"]
    assert report().outcomes[0].reason == "got ready"
