"""The trust store: its life cycle, alone and through ``load``."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from mx_autopatch.engine import trust
from mx_autopatch.engine.config import load
from mx_autopatch.errors import ConfigError

as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give a file away"
)


class Project:
    """A configuration with two plugins, and a home folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.environ = {"HOME": str(folder / "home")}
        self.folder = folder / "project"
        self.folder.mkdir()
        self.file = self.folder / "autopatch.toml"
        self.file.write_text("[plugins]\nfiles = ['p.py', 'sub/q.py']\nmodules = ['m.n']\n")
        self.plugins = [self.folder / "p.py", self.folder / "sub" / "q.py"]
        self.plugins[1].parent.mkdir()
        for plugin in self.plugins:
            plugin.write_text(f"# {plugin.name}\n")
        self.path = str(self.file)
        self.store = Path(trust.store_path(self.environ))

    def load(self, **arguments):
        return load(environ=self.environ, script="", cwd=str(self.folder), **arguments)

    def record(self):
        return trust.record(self.path, environ=self.environ)

    def is_trusted(self, content=None):
        content = self.file.read_bytes() if content is None else content
        files = [str(plugin) for plugin in self.plugins]
        return trust.is_trusted(self.path, content, files, environ=self.environ)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_life_cycle(project):
    assert not project.is_trusted()
    assert not trust.forget(project.path, environ=project.environ)
    assert not project.store.exists()
    digest = project.record()
    assert len(digest) == 64
    assert project.is_trusted()
    assert project.record() == digest
    assert not project.is_trusted(b"# another content")
    assert trust.forget(project.path, environ=project.environ)
    assert not project.is_trusted()
    assert json.loads(project.store.read_text()) == {}


def test_trust_lets_a_discovered_file_name_code(project):
    assert not project.load().trusted
    project.record()
    config = project.load()
    assert (config.trusted, config.problems) == (True, ())
    assert config.plugin_files == tuple(map(str, project.plugins))
    assert config.plugin_modules == ("m.n",)


def test_the_bytes_that_were_hashed_are_handed_over(project):
    project.record()
    config = project.load()
    project.plugins[0].write_text("evil()")  # after it was hashed, before it is run
    assert config.plugin_bytes == {
        str(project.plugins[0]): b"# p.py\n",
        str(project.plugins[1]): b"# q.py\n",
    }


def test_a_changed_plugin_ends_the_trust(project):
    project.record()
    project.plugins[1].write_text("evil()")
    config = project.load()
    assert not config.trusted
    assert config.plugin_files == ()
    assert "trusted and unchanged" in config.problems[0]
    project.record()
    assert project.load().trusted
    project.plugins[1].unlink()
    assert not project.load().trusted


def test_a_changed_file_ends_the_trust(project):
    project.record()
    project.file.write_text(project.file.read_text() + "# harmless\n")
    assert not project.load().trusted
    assert project.load(explicit=project.path).trusted


def test_bytes_do_not_move_from_one_file_to_the_next():
    assert trust.digest(b"ab", [b"c"]) != trust.digest(b"a", [b"bc"])
    assert trust.digest(b"a", [b"b", b"c"]) != trust.digest(b"a", [b"c", b"b"])
    assert trust.digest(b"a", []) != trust.digest(b"a", [b""])


def test_trust_goes_by_the_real_path(project, tmp_path):
    project.record()
    link = tmp_path / "link"
    link.symlink_to(project.folder)
    found = load(environ=project.environ, script="", cwd=str(link))
    assert found.path == str(link / "autopatch.toml")
    assert found.trusted
    copy = tmp_path / "copy" / "autopatch.toml"
    copy.parent.mkdir()
    copy.write_bytes(project.file.read_bytes())
    assert not load(environ=project.environ, script="", cwd=str(copy.parent)).trusted


def test_a_link_to_a_trusted_file_does_not_bring_other_plugins(project, tmp_path):
    project.record()
    trap = tmp_path / "trap"
    (trap / "sub").mkdir(parents=True)
    (trap / "autopatch.toml").symlink_to(project.file)
    (trap / "p.py").write_text("evil()")
    (trap / "sub" / "q.py").write_text("# q.py\n")
    config = load(environ=project.environ, script="", cwd=str(trap))
    assert not config.trusted
    assert config.plugin_files == ()


@as_root
def test_trust_admits_the_file_of_another_user_while_it_is_the_same(project):
    project.file.write_text("device = 'npu'\n")
    os.chown(project.path, 12345, 0)
    assert project.load().device == "auto"
    project.record()
    assert project.load().device == "npu"
    project.file.write_text("device = 'cuda'\n")
    assert project.load(explicit=project.path).device == "auto"


