"""Starts and stops the engine: what .pth, .start, sitecustomize and users call.

The only place that puts engine, patches and configuration together. Importing it
imports sys and os, which every interpreter has loaded already.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from mx_autopatch.engine.catalog import Catalog
    from mx_autopatch.engine.config import Config
    from mx_autopatch.engine.entries import PatchEntry
    from mx_autopatch.engine.finder import Finder
    from mx_autopatch.engine.report import Report
    from mx_autopatch.engine.session import Session
    from mx_autopatch.model import Outcome, Patch

#: Modules of the standard library that have patches (see engine.finder).
WAITING = ("collections",)

_finder: Finder | None = None
_catalog: Catalog | None = None
_at_exit = False
_multiprocessing: Any = None  # its module util, once that knows of _finish


def start() -> None:
    """Start the engine if ``MX_AUTOPATCH`` is set; called at interpreter start.

    Idempotent. Never raises; what goes wrong is one line on stderr.
    """
    if not is_wanted():
        return
    try:
        if _finder is None:
            _install(_prepare_from_environment, _tell_problems)
    except Exception as error:
        _say(f"not active: {type(error).__name__}: {error}")


def is_wanted() -> bool:
    """Whether the environment starts the engine in this process and in its children."""
    return os.environ.get("MX_AUTOPATCH", "").lower() not in ("", "0", "false", "no", "off")


def activate(
    config: str | None = None,
    *,
    patches: Iterable[Patch] = (),
    overrides: Mapping[str, Any] | None = None,
    script: str | None = None,
) -> None:
    """Start the engine, or start it anew with another configuration.

    Args:
        config: An autopatch.toml; by default the one that is found from the script's
            folder upward, else from the working directory upward.
        patches: Patches to add to the known ones.
        overrides: Values by dotted key (``{"patches.disable": ["mmcv.ext"]}``), over
            those of the file and the environment.
        script: The script from whose folder the configuration is looked for, if it
            is not ``sys.argv[0]``.

    Modules that are loaded already are patched late: the names that other modules
    copied from them are rebound.

    Raises:
        ConfigError: the configuration has a fault; nothing is changed then.
    """
    from mx_autopatch.engine import config as configuration
    from mx_autopatch.errors import ConfigError

    loaded = configuration.load(
        explicit=config,
        overrides=overrides,
        script=script or _script(),
        trust_discovered=True,
    )
    session = _session(loaded, patches)
    if session.problems:
        raise ConfigError("\n".join(session.problems))
    deactivate()
    finder = _install(lambda: session)
    finder.prepared()


def deactivate() -> None:
    """Take the finder away and revert every patch. Does nothing if not active."""
    global _finder
    finder, _finder = _finder, None
    if finder is None:
        return
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)
    finder.stop_waiting()
    if finder.session is not None:
        finder.session.revert()


def report() -> Report:
    """What has become of every known edit in this process."""
    from mx_autopatch.engine.report import Report

    if _finder is None or not _finder.prepared() or _finder.session is None:
        return Report([], [])
    return _finder.session.report()


def register(obj: Any = None, *, name: str | None = None, force: bool = False) -> Any:
    """Add a patch, or a function or class that makes one, to the catalog.

    A decorator or a call. With the engine active it takes effect at once, late if its
    trigger is loaded; else with the next activation.

    Raises:
        CatalogError: the name is taken; the message names both places.
    """
    if obj is None:
        return lambda later: register(later, name=name, force=force)
    root = catalog()
    root.register(obj, name=name, force=force)
    if _finder is not None and _finder.session is not None:
        from mx_autopatch.engine.entries import made_from

        key = name or getattr(obj, "name", None) or obj.__name__
        session = _finder.session
        session.add(made_from(root, key, session.config.options))
    return obj


def reconfigure(values: Mapping[str, Any], who: str) -> Config:
    """Change values of the configuration in force; None stands for the default.

    What has been decided by the former ones stays as it is: see :func:`reconsider`.

    Raises:
        ConfigError: a key or value is not valid, and ``who`` gave it; nothing is changed.
        PatchError: the engine is not active.
    """
    session = _active_session(who)
    session.config = session.config.changed(values, who)
    return session.config


def reconsider(names: Iterable[str]) -> None:
    """Decide anew whether these patches' requirements hold, and apply those that now do."""
    session = _active_session("reconsider()")
    session.reconsider(names)


def _active_session(who: str) -> Session:
    from mx_autopatch.errors import PatchError

    if _finder is None or not _finder.prepared() or _finder.session is None:
        raise PatchError(
            f"{who}: mx_autopatch is not active; start the program with MX_AUTOPATCH=1, by "
            "python -m mx_autopatch, or call mx_autopatch.activate() first"
        )
    return _finder.session


def revert(name: str) -> list[Outcome]:
    """Take back one patch in the running engine; :func:`register` applies it again.

    What it has done is undone, what other patches have done to the same targets stays,
    and what of it is pending no longer fires.

    Returns:
        The patch's outcomes, REVERTED where something was taken back; none if the engine
        is not active.

    Raises:
        LookupError: no patch of that name is known.
    """
    if _finder is None or not _finder.prepared() or _finder.session is None:
        return []
    return _finder.session.revert_patch(name)


