"""The command line in this process: fast, and the same code from the parser on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from said import Cli, Said

from mx_autopatch.cli.app import parse
from mx_autopatch.engine.requires import installed


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Carry a subcommand out in an empty folder, as an unknown user: ``cli("list")``."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home" / "data"))
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["mx-autopatch"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    installed.cache_clear()

    def say(*args: object) -> Said:
        with pytest.raises(SystemExit) as ended:
            parse([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    return say


@pytest.fixture(autouse=True)
def _as_wide_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have said how wide the terminal is (pytest-xdist does)."""
    monkeypatch.delenv("COLUMNS", raising=False)