def test_trust_admits_a_file_that_everybody_may_write_to(project):
    project.file.chmod(0o666)
    assert not project.load(trust_discovered=True).trusted
    project.record()
    assert project.load().trusted
    assert project.load().problems == ()


def test_a_pyproject_can_be_trusted(project):
    text = project.file.read_text().replace("[plugins]", "[tool.mx_autopatch.plugins]")
    project.file.unlink()
    path = project.folder / "pyproject.toml"
    path.write_text(text)
    trust.record(str(path), environ=project.environ)
    assert project.load().trusted


def test_files_of_the_store_are_private(project):
    project.store.parent.mkdir(parents=True)
    project.store.parent.chmod(0o755)
    project.record()
    assert stat.S_IMODE(project.store.stat().st_mode) == 0o600
    assert stat.S_IMODE(project.store.parent.stat().st_mode) == 0o700
    assert os.listdir(project.store.parent) == ["trust.json"]


def test_the_place_of_the_store(tmp_path):
    end = os.path.join("mx_autopatch", "trust.json")
    assert trust.store_path({"XDG_DATA_HOME": "/data"}) == f"/data/{end}"
    home = {"HOME": "/home/me"}
    assert trust.store_path(home) == f"/home/me/.local/share/{end}"
    assert trust.store_path({**home, "XDG_DATA_HOME": "not/absolute"}) == trust.store_path(home)


def test_without_a_home_folder_nothing_is_trusted(project, monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without entry
    project.environ = {}
    assert not project.is_trusted()
    with pytest.raises(ConfigError, match="no home folder for the trust store; set XDG_DATA_HOME"):
        project.record()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"a": 1}', b"\xff", b"null", b"[" * 100_000],
    ids=["empty", "cut", "list", "number", "bytes", "null", "deep"],
)
def test_a_corrupt_store_trusts_nothing(project, content):
    project.record()
    project.store.write_bytes(content)
    assert not project.is_trusted()
    assert not project.load().trusted
    message = f"{project.store}: this is not a trust store; nothing is trusted until you remove it"
    for change in (trust.record, trust.forget):
        with pytest.raises(ConfigError) as caught:
            change(project.path, environ=project.environ)
        assert str(caught.value) == message
    assert project.store.read_bytes() == content


@as_root
def test_the_store_of_another_user_trusts_nothing(project):
    project.record()
    os.chown(project.store, 12345, 0)
    assert not project.is_trusted()
    with pytest.raises(ConfigError, match=r"belongs to uid 12345.*until you remove it"):
        project.record()


def test_a_store_that_everybody_may_write_to_trusts_nothing(project):
    project.record()
    project.store.chmod(0o602)
    assert not project.is_trusted()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file, or no [tool.mx_autopatch] in it"),
        ("[plugins", "invalid TOML: Expected ']' at the end of a table declaration"
         " (at end of document)"),
        ("[plugins]\nfiles = ['gone.py']",
         "plugins.files: '{folder}/gone.py' cannot be read: No such file or directory"),
        ('[plugins]\nfiles = ["a\\u0000b"]',
         "plugins.files: '{folder}/a\\x00b' cannot be read: its name holds a null character"),
        ("[plugins]\nfiles = ['.']",
         "plugins.files: '{folder}' cannot be read: it is not a regular file"),
    ],
)  # fmt: skip
def test_what_cannot_be_trusted(project, text, message):
    project.file.unlink()
    if text is not None:
        project.file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        project.record()
    assert str(caught.value) == f"{project.path}: {message.format(folder=project.folder)}"
    assert not project.store.exists()


def test_a_store_that_cannot_be_written(project):
    project.store.parent.parent.mkdir(parents=True)
    project.store.parent.write_text("a file where the folder should be")
    with pytest.raises(ConfigError) as caught:
        project.record()
    assert str(caught.value).startswith(f"{project.store}: cannot be ")


def test_a_write_that_fails_leaves_the_store_as_it_was(project, monkeypatch):
    project.record()
    before = project.store.read_bytes()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        trust.forget(project.path, environ=project.environ)
    assert project.store.read_bytes() == before
    assert os.listdir(project.store.parent) == ["trust.json"]


def test_entries_of_others_are_kept(project, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("")
    trust.record(str(other), environ=project.environ)
    project.record()
    assert sorted(json.loads(project.store.read_text())) == sorted([str(other), project.path])
    trust.forget(str(other), environ=project.environ)
    assert project.is_trusted()


def test_a_relative_path(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    trust.record("autopatch.toml", environ=project.environ)
    assert project.load().trusted
