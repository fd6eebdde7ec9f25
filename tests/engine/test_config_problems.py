"""Problems in the configuration: the message of each, and what is used all the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mx_autopatch.engine.config import KEYS, Config, check_names, load
from mx_autopatch.errors import ConfigError


def read(folder: Path, text: str | bytes | None = None, env=(), **arguments) -> Config:
    """Load with ``text`` as the autopatch.toml of an otherwise empty world."""
    if text is not None:
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "autopatch.toml").write_bytes(data)
    environ = {"HOME": str(folder / "home"), **dict(env)}
    return load(environ=environ, script="", cwd=str(folder), **arguments)


# --- problems: every message ----------------------------------------------------------

# text of autopatch.toml, message after "FILE: "
BAD_FILES = [
    ("devise = 'npu'", "devise: unknown key; did you mean 'device'?"),
    ("disable = ['a']", "disable: unknown key; did you mean 'patches.disable'?"),
    ("zzz = 1", "zzz: unknown key; the keys are " + ", ".join(key.name for key in KEYS)),
    ("[patch]\n", "patch: unknown section; did you mean 'patches'?"),
    (
        "[zzz]\n",
        "zzz: unknown section; the sections are mmcv, modules, patches, plugins, profile, report",
    ),
    (
        "[tool.mx_autopatch]\n",
        "tool: unknown section; leave [tool.mx_autopatch] out, its keys stand here by themselves",
    ),
    ("[patches]\nenabel = []", "patches.enabel: unknown key; did you mean 'patches.enable'?"),
    ("[report]\ndevice = 1", "report.device: unknown key; did you mean 'device'?"),
    (
        "[plugins]\nzzzzz = []",
        "plugins.zzzzz: unknown key; the keys are plugins.files, plugins.modules",
    ),
    (
        '"a\\u001b[2J" = 1',
        "'a\\x1b[2J': unknown key; the keys are " + ", ".join(key.name for key in KEYS),
    ),
    (
        "patches = 3",
        "patches: expected a table with enable, disable, only, options; got 3 (an integer)",
    ),
    ("strict = 'yes'", "strict: expected true or false; got 'yes' (a string)"),
    ("strict = 1", "strict: expected true or false; got 1 (an integer)"),
    (
        "device = 'npuu'",
        "device: 'npuu' is not one of auto, cpu, cuda, npu, soft, contract; did you mean 'npu'?",
    ),
    (
        "device = 'NPU'",
        "device: 'NPU' is not one of auto, cpu, cuda, npu, soft, contract; did you mean 'npu'?",
    ),
    ("device = 'xla'", "device: 'xla' is not one of auto, cpu, cuda, npu, soft, contract"),
    (
        "device = false",
        "device: expected one of auto, cpu, cuda, npu, soft, contract; got false (a boolean)",
    ),
    ("brake = -1", "brake: expected a whole number, 0 or more; got -1 (an integer)"),
    ("brake = true", "brake: expected a whole number, 0 or more; got true (a boolean)"),
    ("brake = '5'", "brake: expected a whole number, 0 or more; got '5' (a string)"),
    (
        "[profile]\nactive = 0",
        "profile.active: expected a whole number, 1 or more; got 0 (an integer)",
    ),
    ("[profile]\nlevel = 3", "profile.level: 3 is not one of 0, 1, 2"),
    ("[profile]\nwait = ''", "profile.wait: expected a whole number, 0 or more; got '' (a string)"),
    (
        "[profile]\npath = 'a{step}'",
        "profile.path: 'a{step}': only {pid} and {rank} may stand in braces",
    ),
    (
        "[patches]\nenable = 'a.b'",
        "patches.enable: expected a list of patch names; got 'a.b' (a string); write ['a.b']",
    ),
    ("[patches]\ndisable = {}", "patches.disable: expected a list of patch names; got a table"),
    ("[patches]\nonly = ['a', 2.5]", "patches.only: expected a patch name; got 2.5 (a number)"),
    ("[patches]\nonly = [' ']", "patches.only: expected a patch name; got ' ' (a string)"),
    ("[patches]\noptions = 1979-05-27", "patches.options: expected a table of tables; got a date"),
    (
        "[patches.options]\nx = 1",
        "patches.options: 'x': expected a table of options; got 1 (an integer)",
    ),
    (
        "[patches.options]\nx = {a = " + "[" * 40 + "]" * 40 + "}",
        "patches.options: tables are nested too deeply",
    ),
    (
        "[patches.options]\nx" + ".y" * 60 + " = 1",
        "patches.options: tables are nested too deeply",
    ),
    (
        "[modules]\nstub = 'a'",
        "modules.stub: expected a list of module names or tables; got 'a' (a string)",
    ),
    (
        "[modules]\nstub = [1]",
        "modules.stub: expected a module name or {name = ...}; got 1 (an integer)",
    ),
    (
        "[modules]\nstub = [{probes = 'absent'}]",
        "modules.stub: expected a module name or {name = ...}; got a table",
    ),
    (
        "[modules]\nstub = ['a-b']",
        "modules.stub: 'a-b' is not a module name; write one like 'package.module'",
    ),
    (
        "[modules]\nstub = [{name = 'a', probes = 'gone'}]",
        "modules.stub: 'a': probes is 'gone', not one of present, absent",
    ),
    (
        "[modules]\nstub = [{name = 'a', probes = []}]",
        "modules.stub: 'a': probes is a list, not one of present, absent",
    ),
    (
        "[modules]\nstub = [{name = 'a', probe = 'absent'}]",
        "modules.stub: 'a': unknown field 'probe'; did you mean 'probes'?",
    ),
    (
        "[modules]\nstub = ['a', {name = 'a', probes = 'absent'}]",
        "modules.stub: 'a' is listed as present and as absent; keep one",
    ),
    ("[modules]\nredirect = ['a']", 'modules.redirect: expected a table "old" = "new"; got a list'),
    (
        "[modules.redirect]\na = 1",
        "modules.redirect: 'a': expected a module name; got 1 (an integer)",
    ),
    (
        "[modules.redirect]\na = 'b c'",
        "modules.redirect: 'b c' is not a module name; write one like 'package.module'",
    ),
    (
        "[modules.redirect]\n'1a' = 'b'",
        "modules.redirect: '1a' is not a module name; write one like 'package.module'",
    ),
    (
        "[modules.redirect]\na.b = 'c'\n'a.b' = 'd'",
        "modules.redirect: 'a.b' is redirected to two modules; keep one",
    ),
    ("[modules.redirect]\na = 'a'", "modules.redirect: 'a' is redirected to itself; remove it"),
    (
        "[modules.redirect]\na = 'a.b'",
        "modules.redirect: 'a' is redirected into itself ('a.b'); remove it",
    ),
    (
        "[modules.redirect]\nx = 'a'\na = 'b'\nb = 'c'\nc = 'a'",
        "modules.redirect: 'a' -> 'b' -> 'c' -> 'a' is a cycle; remove one of them",
    ),
    (
        "[modules.redirect]\na = 'b.x'\nb = 'a.y'",
        "modules.redirect: 'a' -> 'b' -> 'a' is a cycle; remove one of them",
    ),
    (
        "[modules.redirect]\na" + ".b" * 60 + " = 'c'",
        "modules.redirect: tables are nested too deeply",
    ),
    (
        "[mmcv]\nversion = 2.1",
        'mmcv.version: expected a version in quotes; got 2.1 (a number); write "2.1"',
    ),
    ("[mmcv]\nversion = 'two'", "mmcv.version: 'two' is not a version; write one like '2.1.0'"),
    (
        "[plugins]\nfiles = 'p.py'",
        "plugins.files: expected a list of paths; got 'p.py' (a string); write ['p.py']",
    ),
    ("[plugins]\nfiles = [0x" + "f" * 5000 + "]", "plugins.files: expected a path; got an integer"),
    (
        "[plugins]\nmodules = ['a/b.py']",
        "plugins.modules: 'a/b.py' is not a module name; write one like 'package.module'",
    ),
    ("[report]\npath = 1", "report.path: expected a path; got 1 (an integer)"),
    (
        "[report]\npath = '{host}-{pid}'",
        "report.path: '{host}-{pid}': only {pid} and {rank} may stand in braces",
    ),
    (
        "[report]\nlevel = 'details'",
        "report.level: 'details' is not one of silent, summary, detail; did you mean 'detail'?",
    ),
    ("strict = ", "invalid TOML: Invalid value (at end of document)"),
    (
        "strict = true\n[patches\n",
        "invalid TOML: Expected ']' at the end of a table declaration (at line 2, column 9)",
    ),
    (b"# fine\n# b\xe9te\n", "not UTF-8 (at line 2); save it as UTF-8"),
    ("x = " + "[" * 100000, "invalid TOML: nested too deeply"),
    (b"#" * (1 << 20) + b"#", "cannot be read: it is larger than 1 MiB"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES, ids=[m[:60] for _, m in BAD_FILES])
def test_problem_in_a_file(tmp_path, text, message):
    config = read(tmp_path, text, trust_discovered=True)
    assert config.problems == (f"{tmp_path / 'autopatch.toml'}: {message}",)
    assert config.path == str(tmp_path / "autopatch.toml")


BAD_ENVIRONMENTS = [
    ({"DISABEL": "a"}, "DISABEL: unknown variable; did you mean 'MX_AUTOPATCH_DISABLE'?"),
    ({"CONFIGS": "a"}, "CONFIGS: unknown variable; did you mean 'MX_AUTOPATCH_CONFIG'?"),
    ({"device": "a"}, "device: unknown variable; did you mean 'MX_AUTOPATCH_DEVICE'?"),
    ({"QQQ": "a"}, "QQQ: unknown variable; the template of `mx-autopatch init` names them all"),
    ({"STRICT": "maybe"}, "STRICT: 'maybe' is not one of 1, true, yes, on, 0, false, no, off"),
    ({"DEVICE": "cdua"}, "DEVICE: 'cdua' is not one of auto, cpu, cuda, npu, soft, contract;"
     " did you mean 'cuda'?"),
    ({"BRAKE": "five"}, "BRAKE: 'five' is not a whole number; write one like 100"),
    ({"BRAKE": "-5"}, "BRAKE: '-5' is not a whole number; write one like 100"),
    ({"PROFILE_ACTIVE": "0"}, "PROFILE_ACTIVE: expected a whole number, 1 or more; got 0"
     " (an integer)"),
    ({"MODULES_STUB": "a=gone"}, "MODULES_STUB: 'a': probes is 'gone', not one of present,"
     " absent"),
    ({"MODULES_REDIRECT": "a"}, "MODULES_REDIRECT: 'a' is not old=new"),
    ({"MODULES_REDIRECT": "a=b,a=c"}, "MODULES_REDIRECT: 'a' is redirected to two modules;"
     " keep one"),
    ({"MODULES_REDIRECT": "a=b=c"}, "MODULES_REDIRECT: 'b=c' is not a module name;"
     " write one like 'package.module'"),
    ({"MMCV_VERSION": "x"}, "MMCV_VERSION: 'x' is not a version; write one like '2.1.0'"),
    ({"REPORT": "{x}"}, "REPORT: '{x}': only {pid} and {rank} may stand in braces"),
    ({"PATCHES_OPTIONS": "a"}, "PATCHES_OPTIONS: invalid TOML: Invalid value"
     " (at line 1, column 9); write {name = {key = value}}"),
    ({"PATCHES_OPTIONS": "{}\nb = 1"}, "PATCHES_OPTIONS: expected one inline table"),
    ({"PATCHES_OPTIONS": "1"}, "PATCHES_OPTIONS: expected a table of tables;"
     " got 1 (an integer)"),
    ({"DEVICE": "\udcff" * 200}, "DEVICE: '" + "\\udcff" * 97 + "...' is not one of"
     " auto, cpu, cuda, npu, soft, contract"),
    ({"REPORT": "a", "REPORT_PATH": "b"}, "REPORT and MX_AUTOPATCH_REPORT_PATH differ"
     " ('a' and 'b'); keep one of them"),
    ({"CONFIG": "/no/such.toml"}, "CONFIG: '/no/such.toml' does not exist;"
     " name an autopatch.toml, or leave it out"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("env", "message"), BAD_ENVIRONMENTS, ids=[m[:50] for _, m in BAD_ENVIRONMENTS]
)
def test_problem_in_the_environment(tmp_path, env, message):
    config = read(tmp_path, env={f"MX_AUTOPATCH_{name}": value for name, value in env.items()})
    assert config.problems == (f"environment MX_AUTOPATCH_{message}",)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"device": "gpu0"}, "--device: 'gpu0' is not one of auto, cpu, cuda, npu, soft, contract"),
        ({"report.level": 3}, "report.level: expected one of silent, summary, detail;"
         " got 3 (an integer)"),
        ({"patches.disabel": []}, "patches.disabel: unknown key; did you mean 'patches.disable'?"),
        ({"patches.enable": 7}, "--enable: expected a list of patch names; got 7 (an integer)"),
        ({"patches.enable": object}, "--enable: expected a list of patch names; got type"),
    ],
)  # fmt: skip
def test_problem_on_the_command_line(tmp_path, overrides, message):
    assert read(tmp_path, overrides=overrides).problems == (f"command line {message}",)


def test_the_valid_part_is_used_and_all_problems_are_told(tmp_path):
    text = """
    device = "gpu0"
    strict = true
    colour = "red"
    [patches]
    disable = ["a.b", 3]
    [modules.redirect]
    a = "a"
    b = "c"
    """
    env = {"MX_AUTOPATCH_STRICT": "perhaps", "MX_AUTOPATCH_REPORT_LEVEL": "silent"}
    config = read(tmp_path, text, env)
    assert len(config.problems) == 5
    assert config.device == "auto"
    assert config.strict is True  # the variable is no good, so the file stands
    assert config.disable == ("a.b",)
    assert config.redirect == {"b": "c"}
    assert config.report_level == "silent"
    with pytest.raises(ConfigError) as caught:
        config.raise_for_problems()
    assert str(caught.value) == "\n".join(config.problems)


def test_without_packaging_a_version_cannot_be_checked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "packaging.version", None)
    config = read(tmp_path, env={"MX_AUTOPATCH_MMCV_VERSION": "2.1.0"})
    assert config.mmcv_version is None
    assert config.problems == (
        "environment MX_AUTOPATCH_MMCV_VERSION: '2.1.0' cannot be checked without packaging;"
        " pip install packaging",
    )


# --- names of patches -----------------------------------------------------------------

KNOWN = ("mmcv.version_gate", "mmcv.nms", "torch.index", "plain")


def test_names_that_exist(tmp_path):
    text = """
    [patches]
    enable = ["mmcv.nms", "plain"]
    disable = ["torch.*", "*"]
    [patches.options.mmcv]
    nms = {a = 1}
    "version_gate" = {b = {c = 1}}
    [patches.options."torch.index"]
    [patches.options.plain.table]
    """
    assert check_names(read(tmp_path, text), KNOWN) == ()
    assert check_names(Config(), KNOWN) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enable = ['torch.indx']", "enable: unknown patch 'torch.indx';"
         " did you mean 'torch.index'?"),
        ("disable = ['index', 'index']", "disable: unknown patch 'index';"
         " did you mean 'torch.index'?"),
        ("only = ['mmvc.*']", "only: no patch fits 'mmvc.*'; did you mean 'mmcv.*'?"),
        ("only = ['qqqqq?']", "only: no patch fits 'qqqqq?'; there are patches in"
         " mmcv.*, torch.*"),
        ("options = {mmcv = {nsm = {a = 1}}}", "options: unknown patch 'mmcv.nsm';"
         " did you mean 'mmcv.nms'?"),
        ("options = {mmvc = {nms = {a = 1}}}", "options: unknown patch 'mmvc.nms';"
         " did you mean 'mmcv.nms'?"),
        ("options = {'mmcv.nmms' = {a = 1}}", "options: unknown patch 'mmcv.nmms';"
         " did you mean 'mmcv.nms'?"),
        ("options = {torch = {index = {}, indices = 1}}", "options: unknown patch"
         " 'torch.indices'; did you mean 'torch.index'?"),
    ],
)  # fmt: skip
def test_names_that_do_not_exist(tmp_path, text, message):
    config = read(tmp_path, f"[patches]\n{text}")
    assert config.problems == ()
    assert check_names(config, KNOWN) == (f"{tmp_path / 'autopatch.toml'}: patches.{message}",)


def test_unknown_names_tell_their_source(tmp_path):
    config = read(
        tmp_path, env={"MX_AUTOPATCH_ENABLE": "nmms"}, overrides={"patches.disable": ["x.y"]}
    )
    assert check_names(config, ["mmcv.nms"]) == (
        "environment MX_AUTOPATCH_ENABLE: unknown patch 'nmms'; there are patches in mmcv.*",
        "command line --disable: unknown patch 'x.y'; there are patches in mmcv.*",
    )
    assert check_names(config, [])[0].endswith("; there are patches in no library at all")
