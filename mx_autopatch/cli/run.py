"""Runs a script or module as plain python does, with the engine active.

What python does in C between its own start and the first line of the script is done
here: sys.argv, sys.path[0], the module ``__main__``. An exception of the script goes on
to the interpreter, so that exit code, signal and excepthook are its business; only the
frames below the script's are taken off the traceback first.
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import MutableMapping
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from importlib.util import MAGIC_NUMBER
from types import ModuleType, TracebackType
from typing import Any

from mx_autopatch import bootstrap
from mx_autopatch.cli import environment
from mx_autopatch.cli.plan import Plan
from mx_autopatch.errors import AutopatchError

__all__ = ["run"]


def run(plan: Plan) -> None:
    """Run it. Returns if it ran to its end; raises what it raises."""
    path = "" if plan.is_module else _absolute(plan.target)
    is_file = not plan.is_module and not _holds_main(path)
    source = _read(path) if is_file else b""
    _set_path(plan, path, is_file)
    _start_engine(plan)
    # The frames of runpy, if we were started by it, go on using the former one.
    former, namespace = sys.modules["__main__"], _fresh_main()
    try:
        if is_file:
            exec(_code(namespace, path, source), namespace)
        else:
            # Private, but it is what python itself calls for -m, folders and zips.
            from runpy import _run_module_as_main  # type: ignore[attr-defined]

            _run_module_as_main(plan.target if plan.is_module else "__main__", plan.is_module)
    except SystemExit:
        raise
    except BaseException:
        _hide_frames(namespace if is_file else {})
        raise
    if is_file:
        _forget_file(namespace)
    del former


# -- what is run -----------------------------------------------------------------


def _absolute(script: str) -> str:
    """As ``__file__`` shows it: in full, but not normalised."""
    if os.name == "nt":
        return os.path.abspath(script)
    try:
        return os.path.join(os.getcwd(), script)
    except OSError:  # the working directory was deleted
        return script


def _holds_main(path: str) -> bool:
    """Whether it is something to import from: a folder or a zip with a ``__main__``."""
    from pkgutil import get_importer

    return get_importer(path) is not None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        program = getattr(sys, "orig_argv", [sys.executable])[0]
        why = f"[Errno {error.errno}] {error.strerror}"
        sys.stderr.write(f"{program}: can't open file {path!r}: {why}\n")
        sys.exit(2)


def _code(namespace: MutableMapping[str, Any], path: str, source: bytes) -> Any:
    """The script's code; fills in what python says about a file."""
    loader: SourceFileLoader | SourcelessFileLoader = SourceFileLoader("__main__", path)
    compiled = path.endswith(".pyc") or source.startswith(MAGIC_NUMBER)
    if compiled:
        loader = SourcelessFileLoader("__main__", path)
    namespace["__loader__"], namespace["__file__"] = loader, path
    if sys.version_info < (3, 15):
        namespace["__cached__"] = None
    if compiled:
        return loader.get_code("__main__")
    return compile(source, path, "exec", dont_inherit=True)


# -- the surroundings ------------------------------------------------------------


def _set_path(plan: Plan, path: str, is_file: bool) -> None:
    """Give sys.argv its value, and sys.path its first entry, as they are without us."""
    is_safe = bool(getattr(sys.flags, "safe_path", False) or sys.flags.isolated)
    if not plan.is_module and not is_file:
        sys.path.insert(0, path)  # also under -P: there is no other way to find it
    elif not is_safe:
        first = os.path.dirname(os.path.realpath(path)) if is_file else _working_directory()
        if first is not None:
            sys.path.insert(0, first)
    sys.argv[:] = ["-m" if plan.is_module else plan.target, *plan.args]


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _start_engine(plan: Plan) -> None:
    config, overrides = plan.given
    environment.clear(overrides)
    try:
        bootstrap.activate(config, patches=plan.patches, overrides=overrides, script=sys.argv[0])
    except AutopatchError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"mx-autopatch: {line}\n")
        sys.exit(2)
    finder = bootstrap.active()
    assert finder is not None
    assert finder.session is not None
    environment.inherit(plan.given, finder.session.config.path)


def _fresh_main() -> dict[str, Any]:
    """A new ``__main__``, as the interpreter makes it; returns its namespace."""
    main = ModuleType("__main__")
    namespace = vars(main)
    if sys.version_info < (3, 14):
        namespace["__annotations__"] = {}
    namespace["__builtins__"] = builtins
    namespace["__loader__"] = BuiltinImporter
    sys.modules["__main__"] = main
    return namespace


# -- the end ---------------------------------------------------------------------


def _forget_file(namespace: MutableMapping[str, Any]) -> None:
    """As python does once the script has run: at exit there is no ``__file__``."""
    for name in ("__file__", "__cached__"):
        namespace.pop(name, None)


def _hide_frames(namespace: MutableMapping[str, Any]) -> None:
    """Have the interpreter show the exception on its way without the frames below."""
    then = sys.excepthook

    def excepthook(
        kind: type[BaseException], value: BaseException, trace: TracebackType | None
    ) -> None:
        sys.excepthook = then
        trace = _above_run(trace)
        sys.last_traceback = value.__traceback__ = trace
        try:
            then(kind, value, trace)
        except SystemExit:
            raise
        except BaseException as error:
            # As the interpreter puts it, in whose traceback this frame would stand.
            of_hook = error.__traceback__ and error.__traceback__.tb_next
            sys.stderr.write("Error in sys.excepthook:\n")
            sys.__excepthook__(type(error), error.with_traceback(of_hook), of_hook)
            sys.stderr.write("\nOriginal exception was:\n")
            sys.__excepthook__(kind, value, trace)
        finally:
            _forget_file(namespace)

    sys.excepthook = excepthook


def _above_run(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that belongs to the script."""
    rest, ours = trace, run.__code__
    while rest is not None and rest.tb_frame.f_code is not ours:
        rest = rest.tb_next
    # Under it stands at most the frame of _code, which found a SyntaxError.
    while rest is not None and rest.tb_frame.f_code.co_filename == ours.co_filename:
        rest = rest.tb_next
    return rest
