"""What the Patcher API says, and what else it does when something happens.

Each event (a patch applied, skipped, failed; an unexpected error) has an *action*: a
level to log at, ``silent``, ``exception`` or ``exit``. The action is carried out the
moment the event happens, for every kind of event: with ``on_skip="exception"`` a skipped
patch raises. Only rank 0 of a distributed job writes; every rank raises and exits.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from mx_autopatch.engine import report
from mx_autopatch.errors import PatchError

__all__ = [
    "PatchError",
    "PatcherLogger",
    "configure_patcher_logging",
    "patcher_logger",
    "set_patcher_log_level",
]

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_ACTIONS = (*_LEVELS, "silent", "exception", "exit")


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what sys.stderr is at the time, as logging's handler of last resort does."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("[Patcher] %(levelname)s: %(message)s"))

    @property
    def stream(self) -> Any:
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is not None:  # as under pythonw
            super().emit(record)


class PatcherLogger:
    """The logger of the Patcher API. Every method that sets something returns the logger."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("mx_autopatch.patcher")
        self._logger.propagate = False
        if not self._logger.handlers:
            self._logger.addHandler(_Stderr())
            self._logger.setLevel(logging.INFO)
        self._actions = {"apply": "info", "skip": "info", "fail": "warning", "error": "warning"}
        self._rank: int | None = None
        self._summary: dict[str, Any] = {"enabled": True, "level": logging.INFO}
        self._counts = {"applied": 0, "skipped": 0, "failed": 0}

    # -- who writes ------------------------------------------------------------

    def set_rank(self, rank: int) -> PatcherLogger:
        """Say which rank this process is; by default the environment tells."""
        self._rank = rank
        return self

    def set_rank_from_env(self) -> PatcherLogger:
        """Take the rank from the environment again."""
        self._rank = None
        return self

    @property
    def rank(self) -> int:
        return report.rank() if self._rank is None else self._rank

    @property
    def is_main_process(self) -> bool:
        """Whether this process is rank 0."""
        return self.rank == 0

    # -- what is configured ----------------------------------------------------

    def configure(
        self,
        on_apply: str | None = None,
        on_skip: str | None = None,
        on_fail: str | None = None,
        on_error: str | None = None,
    ) -> PatcherLogger:
        """Set the actions; None leaves one as it is.

        Raises:
            ValueError: an action that there is not; nothing is set then.
        """
        given = {"apply": on_apply, "skip": on_skip, "fail": on_fail, "error": on_error}
        chosen = {event: action for event, action in given.items() if action is not None}
        for event, action in chosen.items():
            if action not in _ACTIONS:
                raise ValueError(f"on_{event}={action!r}: expected one of {', '.join(_ACTIONS)}")
        self._actions.update(chosen)
        return self

    def configure_summary(
        self,
        enabled: bool | None = None,
        level: int | None = None,
        show_applied: bool | None = None,
        show_skipped: bool | None = None,
        show_failed: bool | None = None,
        show_import_events: bool | None = None,
    ) -> PatcherLogger:
        """Set what the line after ``apply()`` counts, and at which level it is logged.

        ``show_import_events`` is accepted and has no effect: what is done to imports is
        told when it happens, as everything else is.
        """
        given = {
            "enabled": enabled,
            "level": level,
            "applied": show_applied,
            "skipped": show_skipped,
            "failed": show_failed,
        }
        self._summary.update({name: value for name, value in given.items() if value is not None})
        return self

    def set_level(self, level: int) -> PatcherLogger:
        """Set the lowest level that is written (``logging.WARNING`` …)."""
        self._logger.setLevel(level)
        return self

    def set_buffer_enabled(self, enabled: bool) -> PatcherLogger:
        """Accepted, without effect: nothing is held back."""
        return self

    # -- events ----------------------------------------------------------------

    def applied(self, text: str, **details: Any) -> None:
        """A patch is in force."""
        self._counts["applied"] += 1
        self._act("apply", f"Applied {text}")

    def skipped(self, text: str, reason: str = "", **details: Any) -> None:
        """A patch was switched off, or is not needed here."""
        self._counts["skipped"] += 1
        self._act("skip", f"Skipped {text}" + (f": {reason}" if reason else ""))

    def failed(self, text: str, reason: str = "", **details: Any) -> None:
        """A patch could not be applied."""
        self._counts["failed"] += 1
        self._act("fail", f"Failed to apply {text}" + (f": {reason}" if reason else ""))

    def error(self, message: str) -> None:
        """Something went wrong that is no patch's outcome."""
        self._act("error", message)

    def debug(self, message: str) -> None:
        self._write(logging.DEBUG, message)

    def info(self, message: str) -> None:
        self._write(logging.INFO, message)

    def warning(self, message: str) -> None:
        self._write(logging.WARNING, message)

    def flush_summary(self, waiting: int = 0) -> None:
        """One line with what has happened since the last one."""
        counts, self._counts = self._counts, dict.fromkeys(self._counts, 0)
        if not self._summary["enabled"]:
            return
        hidden = {"applied": "apply", "skipped": "skip", "failed": "fail"}
        parts = [
            f"{count} {name}"
            for name, count in counts.items()
            if count and self._summary.get(name, self._actions[hidden[name]] != "silent")
        ]
        if waiting:
            parts.append(f"{waiting} waiting for the import of what they patch")
        if parts:
            self._write(self._summary["level"], f"Patches: {', '.join(parts)}")

    def _act(self, event: str, message: str) -> None:
        action = self._actions[event]
        if action == "silent":
            return
        if action == "exception":
            raise PatchError(message)
        if action == "exit":
            self._write(logging.ERROR, message)
            sys.exit(1)
        self._write(_LEVELS[action], message)

    def _write(self, level: int, message: str) -> None:
        # What a worker does again needs no telling again; what goes wrong there does.
        if self.is_main_process and (level >= logging.WARNING or not _is_worker()):
            self._logger.log(level, message)


def _is_worker() -> bool:
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None


patcher_logger = PatcherLogger()


def configure_patcher_logging(
    on_apply: str | None = None,
    on_skip: str | None = None,
    on_fail: str | None = None,
    on_error: str | None = None,
) -> PatcherLogger:
    """Set the actions of :data:`patcher_logger` (see :meth:`PatcherLogger.configure`)."""
    return patcher_logger.configure(on_apply, on_skip, on_fail, on_error)


def set_patcher_log_level(level: int) -> None:
    """Set the lowest level that :data:`patcher_logger` writes."""
    patcher_logger.set_level(level)
