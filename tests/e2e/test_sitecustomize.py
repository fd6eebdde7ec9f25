"""sitecustomize_template/sitecustomize.py, for people who cannot install."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from processes import Done, bare_python, environ, python

TEMPLATE = ROOT / "sitecustomize_template"

ACTIVE = "import sys; print([type(f).__name__ for f in sys.meta_path].count('Finder'))"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_python(tmp_path_factory.mktemp("bare"))


def run(bare: Path, code: str, *path: Path, cwd: Path, active: bool = True, **env: str) -> Done:
    if active:
        env["MX_AUTOPATCH"] = "1"
    env["PYTHONPATH"] = os.pathsep.join(map(str, path))
    return python("-c", code, cwd=cwd, env=environ(**env), executable=bare)


def copy(folder: Path) -> Path:
    folder.mkdir()
    shutil.copy(TEMPLATE / "sitecustomize.py", folder)
    return folder


def other(folder: Path, source: str = "print('the other one', __name__)\n") -> Path:
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(source)
    return folder


def test_it_starts_the_engine(bare: Path, tmp_path: Path) -> None:
    assert run(bare, ACTIVE, TEMPLATE, ROOT, cwd=tmp_path) == (0, "1\n", "")


def test_where_it_lies_it_finds_the_package(bare: Path, tmp_path: Path) -> None:
    code = ACTIVE + "; import mx_autopatch; print(sys.path[-1])"
    assert run(bare, code, TEMPLATE, cwd=tmp_path) == (0, f"1\n{ROOT}\n", "")


def test_in_a_wheel_it_finds_the_package(bare: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "mx_autopatch", tmp_path / "mx_autopatch")
    folder = tmp_path / "mx_autopatch" / "_sitecustomize"
    shutil.rmtree(folder, ignore_errors=True)
    code = ACTIVE + "; import mx_autopatch; print(mx_autopatch.__file__)"
    done = run(bare, code, copy(folder), cwd=Path("/"))
    assert done == (0, f"1\n{tmp_path / 'mx_autopatch' / '__init__.py'}\n", "")


@pytest.mark.parametrize("value", ["", "0", "false", "No", "off", None])
def test_without_the_variable_nothing_happens(
    bare: Path, tmp_path: Path, value: str | None
) -> None:
    env = {} if value is None else {"MX_AUTOPATCH": value}
    code = ACTIVE + "; print('mx_autopatch.engine' in sys.modules)"
    done = run(bare, code, TEMPLATE, ROOT, cwd=tmp_path, active=False, **env)
    assert done == (0, "0\nFalse\n", "")


def test_without_the_package_one_line_says_so(bare: Path, tmp_path: Path) -> None:
    done = run(bare, "print('ran')", copy(tmp_path / "copied"), cwd=tmp_path)
    assert (done.code, done.out) == (0, "ran\n")
    assert done.err.count("\n") == 1
    assert "not active" in done.err
    assert "PYTHONPATH" in done.err


@pytest.mark.parametrize("active", [True, False])
def test_the_one_it_hides_runs_once(bare: Path, tmp_path: Path, active: bool) -> None:
    folder = other(tmp_path / "other")
    code = "import sys, sitecustomize; print(sitecustomize.__file__, sitecustomize.__spec__.name)"
    done = run(bare, code, TEMPLATE, folder, ROOT, cwd=tmp_path, active=active)
    expected = f"the other one sitecustomize\n{folder / 'sitecustomize.py'} sitecustomize\n"
    assert done == (0, expected, "")


def test_the_one_it_hides_runs_before_the_engine(bare: Path, tmp_path: Path) -> None:
    folder = other(tmp_path / "other", ACTIVE)
    assert run(bare, ACTIVE, TEMPLATE, folder, ROOT, cwd=tmp_path).out == "0\n1\n"


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (0, 0, 2, 1)])
def test_any_number_of_copies(bare: Path, tmp_path: Path, order: tuple[int, ...]) -> None:
    folders = (TEMPLATE, copy(tmp_path / "copied"), other(tmp_path / "other"))
    done = run(bare, ACTIVE, *(folders[n] for n in order), ROOT, cwd=tmp_path)
    assert done == (0, "the other one sitecustomize\n1\n", "")


def test_beside_an_installed_one(tmp_path: Path) -> None:
    """With the .pth file and sitecustomize both, the engine starts once."""
    assert run(Path(sys.executable), ACTIVE, TEMPLATE, ROOT, cwd=tmp_path) == (0, "1\n", "")


def test_a_package_is_run_as_one(bare: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other" / "sitecustomize"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from .inner import x\nprint(x, __path__, __package__)\n")
    (folder / "inner.py").write_text("x = 'inner'\n")
    plain = run(bare, "import sitecustomize.inner", tmp_path / "other", cwd=tmp_path, active=False)
    ours = run(bare, "import sitecustomize.inner", TEMPLATE, tmp_path / "other", ROOT, cwd=tmp_path)
    assert ours == plain
    assert ours.out == f"inner {[str(folder)]} sitecustomize\n"


@pytest.mark.parametrize("source", ["1 / 0\n", "import no_such_module\n"])
def test_what_the_hidden_one_raises_is_its_own(bare: Path, tmp_path: Path, source: str) -> None:
    folder = other(tmp_path / "other", source)
    plain = run(bare, ACTIVE, folder, cwd=tmp_path, active=False)
    ours = run(bare, ACTIVE, TEMPLATE, folder, ROOT, cwd=tmp_path)
    assert ours == plain._replace(out=plain.out.replace("0", "1"))


def test_a_module_that_replaces_itself(bare: Path, tmp_path: Path) -> None:
    source = "import sys, types\nsys.modules[__name__] = types.SimpleNamespace(mine=1)\n"
    folder = other(tmp_path / "other", source)
    done = run(bare, "import sitecustomize as s; print(s.mine)", TEMPLATE, folder, cwd=tmp_path)
    assert done == (0, "1\n", "")


def test_isolated_and_without_site_it_is_not_there(bare: Path, tmp_path: Path) -> None:
    env = environ(PYTHONPATH=str(TEMPLATE), MX_AUTOPATCH="1")
    for flags in (("-I",), ("-S",), ("-E",)):
        done = python("-c", ACTIVE, cwd=tmp_path, flags=flags, env=env, executable=bare)
        assert done == (0, "0\n", "")