def catalog() -> Catalog:
    """The root of the catalog, with the built-in patches in it."""
    global _catalog
    if _catalog is None:
        from mx_autopatch.engine.catalog import Catalog
        from mx_autopatch.engine.entries import indexed
        from mx_autopatch.patches.index import INDEX

        root = Catalog()
        for entry in indexed(INDEX):
            root.register(entry)
        _catalog = root
    return _catalog


def examine(config: Config) -> Session:
    """What an activation with ``config`` would know; nothing is started or changed."""
    return _session(config, ())


def active() -> Finder | None:
    """The finder in force, None if the engine is not active."""
    return _finder


# -- wiring ----------------------------------------------------------------------


def _install(prepare: Any, ready: Any = None) -> Finder:
    global _finder, _at_exit
    from mx_autopatch.engine.finder import Finder

    _finder = Finder(prepare, WAITING, ready)
    sys.meta_path.insert(0, _finder)
    _finder.wait_for_loaded()
    if not _is_running(os.environ.get("MX_AUTOPATCH_MAIN", "")):
        # The first activated process of a job is the one to print its summary.
        os.environ["MX_AUTOPATCH_MAIN"] = str(os.getpid())
    if not _at_exit:
        import atexit

        atexit.register(_finish)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=_finish_in_workers)
        _at_exit = True
    return _finder


def _prepare_from_environment() -> Session | None:
    """The session of environment mode: used as far as it is valid, never raising."""
    try:
        from mx_autopatch.engine import config as configuration

        loaded = configuration.load(script=_script())
        if loaded.path is not None and "MX_AUTOPATCH_CONFIG" not in os.environ:
            # A spawned worker's argv does not show the script whose folder held it.
            os.environ["MX_AUTOPATCH_DISCOVERED"] = loaded.path
        return _session(loaded, ())
    except Exception as error:
        _say(f"not active: {type(error).__name__}: {error}")
        return None


def _tell_problems(session: Session) -> None:
    if session.problems:
        more = len(session.problems) - 1
        rest = f" (and {more} more: see mx-autopatch status)" if more else ""
        _say(session.problems[0] + rest)


def _session(config: Config, patches: Iterable[Patch]) -> Session:
    from mx_autopatch.device import is_device
    from mx_autopatch.engine.config import check_names
    from mx_autopatch.engine.entries import PatchEntry, made_from
    from mx_autopatch.engine.plugins import load_plugins
    from mx_autopatch.engine.session import Session

    problems = list(config.problems)
    entries = [PatchEntry.of(patch) for patch in patches]
    root = catalog()
    for plugin in load_plugins(config, problems.append):
        try:
            root.register(plugin)
        except Exception as error:
            problems.append(str(error))
    for name in list(root):
        try:
            entries += made_from(root, name, config.options)
        except Exception as error:
            problems.append(f"patch {name!r}: {error}")
    problems += check_names(config, [entry.name for entry in entries])
    said = [key for key, source in config.sources.items() if source != "default"]
    if any(key == "brake" or key.startswith("profile.") for key in said):
        from mx_autopatch.profiling.checks import without_effect

        problems += without_effect(config)
    capabilities = {
        "device": lambda name: is_device(name, session.config.device),
        "configured": lambda names: session.config.configures(names),
    }
    switched = _from_parent(entries, problems)
    session: Session = Session(config, entries, problems, capabilities, switched)
    return session


def _from_parent(entries: list[PatchEntry], problems: list[str]) -> dict[str, bool]:
    """Add what a patcher in the process that started this one has in force."""
    text = os.environ.get("MX_AUTOPATCH_PATCHER")
    if not text:
        return {}
    from importlib import import_module

    try:
        # By name: that room lies above this one.
        carried, switched = import_module("mx_autopatch.patcher._carried").entries(text)
    except Exception as error:
        problems.append(f"MX_AUTOPATCH_PATCHER: {type(error).__name__}: {error}")
        return {}
    entries += carried
    return dict(switched)


def _script() -> str | None:
    return sys.argv[0] if getattr(sys, "argv", None) else None


def _is_running(pid: str) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is no mere question
        return False
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:  # it is there, but not ours to signal
        return True
    return True


def _finish() -> None:
    """At exit: the JSON report, and a few lines on stderr where that is our part."""
    if _finder is None or _finder.session is None:
        return
    try:
        session = _finder.session
        config = session.config
        if session.report_path is None and not session.has_outcomes():
            return
        result = session.report()
        if session.report_path is not None:
            result.save(session.report_path)
        if config.report_level != "silent":
            from mx_autopatch.engine.report import speaks

            if speaks():
                for line in result.summary(config.report_level == "detail"):
                    _write(line)
    except Exception as error:
        _say(f"no report: {type(error).__name__}: {error}")


def _finish_in_workers() -> None:
    """Let the workers that multiprocessing forks write their reports too.

    They end by os._exit, which runs no atexit function.
    """
    global _multiprocessing
    util = sys.modules.get("multiprocessing.util")
    if util is not None and _multiprocessing is not util:
        _multiprocessing = util
        util.register_after_fork(
            _finish, lambda finish: util.Finalize(None, finish, exitpriority=-1)
        )


def _say(text: str) -> None:
    _write(f"mx_autopatch: {text}")


def _write(line: str) -> None:
    # stderr is None under pythonw, and may be closed by the time of exit.
    if sys.stderr is not None:
        try:
            sys.stderr.write(line + "\n")
        except (OSError, ValueError):
            return
