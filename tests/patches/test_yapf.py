"""yapf.format_code on the installed yapf."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mx_autopatch import bootstrap

pytest.importorskip("yapf")


def test_verify_is_accepted(engine: Any) -> None:
    api = importlib.import_module("yapf.yapflib.yapf_api")
    with pytest.raises(TypeError, match="verify"):
        api.FormatCode("x=1\n", verify=True)
    engine(patches__only=["yapf.format_code"])
    assert api.FormatCode("x=1\n", style_config="pep8", verify=True) == ("x = 1\n", True)
    bootstrap.deactivate()
    with pytest.raises(TypeError, match="verify"):
        api.FormatCode("x=1\n", verify=True)


COLD_START = """
from mx_autopatch.bootstrap import start; start()
import yapf
print(yapf.yapf_api.FormatCode("x=1\\n", verify=True)[0], end="")
"""


def test_eight_processes_that_start_cold_share_a_cache(tmp_path: Path) -> None:
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "MX_AUTOPATCH": "1"}
    environ["MX_AUTOPATCH_REPORT_LEVEL"] = "silent"
    command = [sys.executable, "-c", COLD_START]
    running = [
        subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    results = [process.communicate() for process in running]
    assert results == [("x = 1\n", "")] * 8
    cached = list(tmp_path.rglob("*"))
    assert any(path.suffix == ".pickle" for path in cached)
    assert not any(path.suffix == ".tmp" for path in cached)


def test_a_cache_that_is_being_written_is_never_half_there(tmp_path: Path, engine: Any) -> None:
    grammar = importlib.import_module("yapf_third_party._ylib2to3.pgen2.grammar")
    engine(patches__only=["yapf.format_code"])

    class Unpicklable(grammar.Grammar):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            self.tables = list(range(10000))
            self.bad = lambda: None

    path = tmp_path / "g.pickle"
    path.write_bytes(b"the old one")
    with pytest.raises(Exception, match=r"[Pp]ickle"):
        Unpicklable().dump(str(path))
    assert path.read_bytes() == b"the old one"
    assert os.listdir(tmp_path) == ["g.pickle"] or set(os.listdir(tmp_path)) == {"g.pickle", "cwd"}
