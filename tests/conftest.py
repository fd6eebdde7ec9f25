"""Fixtures that every test may use; each gives the interpreter back as it found it."""

from __future__ import annotations

import importlib.util
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import importlib_metadata  # noqa: F401  appends a finder of its own to sys.meta_path, once
import pytest

from mx_autopatch import bootstrap
from mx_autopatch.engine.report import Report

if importlib.util.find_spec("torch_npu") is not None:
    # The lane "npu": torch cannot even be imported before there is something like CANN.
    from mx_autopatch.softnpu import runtime

    runtime.load(devices=2)
    with runtime.as_installed():
        from mx_autopatch.softnpu.install import install
    install()


@pytest.fixture(autouse=True)
def _no_leftovers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No configuration from outside; no finder, environment or catalog left behind."""
    for name in list(os.environ):
        if name.startswith("MX_AUTOPATCH"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(bootstrap, "_catalog", None)
    meta_path, environ = list(sys.meta_path), dict(os.environ)
    yield
    bootstrap.deactivate()
    sys.meta_path[:] = meta_path
    os.environ.clear()
    os.environ.update(environ)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write modules into a folder on ``sys.path``: ``write({"a/__init__.py": "..."})``.

    Every module that was imported from there is forgotten afterwards.
    """
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)

    def write_files(files: dict[str, str]) -> Path:
        for name, source in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source), encoding="utf-8")
        importlib.invalidate_caches()
        return folder

    yield write_files
    for name in set(sys.modules) - before:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        # The path of a namespace package asks its parent, which may be gone already.
        places = str(getattr(spec, "submodule_search_locations", ""))
        if str(folder) in f"{getattr(spec, 'origin', '')} {places}":
            del sys.modules[name]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Activate with these patches and settings: ``engine(patch, strict=True)``.

    Returns a function that reports on these patches; the built-in ones are off. Works
    in an empty folder, so that no configuration file is found.
    """
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def start(*patches: Any, **overrides: Any) -> Any:
        names = [patch.name for patch in patches]
        settings = {"patches.only": names} if names else {}
        settings.update({key.replace("__", "."): value for key, value in overrides.items()})
        bootstrap.activate(patches=patches, overrides=settings, script=str(folder / "x.py"))

        def report() -> Report:
            whole = bootstrap.report()
            return Report([o for o in whole if not names or o.patch in names], whole.problems)

        return report

    return start
