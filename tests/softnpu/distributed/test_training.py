"""Two ranks: see training.py for what each check does."""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import HERE, names_of_checks, torchrun


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder: Path = tmp_path_factory.mktemp("training")
    return torchrun(HERE / "training.py", 2, folder)


@pytest.mark.parametrize("name", names_of_checks("training.py"))
def test_training(name: str, results: dict[str, list[str]]) -> None:
    assert results.get(name) == ["ok"] * 2, "\n".join(results.get(name, ["not reached"]))
