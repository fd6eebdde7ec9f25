"""``install`` and ``uninstall``."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pytest
from said import Cli

from mx_autopatch.cli import install, starters
from mx_autopatch.cli.environment import clear, inherit
from mx_autopatch.cli.plan import Given

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages folder in the place of this interpreter's."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.setattr(starters, "site_folders", lambda: [str(folder)])
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(folder)})
    return folder


def test_the_contents_are_those_of_the_templates() -> None:
    for name, text in starters.FILES.items():
        assert (ROOT / "sitecustomize_template" / name).read_text() == text
    assert starters.is_ours(os.path.join(starters.sitecustomize_folder(), "sitecustomize.py"))


def test_into_site_packages_and_out_again(
    cli: Cli, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "_is_found_from", lambda folder: True)
    said = cli("install")
    assert (said.code, said.err) == (0, "")
    assert {path.name: path.read_text() for path in site.iterdir()} == starters.FILES
    assert starters.installed() == [str(site / "mx_autopatch.pth")]
    said = cli("uninstall")
    assert said.code == 0
    assert said.out == "".join(f"removed {site / name}\n" for name in starters.FILES)
    assert list(site.iterdir()) == []
    assert "nothing to remove" in cli("uninstall").out


def test_a_package_that_is_not_found_is_put_on_the_path(
    cli: Cli, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "_is_found_from", lambda folder: False)
    said = cli("install")
    home = starters.package_home()
    text = (site / "mx_autopatch.pth").read_text()
    assert text == f"{home}\n{starters.FILES['mx_autopatch.pth']}"
    assert f"puts {home} on sys.path" in said.out
    assert cli("uninstall").code == 0


def test_whether_the_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", starters.package_home())
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert install._is_found_from(str(tmp_path)) is False


@pytest.mark.skipif(os.name == "nt", reason="mode bits")
def test_where_it_cannot_be_written(cli: Cli, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(site / "gone")})
    monkeypatch.setattr(install, "_is_found_from", lambda folder: True)
    said = cli("install")
    assert said.code == 2
    assert "cannot be written: No such file or directory; use a virtual environment" in said.err


def test_only_ours_is_removed(cli: Cli, site: Path) -> None:
    (site / "mx_autopatch.pth").write_text("import something_else\n")
    said = cli("uninstall")
    assert said.code == 2
    assert "not removed, since it is not ours" in said.err
    assert (site / "mx_autopatch.pth").exists()


def test_sitecustomize(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "sc"
    said = cli("install", "--sitecustomize", folder)
    assert (said.code, said.err) == (0, "")
    assert f"PYTHONPATH={folder}" in said.out
    copy = folder / "sitecustomize.py"
    source = Path(starters.sitecustomize_folder(), "sitecustomize.py")
    assert copy.read_bytes() == source.read_bytes()
    copy.write_text(copy.read_text() + "# an older version of ours\n")
    assert cli("install", "--sitecustomize", folder).code == 0  # ours may be overwritten
    assert copy.read_bytes() == source.read_bytes()
    assert cli("uninstall", "--sitecustomize", folder).out == f"removed {copy}\n"
    assert not copy.exists()


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_a_foreign_sitecustomize_stays(cli: Cli, tmp_path: Path, command: str) -> None:
    foreign = tmp_path / "sitecustomize.py"
    foreign.write_text("import mx_autopatch\n")
    said = cli(command, "--sitecustomize", tmp_path)
    assert said.code == 2
    assert "not ours" in said.err
    assert foreign.read_text() == "import mx_autopatch\n"


def test_nothing_there_to_uninstall(cli: Cli, tmp_path: Path) -> None:
    said = cli("uninstall", "--sitecustomize", tmp_path)
    assert said.code == 2
    assert "there is no such file" in said.err


# -- what a run leaves in the environment ------------------------------------------


GIVEN = Given("c.toml", {"patches.only": ["a", "b"], "strict": True, "device": "npu"})


def test_options_in_the_environment(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "mx_autopatch.pth").write_text("")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("MX_AUTOPATCH_PATCHES_ONLY", "z")
    clear(GIVEN.overrides)
    inherit(GIVEN, "/full/c.toml")
    ours = {k: v for k, v in os.environ.items() if k.startswith(("MX_AUTOPATCH", "PYTHONPATH"))}
    assert ours == {
        "MX_AUTOPATCH": "1",
        "MX_AUTOPATCH_CONFIG": "/full/c.toml",
        "MX_AUTOPATCH_DEVICE": "npu",
        "MX_AUTOPATCH_ONLY": "a,b",
        "MX_AUTOPATCH_STRICT": "1",
    }


def test_no_configuration_names_none(site: Path) -> None:
    inherit(Given(), None)
    assert "MX_AUTOPATCH_CONFIG" not in os.environ
    inherit(Given(os.devnull), None)
    assert os.environ["MX_AUTOPATCH_CONFIG"] == os.devnull


@pytest.mark.parametrize("theirs", [None, "", "/a", os.pathsep.join(["/a", "", "/b"])])
def test_without_a_pth_file_sitecustomize_stands_in(
    site: Path, monkeypatch: pytest.MonkeyPatch, theirs: str | None
) -> None:
    if theirs is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", theirs)
    ours = starters.sitecustomize_folder()
    for _ in range(2):
        inherit(Given(), None)
        assert os.environ["PYTHONPATH"] == (f"{ours}{os.pathsep}{theirs}" if theirs else ours)
