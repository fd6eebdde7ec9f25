"""What a run starts is patched as the run is, with the .pth file installed or without."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import Done, bare_environ, bare_python, environ, python

PLUGIN = """
from mx_autopatch import Patch, Replace

def answer():
    return 42

PATCHES = (Patch(name="mine.answer", edits=(Replace("victim:answer", answer),)),)
"""

WORKERS = """
import multiprocessing as mp, os, sys

class Point:
    def __init__(self, x):
        self.x = x

def work(point):
    import victim
    return victim.answer() + point.x, __name__, __file__

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    os.chdir("/")
    with context.Pool(1) as pool:
        print(pool.map(work, [Point(100)]))
"""


class Interpreter(NamedTuple):
    executable: str
    env: dict[str, str]


@pytest.fixture(scope="module", params=["installed", "bare"])
def interpreter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Interpreter:
    """This Python, and one whose site-packages hold neither us nor our .pth file."""
    if request.param == "installed":
        return Interpreter(sys.executable, environ(MX_AUTOPATCH_REPORT_LEVEL="silent"))
    bare = bare_python(tmp_path_factory.mktemp("bare"))
    return Interpreter(str(bare), bare_environ(MX_AUTOPATCH_REPORT_LEVEL="silent"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A script's folder, with a configuration that names a plugin."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "victim.py").write_text("def answer():\n    return 1\n")
    (folder / "plugin.py").write_text(PLUGIN)
    (folder / "autopatch.toml").write_text('[plugins]\nfiles = ["plugin.py"]\n')
    (folder / "workers.py").write_text(WORKERS)
    return folder


def write(project: Path, source: str) -> Path:
    path = project / "script.py"
    path.write_text(textwrap.dedent(source))
    return path


def run(interpreter: Interpreter, *args: object, cwd: Path) -> Done:
    return python(
        *("-m", "mx_autopatch", *args),
        cwd=cwd,
        env={**interpreter.env},
        executable=interpreter.executable,
    )


CHILD = """
import os, subprocess, sys
os.chdir("/")
code = "import sys; sys.path.insert(0, sys.argv[1]); import victim; print(victim.answer())"
here = os.path.dirname(__file__)
subprocess.run([sys.executable, "-W", "error", "-c", code, here], check=True)
"""


def test_a_subprocess(interpreter: Interpreter, project: Path, tmp_path: Path) -> None:
    done = run(interpreter, write(project, CHILD), cwd=tmp_path)
    assert done == (0, "42\n", "")


def test_a_subprocess_of_a_module(interpreter: Interpreter, project: Path) -> None:
    write(project, CHILD)
    assert run(interpreter, "-m", "script", cwd=project) == (0, "42\n", "")


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        (("--disable", "mine.*"), 1),
        (("--only", "numpy.aliases"), 1),
        (("--only", "numpy.aliases,mine.answer"), 42),
        (("--disable", "mine.*", "--enable", "mine.answer"), 42),
        (("--config", os.devnull), 1),
    ],
)
def test_options_are_inherited(project: Path, option: tuple[str, ...], answer: int) -> None:
    interpreter = Interpreter(sys.executable, environ())
    done = run(interpreter, *option, write(project, CHILD), cwd=project)
    assert done.out == f"{answer}\n", done.err


def test_an_option_beats_the_long_spelling_in_the_environment(project: Path) -> None:
    env = environ(MX_AUTOPATCH_PATCHES_DISABLE="numpy.aliases")
    done = run(
        Interpreter(sys.executable, env),
        *("--disable", "mine.answer", write(project, CHILD)),
        cwd=project,
    )
    assert done == (0, "1\n", "")


@pytest.mark.skipif(os.name != "posix", reason="start methods of POSIX")
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_workers(interpreter: Interpreter, project: Path, tmp_path: Path, method: str) -> None:
    flags = ("-W", "error", "-W", "ignore::DeprecationWarning")  # fork beside threads
    plain = python(project / "workers.py", method, cwd=tmp_path, flags=flags, env=environ())
    ours = run(interpreter, project / "workers.py", method, cwd=tmp_path)
    assert plain.code == ours.code == 0, plain.err + ours.err
    assert ours.out == plain.out.replace("(101,", "(142,")
    assert ours.err == ""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_of_a_module(interpreter: Interpreter, project: Path, method: str) -> None:
    (project / "pack").mkdir()
    (project / "pack" / "__init__.py").write_text("")
    (project / "pack" / "tool.py").write_text(WORKERS)
    ours = run(interpreter, "-m", "pack.tool", method, cwd=project)
    assert "(142, '__mp_main__'" in ours.out, ours.err


def test_the_summary_comes_once(project: Path) -> None:
    done = run(Interpreter(sys.executable, environ()), project / "workers.py", "spawn", cwd=project)
    assert done.err.count("mine.answer") == 0  # the script itself has imported no target
    source = "import victim, subprocess, sys\n" + CHILD
    done = run(Interpreter(sys.executable, environ()), write(project, source), cwd=project)
    assert done.err.count("mine.answer") == 1, done.err


def test_the_report_is_where_the_run_began(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    run(
        Interpreter(sys.executable, environ()),
        *("--report", "r-{pid}.json", write(project, "import victim\n" + CHILD)),
        cwd=out,
    )
    reports = [json.loads(path.read_text()) for path in out.glob("r-*.json")]
    outcomes = [o for report in reports for o in report["outcomes"] if o["patch"] == "mine.answer"]
    assert [o["status"] for o in outcomes] == ["APPLIED", "APPLIED"]


def _has_torch() -> bool:
    spec = importlib.util.find_spec("torch")
    return spec is not None and spec.origin is not None  # a folder of tests is none


@pytest.mark.skipif(not _has_torch(), reason="needs torch")
@pytest.mark.timeout(120)
def test_torchrun(project: Path, tmp_path: Path) -> None:
    """The launcher is not patched, the ranks are, and their workers too."""
    source = "import os, victim\nprint(os.environ['RANK'], victim.answer(), flush=True)\n"
    env = environ(OMP_NUM_THREADS="1", MX_AUTOPATCH_REPORT=str(tmp_path / "{rank}.json"))
    done = python(
        *("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"),
        *("-m", "mx_autopatch", write(project, source)),
        cwd=tmp_path,
        flags=(),
        env=env,
    )
    assert done.code == 0, done.err
    assert sorted(done.out.split("\n")) == ["", "0 42", "1 42"]
    assert done.err.count("mine.answer") == 1  # rank 0 speaks
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["0.json", "1.json"]
