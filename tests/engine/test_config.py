"""The configuration: values, sources, selection, template, cost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mx_autopatch.engine import config as config_module
from mx_autopatch.engine.config import KEYS, Config, StubRule, load, template
from mx_autopatch.engine.config_values import Reading
from mx_autopatch.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def read(folder: Path, text: str | bytes | None = None, env=(), **arguments) -> Config:
    """Load with ``text`` as the autopatch.toml of an otherwise empty world."""
    if text is not None:
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "autopatch.toml").write_bytes(data)
    environ = {"HOME": str(folder / "home"), **dict(env)}
    return load(environ=environ, script="", cwd=str(folder), **arguments)


# --- values and sources ---------------------------------------------------------------

EVERYTHING = """\
strict = true
device = "npu"
brake = 0
[patches]
enable = ["a.b", "mmcv.*"]
disable = ["c.d"]
only = ["*.*"]
[patches.options."mmcv.version_gate"]
ceiling = "2.3"
[patches.options.torch.index]
modes = [1, {deep = true}]
[modules]
stub = ["open3d", {name = "nuscenes.utils", probes = "absent"}]
[modules.redirect]
"mmcv.runner" = "mmengine.runner"
mmcv.parallel.old = "mmengine.model"
[mmcv]
version = "2.1.0"
[profile]
path = "traces"
level = 2
wait = 0
warmup = 3
active = 4
repeat = 0
skip_first = 100
with_memory = true
export = "chrome"
[plugins]
files = ["here.py", "/abs/there.py"]
modules = ["my.patches"]
[report]
path = "r-{pid}-{rank}.json"
level = "detail"
"""


def test_a_file_with_everything(tmp_path):
    config = read(tmp_path, EVERYTHING, trust_discovered=True)
    assert config.problems == ()
    assert config.strict is True
    assert config.device == "npu"
    assert config.enable == ("a.b", "mmcv.*")
    assert config.disable == ("c.d",)
    assert config.only == ("*.*",)
    assert config.options["mmcv.version_gate"] == {"ceiling": "2.3"}
    assert config.options["torch.index"]["modes"] == (1, {"deep": True})
    assert config.stub == (StubRule("open3d"), StubRule("nuscenes.utils", "absent"))
    assert config.stub[1].name == "nuscenes.utils"
    assert config.stub[1].probes == "absent"
    assert config.redirect == {
        "mmcv.runner": "mmengine.runner",
        "mmcv.parallel.old": "mmengine.model",
    }
    assert config.mmcv_version == "2.1.0"
    assert config.plugin_files == (str(tmp_path / "here.py"), "/abs/there.py")
    assert config.plugin_modules == ("my.patches",)
    assert config.report_path == "r-{pid}-{rank}.json"
    assert config.report_level == "detail"
    assert config.brake == 0
    assert (config.profile_path, config.profile_level) == ("traces", 2)
    steps = (config.profile_wait, config.profile_warmup, config.profile_active)
    assert steps == (0, 3, 4)
    assert (config.profile_repeat, config.profile_skip_first) == (0, 100)
    assert (config.profile_with_memory, config.profile_export) == (True, "chrome")
    assert set(config.sources.values()) == {str(tmp_path / "autopatch.toml")}
    assert config.path == str(tmp_path / "autopatch.toml")


def test_nothing_configured(tmp_path):
    config = read(tmp_path)
    for key in KEYS:
        assert getattr(config, key.attribute) == key.default
        assert config.sources[key.name] == "default"
    assert (config.path, config.trusted, config.problems) == (None, False, ())
    assert repr(config) == "Config()"
    config.raise_for_problems()


def test_the_environment_spells_every_key(tmp_path):
    env = {
        "MX_AUTOPATCH_STRICT": "Yes ",
        "MX_AUTOPATCH_DEVICE": "cpu",
        "MX_AUTOPATCH_ENABLE": " a.b , mmcv.*,",
        "MX_AUTOPATCH_PATCHES_DISABLE": "c.d",
        "MX_AUTOPATCH_ONLY": "",
        "MX_AUTOPATCH_PATCHES_OPTIONS": '{mmcv.version_gate = {ceiling = "2.3"}}',
        "MX_AUTOPATCH_MODULES_STUB": "open3d, nuscenes=absent",
        "MX_AUTOPATCH_MODULES_REDIRECT": "a = b.c, d=e",
        "MX_AUTOPATCH_MMCV_VERSION": "1.7.2",
        "MX_AUTOPATCH_PLUGINS_FILES": f"p.py{os.pathsep}/abs/q.py",
        "MX_AUTOPATCH_PLUGINS_MODULES": "x.y,z",
        "MX_AUTOPATCH_REPORT": "out.json",
        "MX_AUTOPATCH_REPORT_LEVEL": "silent",
        "MX_AUTOPATCH_BRAKE": " 1000",
        "MX_AUTOPATCH_PROFILE": "traces",
        "MX_AUTOPATCH_PROFILE_LEVEL": "1",
        "MX_AUTOPATCH_PROFILE_WAIT": "2",
        "MX_AUTOPATCH_PROFILE_WARMUP": "3",
        "MX_AUTOPATCH_PROFILE_ACTIVE": "4",
        "MX_AUTOPATCH_PROFILE_REPEAT": "5",
        "MX_AUTOPATCH_PROFILE_SKIP_FIRST": "6",
        "MX_AUTOPATCH_PROFILE_WITH_MEMORY": "on",
        "MX_AUTOPATCH_PROFILE_EXPORT": "chrome",
        "MX_AUTOPATCH": "1",
        "MX_AUTOPATCH_MAIN": "whatever",
        "MX_AUTOPATCHED": "not of ours",
    }
    config = read(tmp_path, 'device = "npu"\n[patches]\nonly = ["a.b"]', env)
    assert config.problems == ()
    assert config.strict is True
    assert config.device == "cpu"
    assert config.enable == ("a.b", "mmcv.*")
    assert config.disable == ("c.d",)
    assert config.only == ()  # an empty list takes that of the file back
    assert config.options.get("mmcv.version_gate") == {"ceiling": "2.3"}
    assert config.stub == (("open3d", "present"), ("nuscenes", "absent"))
    assert config.redirect == {"a": "b.c", "d": "e"}
    assert config.mmcv_version == "1.7.2"
    assert config.plugin_files == (str(tmp_path / "p.py"), "/abs/q.py")
    assert config.plugin_modules == ("x.y", "z")
    assert config.report_path == "out.json"
    assert config.report_level == "silent"
    assert (config.brake, config.profile_path, config.profile_level) == (1000, "traces", 1)
    steps = (config.profile_wait, config.profile_warmup, config.profile_active)
    assert (*steps, config.profile_repeat, config.profile_skip_first) == (2, 3, 4, 5, 6)
    assert (config.profile_with_memory, config.profile_export) == (True, "chrome")
    assert config.sources["patches.enable"] == "environment MX_AUTOPATCH_ENABLE"
    assert config.sources["patches.disable"] == "environment MX_AUTOPATCH_PATCHES_DISABLE"
    assert config.sources["patches.only"] == "environment MX_AUTOPATCH_ONLY"
    assert "default" not in config.sources.values()


def test_an_empty_variable_is_not_set(tmp_path):
    env = {"MX_AUTOPATCH_DEVICE": "", "MX_AUTOPATCH_STRICT": "", "MX_AUTOPATCH_CONFIG": ""}
    config = read(tmp_path, 'device = "npu"', env)
    assert (config.device, config.strict, config.problems) == ("npu", False, ())
    assert config.sources["device"] == config.path


def test_the_command_line_comes_last(tmp_path):
    overrides = {
        "device": "cuda",
        "patches.disable": ["a.b"],
        "patches.enable": "c.d,e.f",
        "plugins.files": ["p.py"],
        "mmcv.version": "2.0.0",
        "strict": True,
        "report.path": None,
    }
    env = {"MX_AUTOPATCH_DEVICE": "cpu", "MX_AUTOPATCH_REPORT": "r"}
    config = read(tmp_path, 'device = "npu"', env, overrides=overrides)
    assert config.problems == ()
    assert (config.device, config.sources["device"]) == ("cuda", "command line --device")
    assert config.disable == ("a.b",)
    assert config.enable == ("c.d", "e.f")
    assert config.plugin_files == (str(tmp_path / "p.py"),)
    assert config.sources["mmcv.version"] == "command line mmcv.version"
    assert config.sources["report.path"] == "environment MX_AUTOPATCH_REPORT"
    assert config.strict is True


def test_short_and_long_variable_may_agree(tmp_path):
    env = {"MX_AUTOPATCH_DISABLE": "a,b", "MX_AUTOPATCH_PATCHES_DISABLE": "a, b"}
    config = read(tmp_path, env=env)
    assert (config.disable, config.problems) == (("a", "b"), ())


def test_variables_that_differ_are_a_problem_even_so_the_first_is_used(tmp_path):
    env = {"MX_AUTOPATCH_REPORT": "a", "MX_AUTOPATCH_REPORT_PATH": "b"}
    assert read(tmp_path, env=env).report_path == "a"


def test_every_row_of_keys_is_complete():
    annotated = {name for name in Config.__annotations__ if not name.startswith("_")}
    own = {"sources", "path", "trusted", "problems", "plugin_bytes"}
    assert annotated == {key.attribute for key in KEYS} | own
    variables = [variable for key in KEYS for variable in key.variables]
    assert len(set(variables)) == len(variables)
    for key in KEYS:
        assert callable(getattr(Reading, f"_{key.kind}"))
        assert callable(getattr(Reading, f"_text_{key.kind}"))


def test_a_byte_order_mark_and_windows_lines(tmp_path):
    config = read(tmp_path, b'\xef\xbb\xbfdevice = "npu"\r\nstrict = true\r\n')
    assert (config.device, config.strict, config.problems) == ("npu", True, ())


# --- frozen ---------------------------------------------------------------------------


def test_the_configuration_is_frozen(tmp_path):
    config = read(tmp_path, EVERYTHING)
    with pytest.raises(AttributeError, match="frozen: cannot set 'device'"):
        config.device = "cpu"
    with pytest.raises(AttributeError, match="frozen"):
        config.something = 1
    with pytest.raises(AttributeError, match="frozen"):
        del config.device
    with pytest.raises(AttributeError, match="frozen"):
        config.options.tables = {}
    with pytest.raises(AttributeError, match="frozen"):
        del config.options.tables
    with pytest.raises(TypeError):
        config.redirect["a"] = "b"
    with pytest.raises(TypeError):
        config.sources["device"] = "b"
    with pytest.raises(TypeError):
        config.options["torch.index"]["modes"] = ()
    with pytest.raises(TypeError):
        config.options.tables["torch"]["index"]["modes"][1]["deep"] = False
    with pytest.raises(AttributeError):
        config.stub[0].name = "x"


def test_repr_shows_what_was_changed(tmp_path):
    config = read(tmp_path, 'device = "npu"\n[modules]\nstub = ["x"]\n[patches.options.a.b]')
    assert repr(config) == (
        "Config(device='npu', options=Options({'a': mappingproxy({'b': mappingproxy({})})}),"
        " stub=(StubRule(name='x', probes='present'),))"
    )


# --- options --------------------------------------------------------------------------


def test_options_in_either_spelling(tmp_path):
    text = """
    [patches.options."mmcv.version_gate"]
    quoted = 1
    [patches.options.mmcv.version_gate]
    nested = 2
    [patches.options.mmcv.version_gate.caps]
    mmdet = "3.4"
    [patches.options.mmcv."ops.nms"]
    mixed = 3
    [patches.options.plain]
    """
    options = read(tmp_path, text).options
    assert options["mmcv.version_gate"] == {"quoted": 1, "nested": 2, "caps": {"mmdet": "3.4"}}
    assert options["mmcv.ops.nms"] == {"mixed": 3}
    assert options["plain"] == {}
    assert "plain" in options
    assert "mmcv.version" not in options
    assert options.get("nothing") == {}
    assert options.get("nothing", {"a": 1}) == {"a": 1}
    with pytest.raises(KeyError):
        options["nothing"]
    assert options
    assert not Config().options


# --- on or off ------------------------------------------------------------------------

NAME = "mmcv.nms"


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(
    ("enable", "disable", "only", "result"),
    [
        ([], [], [], None),
        ([NAME], [], [], True),
        ([], [NAME], [], False),
        ([NAME], [NAME], [], False),
        (["mmcv.*"], ["mmcv.*"], [], False),
        ([NAME], ["mmcv.*"], [], True),
        (["mmcv.*"], [NAME], [], False),
        (["torch.*"], ["mmcv.nms2"], [], None),
        ([], [], [NAME], True),
        ([], [], ["*.nm[st]"], True),
        ([], [], ["torch.*"], False),
        ([NAME], [], ["torch.*"], False),
        ([], [NAME], [NAME], False),
        ([], ["mmcv.*"], [NAME], True),
        ([], [NAME], ["mmcv.*"], False),
        ([], ["mmcv.*"], ["*"], False),
    ],
)
def test_selects(tmp_path, enable, disable, only, result, default):
    overrides = {"patches.enable": enable, "patches.disable": disable, "patches.only": only}
    config = read(tmp_path, overrides=overrides)
    wanted = default if result is None else result
    assert config.selects(NAME, default) is wanted
    assert config.reason(NAME, default).startswith(f"mmcv.nms is {'on' if wanted else 'off'} ")


def test_reasons(tmp_path):
    text = "[patches]\nenable = ['mmcv.*']\ndisable = ['torch.index']"
    config = read(tmp_path, text)
    file = tmp_path / "autopatch.toml"
    assert config.reason("mmcv.nms", False) == (
        f"mmcv.nms is on because patches.enable names 'mmcv.*' ({file})"
    )
    assert config.reason("torch.index", True) == (
        f"torch.index is off because patches.disable names 'torch.index' ({file})"
    )
    assert config.reason("torch.other", True) == "torch.other is on by default"
    config = read(tmp_path, env={"MX_AUTOPATCH_ONLY": "a"})
    assert config.reason("b", True) == (
        "b is off because patches.only does not name it (environment MX_AUTOPATCH_ONLY)"
    )


# --- the template ---------------------------------------------------------------------


def test_the_template_as_it_is_and_uncommented(tmp_path):
    as_it_is = read(tmp_path, template())
    assert as_it_is.problems == ()
    assert set(as_it_is.sources.values()) == {"default"}
    lines = template().splitlines()
    bare = [line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in lines]
    uncommented = read(tmp_path, "\n".join(bare))
    assert uncommented.problems == ()
    assert set(uncommented.sources.values()) == {uncommented.path}
    for key in KEYS:
        assert getattr(uncommented, key.attribute) == key.default


def test_the_template_documents_every_key():
    text = template()
    for key in KEYS:
        assert f"#{key.name.rpartition('.')[2]} = " in text
        assert all(variable in text for variable in key.variables)
    assert max(map(len, text.splitlines())) <= 100


# --- cost -----------------------------------------------------------------------------

COST = """
import sys
from mx_autopatch.engine import config
loaded = config.load(environ={"HOME": "/", "MX_AUTOPATCH": "1"}, script="", cwd="/")
assert not loaded.selects("a.b", False)
assert not config.check_names(loaded, ["a.b"])
from_path = {m for m in sys.modules if m.startswith("mx_autopatch")}
print(*sorted(set(sys.modules) & set(sys.argv[1:])), *sorted(from_path))
"""


def test_without_a_file_nothing_is_imported():
    heavy = "re json tomllib tomli dataclasses typing types enum pathlib hashlib difflib fnmatch"
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(ROOT)!r})"]
    command[-1] += COST.replace("print(", "print('got',")
    result = subprocess.run([*command, *heavy.split()], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [
        "got",
        "mx_autopatch",
        "mx_autopatch.engine",
        "mx_autopatch.engine.config",
        "mx_autopatch.engine.config_file",
        "mx_autopatch.engine.config_keys",
        "mx_autopatch.errors",
    ]


def test_the_public_names():
    assert set(config_module.__all__) == {
        "KEYS", "Config", "StubRule", "check_names", "load", "template",
    }  # fmt: skip


# --- changed while it is in force ---------------------------------------------------------


def test_a_configuration_with_other_values(tmp_path):
    config = read(tmp_path, "brake = 7\n[profile]\nlevel = 2\n")
    other = config.changed({"brake": None, "profile.level": 1, "profile.path": "x"}, "who()")
    assert (other.brake, other.profile_level, other.profile_path) == (None, 1, "x")
    assert other.sources["brake"] == "default"
    assert other.sources["profile.level"] == "who() profile.level"
    assert (other.path, other.trusted) == (config.path, config.trusted)
    assert (config.brake, config.profile_level, config.profile_path) == (7, 2, None)
    with pytest.raises(ConfigError, match=r"who\(\) brake: expected a whole number, 0 or more"):
        config.changed({"brake": -1}, "who()")


def test_whether_keys_have_a_value(tmp_path):
    config = read(tmp_path, "brake = 0")
    assert config.configures("profile.path,brake") is True
    assert config.configures("profile.path") == "profile.path would have to be set"
    assert config.configures("profile.path,mmcv.version") == (
        "profile.path or mmcv.version would have to be set"
    )
