"""yapf.format_code on the installed yapf."""

from __future__ import annotations

import importlib
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
