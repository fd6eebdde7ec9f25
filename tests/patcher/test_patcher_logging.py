"""The actions of the Patcher API's logger: every one of them, for every event."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.patcher import (
    AtomicPatch,
    Patcher,
    configure_patcher_logging,
    patcher_logger,
    set_patcher_log_level,
)
from mx_autopatch.patcher.patcher_logger import PatcherLogger, PatchError, _Stderr

pytestmark = pytest.mark.usefixtures("studio")

EVENTS = {
    "on_apply": AtomicPatch("studio.paint", int),
    "on_skip": AtomicPatch("studio.paint", int, precheck=lambda: False),
    "on_fail": AtomicPatch("studio.nothing", int),
}


def patch(event: str) -> Any:
    importlib.import_module("studio")
    with Patcher().add(EVENTS[event]):
        pass


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("action", ["debug", "info", "warning", "error", "silent"])
def test_levels(event: str, action: str, said: Any) -> None:
    set_patcher_log_level(logging.DEBUG)
    assert configure_patcher_logging(**{event: action}) is patcher_logger
    patch(event)
    levels = [line.split()[0] for line in said.about("to module studio")]
    assert levels == ([] if action == "silent" else [action.upper()])


@pytest.mark.parametrize("event", EVENTS)
def test_exceptions_are_raised_where_it_happens(event: str) -> None:
    configure_patcher_logging(**{event: "exception"})
    with pytest.raises(PatchError, match="to module studio"):
        patch(event)
    assert importlib.import_module("studio").paint(1) == ("paint", 1)
    assert bootstrap.active() is None


@pytest.mark.parametrize("event", EVENTS)
def test_exit_ends_the_program(event: str, said: Any) -> None:
    configure_patcher_logging(**{event: "exit"})
    with pytest.raises(SystemExit) as ended:
        patch(event)
    assert ended.value.code == 1
    assert said.about("ERROR ")


def test_a_patch_that_is_due_later_raises_in_the_import() -> None:
    configure_patcher_logging(on_fail="exception")
    with Patcher().add(EVENTS["on_fail"]), pytest.raises(PatchError, match="studio:nothing"):
        importlib.import_module("studio")


def test_errors_have_an_action_too(said: Any) -> None:
    patcher_logger.error("odd")
    configure_patcher_logging(on_error="exception")
    with pytest.raises(PatchError, match="odder"):
        patcher_logger.error("odder")
    assert said.lines == ["WARNING odd"]


def test_an_unknown_action_is_refused_and_nothing_set(said: Any) -> None:
    with pytest.raises(ValueError, match="on_fail='warn': expected one of debug, info, warning"):
        configure_patcher_logging(on_apply="silent", on_fail="warn")
    patch("on_apply")
    assert said.about("INFO Applied")


def test_other_ranks_do_not_write_but_do_raise(said: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("RANK", "1")
    assert (patcher_logger.rank, patcher_logger.is_main_process) == (1, False)
    patch("on_fail")
    assert said.lines == []
    configure_patcher_logging(on_fail="exception")
    with pytest.raises(PatchError):
        patch("on_fail")
    assert patcher_logger.set_rank(0) is patcher_logger
    assert patcher_logger.is_main_process
    assert patcher_logger.set_rank_from_env().rank == 1


def test_the_summary_counts_what_it_may_show(said: Any) -> None:
    importlib.import_module("studio")
    patcher_logger.flush_summary()
    with Patcher().add(*EVENTS.values(), AtomicPatch("studio.tools.brush.dip", int)):
        pass
    assert said.lines[-1] == (
        "INFO Patches: 1 applied, 1 skipped, 1 failed, 3 waiting for the import of what they patch"
    ).replace("3 waiting", "1 waiting")
    patcher_logger.configure_summary(level=logging.WARNING, show_applied=False, show_skipped=True)
    configure_patcher_logging(on_fail="silent", on_skip="silent")
    patch("on_skip")
    assert said.lines[-1] == "WARNING Patches: 1 skipped"
    patcher_logger.configure_summary(enabled=False)
    before = len(said.lines)
    patch("on_skip")
    assert len(said.lines) == before


def test_it_writes_to_what_stderr_is_at_the_time(capsys: Any, monkeypatch: Any) -> None:
    handler = _Stderr()
    record = logging.LogRecord("x", logging.INFO, "", 0, "text", (), None)
    handler.emit(record)
    assert capsys.readouterr().err == "[Patcher] INFO: text\n"
    monkeypatch.setattr(sys, "stderr", None)
    handler.emit(record)


def test_its_logger_is_made_once() -> None:
    before = list(logging.getLogger("mx_autopatch.patcher").handlers)
    PatcherLogger()
    assert logging.getLogger("mx_autopatch.patcher").handlers == before
