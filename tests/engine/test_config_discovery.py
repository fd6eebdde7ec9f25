"""Which file is found, whose it is, and whether it may name code."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from mx_autopatch.engine.config import KEYS, Config, load

as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give a file away"
)


def read(folder: Path, text: str | bytes | None = None, env=(), **arguments) -> Config:
    """Load with ``text`` as the autopatch.toml of an otherwise empty world."""
    if text is not None:
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "autopatch.toml").write_bytes(data)
    environ = {"HOME": str(folder / "home"), **dict(env)}
    return load(environ=environ, script="", cwd=str(folder), **arguments)


# --- discovery ------------------------------------------------------------------------


def place(path: Path, device: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    section = "[tool.mx_autopatch]\n" if path.name == "pyproject.toml" else ""
    path.write_text(f"{section}device = {device!r}\n")
    return str(path)


def discover(tmp_path: Path, script: str, cwd: Path, **env: str) -> Config:
    environ = {"HOME": str(tmp_path / "home"), **env}
    return load(environ=environ, script=script, cwd=str(cwd))


def test_the_folder_of_the_script_comes_before_the_working_directory(tmp_path):
    wanted = place(tmp_path / "project" / "autopatch.toml", "npu")
    other = place(tmp_path / "here" / "autopatch.toml", "cpu")
    script = tmp_path / "project" / "tools" / "deep" / "train.py"
    script.parent.mkdir(parents=True)
    script.touch()
    assert discover(tmp_path, str(script), tmp_path / "here").path == wanted
    assert discover(tmp_path, "-c", tmp_path / "here").path == other
    assert discover(tmp_path, str(script.parent), tmp_path / "here").path == wanted
    assert discover(tmp_path, str(tmp_path / "no_such.py"), tmp_path / "here").path == other
    assert discover(tmp_path, "bad\0name", tmp_path / "here").path == other
    # relative to the working directory, as the interpreter takes it
    assert discover(tmp_path, "deep/train.py", tmp_path / "project" / "tools").path == wanted


def test_the_nearest_file_wins_and_autopatch_toml_before_pyproject(tmp_path):
    folder = tmp_path / "a" / "b"
    outer = place(tmp_path / "a" / "autopatch.toml", "cpu")
    inner = place(folder / "pyproject.toml", "npu")
    config = discover(tmp_path, "", folder)
    assert (config.path, config.device, config.problems) == (inner, "npu", ())
    assert config.sources["device"] == inner
    beside = place(folder / "autopatch.toml", "cuda")
    assert discover(tmp_path, "", folder).path == beside
    os.unlink(beside)
    os.unlink(inner)
    assert discover(tmp_path, "", folder).path == outer


@pytest.mark.parametrize(
    "text",
    [
        b"[project]\nname = 'x'\n",
        b"[project]\ndependencies = ['mx_autopatch']\n",
        b"[tool]\nother = 'mx_autopatch'\n",
        b"[broken\n# mx_autopatch\n",
        b"\xff mx_autopatch",
        b"tool = 'mx_autopatch'",
    ],
)
def test_a_pyproject_that_does_not_mean_us_is_skipped(tmp_path, text):
    folder = tmp_path / "a"
    outer = place(tmp_path / "autopatch.toml", "cpu")
    folder.mkdir()
    (folder / "pyproject.toml").write_bytes(text)
    (folder / "pyproject.toml").chmod(0o666)
    config = discover(tmp_path, "", folder)
    assert (config.path, config.problems) == (outer, ())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[tool.mx_autopatch]\ndevice = \n", "invalid TOML: Invalid value (at line 2, column 10)"),
        ("[tool]\nmx_autopatch = 3", "tool.mx_autopatch: expected a table"),
        ("[tool.mx_autopatch]\ncolor = 1", "color: unknown key; the keys are "
         + ", ".join(key.name for key in KEYS)),
    ],
)  # fmt: skip
def test_a_pyproject_that_does_mean_us(tmp_path, text, problem):
    path = tmp_path / "pyproject.toml"
    path.write_text(text)
    assert discover(tmp_path, "", tmp_path).problems == (f"{path}: {problem}",)


def test_what_cannot_be_a_file_is_told_or_skipped(tmp_path):
    (tmp_path / "pyproject.toml").mkdir()
    os.mkfifo(tmp_path / "autopatch.toml")  # must not hang either
    config = discover(tmp_path, "", tmp_path)
    path = tmp_path / "autopatch.toml"
    assert config.problems == (f"{path}: cannot be read: it is not a regular file",)
    path.unlink()
    assert discover(tmp_path, "", tmp_path).problems == ()


def test_the_file_of_the_parent_process(tmp_path):
    theirs = place(tmp_path / "theirs" / "autopatch.toml", "npu")
    here = place(tmp_path / "here" / "autopatch.toml", "cpu")
    mine = place(tmp_path / "mine" / "autopatch.toml", "cuda")
    (tmp_path / "mine" / "worker.py").touch()
    env = {"MX_AUTOPATCH_DISCOVERED": theirs}
    assert discover(tmp_path, "", tmp_path / "here", **env).path == theirs
    assert discover(tmp_path, "", tmp_path / "here", **env).trusted is False
    script = str(tmp_path / "mine" / "worker.py")
    assert discover(tmp_path, script, tmp_path / "here", **env).path == mine
    os.unlink(theirs)
    config = discover(tmp_path, "", tmp_path / "here", **env)
    assert (config.path, config.problems) == (here, ())


def test_a_script_behind_a_link_is_where_python_says(tmp_path):
    wanted = place(tmp_path / "real" / "autopatch.toml", "npu")
    (tmp_path / "real" / "train.py").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "train").symlink_to(tmp_path / "real" / "train.py")
    assert discover(tmp_path, str(tmp_path / "bin" / "train"), tmp_path).path == wanted


def test_a_zip_application_has_the_folder_it_lies_in(tmp_path):
    wanted = place(tmp_path / "app" / "autopatch.toml", "npu")
    archive = tmp_path / "app" / "tool.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__main__.py", "")
        file.writestr("autopatch.toml", "device = 'cpu'")
    assert discover(tmp_path, str(archive), tmp_path).path == wanted


def test_a_deleted_working_directory(tmp_path, monkeypatch):
    wanted = place(tmp_path / "app" / "autopatch.toml", "npu")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    environ = {"MX_AUTOPATCH_PLUGINS_FILES": "p.py"}
    assert load(environ={}, script="").path is None
    assert load(environ={}, script="x.py").path is None
    assert load(environ={}, script=str(tmp_path / "app")).path == wanted
    assert load(environ=environ, script="").problems == (
        "environment MX_AUTOPATCH_PLUGINS_FILES: 'p.py': the working directory is gone;"
        " write a full path",
    )


def test_the_script_of_this_process_is_the_default(tmp_path, monkeypatch):
    wanted = place(tmp_path / "autopatch.toml", "npu")
    (tmp_path / "train.py").touch()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train.py"), "--lr", "1"])
    assert load(environ={}, cwd="/").path == wanted
    monkeypatch.delattr(sys, "argv")  # as in an embedded interpreter
    assert load(environ={}, cwd="/").path is None


def test_the_explicit_file(tmp_path):
    wanted = place(tmp_path / "other" / "npu.toml", "npu")
    place(tmp_path / "autopatch.toml", "cpu")
    env = {"MX_AUTOPATCH_CONFIG": wanted}
    config = discover(tmp_path, "", tmp_path, **env)
    assert (config.path, config.device, config.trusted) == (wanted, "npu", True)
    relative = {"MX_AUTOPATCH_CONFIG": "other/npu.toml"}
    assert discover(tmp_path, "", tmp_path, **relative).path == wanted
    config = read(tmp_path, env={"MX_AUTOPATCH_CONFIG": "/no"}, explicit=wanted)
    assert (config.path, config.problems) == (wanted, ())
    config = read(tmp_path, explicit=os.devnull)  # no file, not even the one that lies here
    assert (config.path, config.device, config.problems) == (None, "auto", ())


def test_the_explicit_file_cannot_be_used(tmp_path):
    place(tmp_path / "autopatch.toml", "cpu")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    end = "name an autopatch.toml, or leave it out"
    config = read(tmp_path, explicit="gone.toml")
    gone = str(tmp_path / "gone.toml")
    assert config.problems == (f"command line --config: {gone!r} does not exist; {end}",)
    assert (config.path, config.device) == (None, "auto")
    project = str(tmp_path / "pyproject.toml")
    assert read(tmp_path, explicit=project).problems == (
        f"command line --config: {project!r} has no [tool.mx_autopatch] section; {end}",
    )
    assert read(tmp_path, explicit=str(tmp_path)).problems == (
        f"{tmp_path}: cannot be read: it is not a regular file",
    )
    assert read(tmp_path, explicit="a\0b").problems[0].endswith("its name holds a null character")


# --- whose file is it -----------------------------------------------------------------

READ_IT = "read it and run `mx-autopatch trust"


@as_root
def test_the_file_of_another_user_is_refused(tmp_path):
    path = place(tmp_path / "autopatch.toml", "npu")
    os.chown(path, 12345, 0)
    for arguments in ({}, {"trust_discovered": True}, {"explicit": path}):
        config = read(tmp_path, **arguments)
        assert config.problems == (
            f"{path}: refused: it belongs to uid 12345, not to you (uid 0);"
            f" chown it, or {READ_IT} {path}`",
        )
        assert (config.device, config.path, config.trusted) == ("auto", path, False)


@as_root
def test_root_may_write_for_everybody(tmp_path, monkeypatch):
    place(tmp_path / "autopatch.toml", "npu")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert read(tmp_path).problems == ()


def test_a_file_that_everybody_may_write_to_is_refused(tmp_path):
    folder = tmp_path / "a $(b)"
    path = Path(place(folder / "autopatch.toml", "npu"))
    path.write_text("device = 'cpu'\nnonsense = 1")
    path.chmod(0o646)
    config = read(folder)
    assert config.problems == (
        f"{path}: refused: everybody may write to it (mode 646); chmod o-w, or {READ_IT} '{path}'`",
    )
    assert config.device == "auto"
    path.chmod(0o664)  # a group is a choice of its members
    assert read(folder).device == "cpu"


def test_where_there_are_no_owners(tmp_path, monkeypatch):
    path = Path(place(tmp_path / "autopatch.toml", "npu"))
    path.chmod(0o666)
    monkeypatch.delattr(os, "geteuid")  # Windows
    assert read(tmp_path).device == "npu"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_a_file_that_cannot_be_read(tmp_path):
    path = Path(place(tmp_path / "autopatch.toml", "npu"))
    path.chmod(0)
    assert read(tmp_path).problems == (f"{path}: cannot be read: Permission denied",)


# --- code that a file names -----------------------------------------------------------

PLUGINS = "[plugins]\nfiles = ['p.py', 'q.py']\nmodules = ['m.n']\n"


def test_a_file_found_on_the_way_may_not_name_code(tmp_path):
    config = read(tmp_path, "device = 'npu'\n" + PLUGINS)
    path = tmp_path / "autopatch.toml"
    why = (
        "left out: a file that was found, not named, may name code only while it is trusted"
        f" and unchanged; {READ_IT} {path}`"
    )
    p, q = str(tmp_path / "p.py"), str(tmp_path / "q.py")
    assert config.problems == (
        f"{path}: plugins.files: {p!r}, {q!r} {why}",
        f"{path}: plugins.modules: 'm.n' {why}",
    )
    assert (config.plugin_files, config.plugin_modules) == ((), ())
    assert config.sources["plugins.files"] == "default"
    assert (config.trusted, config.device) == (False, "npu")


def test_a_file_that_was_named_may(tmp_path):
    path = str(tmp_path / "autopatch.toml")
    for arguments in (
        {"trust_discovered": True},
        {"explicit": path},
        {"env": {"MX_AUTOPATCH_CONFIG": path}},
    ):
        config = read(tmp_path, PLUGINS, **arguments)
        assert config.problems == ()
        assert config.trusted
        assert config.plugin_files == (str(tmp_path / "p.py"), str(tmp_path / "q.py"))
        assert config.plugin_modules == ("m.n",)
        assert config.plugin_bytes == {}


def test_plugins_of_the_environment_need_no_trust(tmp_path):
    env = {"MX_AUTOPATCH_PLUGINS_FILES": "x.py", "MX_AUTOPATCH_PLUGINS_MODULES": "y"}
    config = read(tmp_path, PLUGINS, env)
    assert config.problems == ()
    assert config.plugin_files == (str(tmp_path / "x.py"),)
    assert config.plugin_modules == ("y",)
    config = read(tmp_path, PLUGINS, overrides={"plugins.files": "", "plugins.modules": ["z"]})
    assert (config.plugin_files, config.plugin_modules) == ((), ("z",))
    assert config.problems == ()


def test_empty_lists_of_plugins_are_no_problem(tmp_path):
    assert read(tmp_path, "[plugins]\nfiles = []\nmodules = []").problems == ()


def test_a_plugin_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    config = read(tmp_path, overrides={"plugins.files": ["~/p.py", "../q.py"]})
    assert config.plugin_files == ("/somewhere/p.py", str(tmp_path.parent / "q.py"))
