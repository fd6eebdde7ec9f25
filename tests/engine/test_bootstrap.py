"""Start-up: the gate, every way to run Python, and what goes wrong on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import zipapp

import pytest
from helpers import INSTALLED, ROOT, both, environment, python, write_files

FINDER = "print([f for f in map(type, sys.meta_path) if f.__module__.startswith('mx_autopatch')])"
ACTIVE = "[<class 'mx_autopatch.engine.finder.Finder'>]\n"

PATCHES = """
    from mx_autopatch.model import Patch, Replace
    PATCHES = (Patch("trial.f", (Replace("trigger:f", lambda: "new"),)),)
"""
FILES = {"trigger.py": "def f():\n    return 'original'\n", "trial_patches.py": PATCHES}
SCRIPT = "import trigger\nprint(trigger.f())\n"


def active(*path, **env):
    return environment(path, active=True, MX_AUTOPATCH_PLUGINS_MODULES="trial_patches", **env)


# -- the gate ------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", "0", "false", "False", "no", "OFF"])
def test_the_gate_is_shut(tmp_path, value):
    """sys.meta_path and sys.modules are as they would be if we were not installed."""
    code = "import sys; from mx_autopatch.bootstrap import start; start(); " + FINDER
    code += "; print(sorted(m for m in sys.modules if m.startswith('mx_autopatch')))"
    env = environment() if value is None else environment(active=True, MX_AUTOPATCH=value)
    done = python("-c", code, cwd=tmp_path, env=env)
    assert done.stdout == "[]\n['mx_autopatch', 'mx_autopatch.bootstrap']\n"
    assert done.stderr == ""


@pytest.mark.parametrize("value", [None, "", "0"])
def test_a_shut_gate_imports_nothing(tmp_path, value):
    """The .pth line and sitecustomize ask the environment before they import anything."""
    code = "import sys; print([m for m in sys.modules if m.startswith('mx_autopatch')])"
    env = environment() if value is None else environment(active=True, MX_AUTOPATCH=value)
    assert python("-c", code, cwd=tmp_path, env=env).stdout == "[]\n"


@pytest.mark.parametrize("value", ["1", "true", "yes", "on", "2"])
def test_the_gate_is_open(tmp_path, value):
    env = environment(active=True, MX_AUTOPATCH=value)
    done = python("-c", f"import sys; {FINDER}", cwd=tmp_path, env=env)
    assert (done.stdout, done.stderr) == (ACTIVE, "")


def test_start_is_idempotent(tmp_path):
    code = f"""
import sys
from mx_autopatch.bootstrap import start
start()
start()
{FINDER}
import trigger
print(trigger.f())
start()
{FINDER}
sys.modules.pop("trigger")
import trigger
print(trigger.f())
"""
    write_files(tmp_path, FILES)
    done = python("-c", code, cwd=tmp_path, env=active(tmp_path))
    assert (done.stdout, done.stderr) == (f"{ACTIVE}new\n" * 2, "")


def test_several_start_files(tmp_path):
    """The .pth file, sitecustomize and a further copy of it: one finder."""
    folders = [ROOT / "sitecustomize_template", tmp_path / "copy"]
    text = (ROOT / "sitecustomize_template" / "sitecustomize.py").read_text()
    write_files(tmp_path / "copy", {"sitecustomize.py": text})
    env = environment(folders, active=True)
    done = python("-c", f"import sys; {FINDER}", cwd=tmp_path, env=env)
    assert (done.stdout, done.stderr) == (ACTIVE, "")


def test_what_an_active_process_has_imported(tmp_path):
    code = (
        "import sys; print({'torch','wrapt','importlib_metadata','tomllib','tomli','click','rich',"
        "'mx_autopatch.engine.firing', 're', 'dataclasses', 'inspect', 'typing', 'importlib.util'}"
        " & set(sys.modules))"
    )
    plain = python("-c", code, cwd=tmp_path, env=environment())
    done = python("-c", code, cwd=tmp_path, env=environment(active=True))
    # what site and other .pth files import is there without us
    assert (done.stdout, done.stderr) == (plain.stdout, "")


def test_the_standard_library_prepares_nothing(tmp_path):
    code = """
import sys, json, collections, concurrent.futures, xml.dom.minidom, unittest.mock, asyncio
from mx_autopatch import bootstrap
assert bootstrap.active().session is None
collections.OrderedDict, hasattr(collections, "__wrapped__")
assert bootstrap.active().session is None
print([m for m in sys.modules if m.startswith("mx_autopatch.engine.config")])
"""
    done = python("-c", code, cwd=tmp_path, env=environment(active=True))
    assert (done.stdout, done.stderr) == ("[]\n", "")


# -- ways to run Python --------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", SCRIPT],
        ["script.py"],
        ["-m", "script"],
        ["-"],
        ["-E", "script.py"],
        ["-X", "importtime", "script.py"],
        ["-X", "dev", "script.py"],
        ["-X", "warn_default_encoding", "script.py"],
        ["-X", "frozen_modules=off", "script.py"],
        ["-v", "script.py"],
        ["-O", "script.py"],
        ["-OO", "-m", "script"],
        ["-B", "-u", "script.py"],
        ["-I", "script.py"],
        ["-s", "-P", "script.py"] if sys.version_info >= (3, 11) else ["-s", "script.py"],
        ["folder"],
        ["app.pyz"],
    ],
    ids=" ".join,
)
def test_ways_to_run_python(tmp_path, arguments):
    isolated = {"-I", "-E", "-P"} & set(arguments)
    if {"-I", "-E"} & set(arguments) and not INSTALLED:
        pytest.skip("PYTHONPATH, which stands in for the .pth file, is not read")
    write_files(tmp_path, {**FILES, "folder/__main__.py": SCRIPT})
    head = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n" if isolated else ""
    write_files(tmp_path, {"script.py": head + SCRIPT})
    write_files(tmp_path / "app", {"__main__.py": SCRIPT})
    zipapp.create_archive(tmp_path / "app", tmp_path / "app.pyz")
    noisy = {"importtime", "-v"} & set(arguments)
    done = python(*arguments, cwd=tmp_path, env=active(tmp_path), input=SCRIPT)
    assert done.stdout == "new\n"
    assert noisy or done.stderr == ""


def test_without_site(tmp_path):
    """With -S nobody starts us; a script that wants us calls start itself."""
    write_files(tmp_path, FILES)
    here = [str(tmp_path), str(ROOT)]
    head = f"import sys\nsys.path[:0] = {here!r}\n"
    done = python("-S", "-c", head + FINDER, cwd=tmp_path, env=active(tmp_path))
    assert done.stdout == "[]\n"
    start = "from mx_autopatch.bootstrap import start\nstart()\n"
    done = python("-S", "-c", head + start + SCRIPT, cwd=tmp_path, env=active(tmp_path))
    assert (done.stdout, done.stderr) == ("new\n", "")
    done = python("-I", "-S", "-c", head + start + SCRIPT, cwd=tmp_path, env=active(tmp_path))
    assert (done.stdout, done.stderr) == ("new\n", "")


def test_the_interactive_interpreter(tmp_path):
    write_files(tmp_path, FILES)
    env = active(tmp_path)
    done = python("-i", "-q", cwd=tmp_path, env=env, input=SCRIPT)
    assert "new" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_closed_or_broken_stderr(tmp_path):
    """Closed before Python starts, closed by the script, and a pipe that nobody reads."""
    write_files(tmp_path, {**FILES, "script.py": SCRIPT})
    env = active(tmp_path)
    del env["MX_AUTOPATCH_REPORT_LEVEL"]  # so that there is something to say at exit
    command = f"exec {sys.executable} -W error script.py 2>&-"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "new\n"
    for line in ("import sys; sys.stderr.close()", "import sys; sys.stderr = None"):
        write_files(tmp_path, {"script.py": f"{SCRIPT}\n{line}\n"})
        done = python("script.py", cwd=tmp_path, env=env)
        assert (done.stdout, done.stderr) == ("new\n", "")
    write_files(tmp_path, {"script.py": SCRIPT})
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-W", "error", "script.py"],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=pipe,
            text=True,
            check=False,
        )
    assert done.stdout == "new\n"


def test_no_argv(tmp_path):
    """An embedded interpreter may have none."""
    write_files(tmp_path, FILES)
    code = f"import sys\ndel sys.argv\n{SCRIPT}"
    done = python("-c", code, cwd=tmp_path, env=active(tmp_path))
    assert (done.stdout, done.stderr) == ("new\n", "")


def test_a_working_directory_that_is_gone(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    write_files(tmp_path, {**FILES, "script.py": SCRIPT})
    command = f"rmdir {gone}; exec {sys.executable} -W error {tmp_path / 'script.py'}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=gone,
        env=active(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("new\n", "")


# -- what goes wrong -----------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        "not toml at all [",
        "[patches]\ndisabel = ['x']\n",
        "[patches]\ndisable = ['no.such.patch']\n",
        "[patches]\ndisable = 3\n",
        "\xff\xfe",
    ],
)
def test_a_broken_configuration_is_one_line(tmp_path, config):
    """And the script runs, patched as far as the valid part says."""
    write_files(tmp_path, {**FILES, "script.py": SCRIPT})
    (tmp_path / "autopatch.toml").write_bytes(config.encode("latin-1"))
    done = python("script.py", cwd=tmp_path, env=active(tmp_path))
    assert done.stdout == "new\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("mx_autopatch: ")
    assert str(tmp_path / "autopatch.toml") in line


@pytest.mark.parametrize(
    "plugin",
    [
        "raise ValueError('on demand')",
        "x = = 1",
        "import no_such_module",
        "PATCHES = 3",
        "PATCHES = (3,)",
        "from mx_autopatch.model import Patch; PATCHES = (Patch('bad name', ()),)",
    ],
)
def test_a_broken_plugin_is_one_line(tmp_path, plugin):
    write_files(tmp_path, {**FILES, "script.py": SCRIPT, "broken.py": plugin})
    env = active(tmp_path)
    env["MX_AUTOPATCH_PLUGINS_MODULES"] = "broken,trial_patches"
    done = python("script.py", cwd=tmp_path, env=env)
    assert done.stdout == "new\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("mx_autopatch: ")
    assert "Traceback" not in line


@pytest.mark.parametrize("module", ["config", "session", "catalog", "plugins", "entries"])
def test_an_engine_that_cannot_be_prepared(tmp_path, module):
    """A file of ours is missing or broken: one line, and the script runs without us."""
    write_files(tmp_path, {**FILES, "script.py": SCRIPT})
    head = f"import sys\nsys.modules['mx_autopatch.engine.{module}'] = None\n"
    write_files(tmp_path, {"script.py": head + SCRIPT + "import antigravity_x" * 0 + SCRIPT})
    done = python("script.py", cwd=tmp_path, env=active(tmp_path))
    assert done.stdout == "original\n" * 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("mx_autopatch: not active: ")


def test_an_engine_that_cannot_be_started(tmp_path):
    write_files(tmp_path, FILES)
    code = "import sys; sys.modules['mx_autopatch.engine.finder'] = None\n"
    code += "from mx_autopatch.bootstrap import start, deactivate\ndeactivate()\nstart()\n"
    done = python("-c", code + SCRIPT, cwd=tmp_path, env=active(tmp_path))
    assert done.stdout == "original\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("mx_autopatch: not active: ")


def test_a_sitecustomize_without_the_package(tmp_path):
    """The template copied without its package says what to do; the script runs."""
    text = (ROOT / "sitecustomize_template" / "sitecustomize.py").read_text()
    write_files(tmp_path / "copy", {"sitecustomize.py": text})
    env = environment(active=True, PYTHONPATH=str(tmp_path / "copy"))
    arguments = ["-c", "print('ran')"]
    if INSTALLED:  # then site-packages hold the package, so look without them
        folders = [str(tmp_path / "copy")]
        arguments = ["-S", "-c", f"import sys; sys.path[:0] = {folders!r}; import sitecustomize"]
    done = python(*arguments, cwd=tmp_path, env=env)
    (line,) = done.stderr.splitlines()
    assert line.startswith("mx_autopatch: not active: ")
    assert "PYTHONPATH" in line


def test_names_that_start_up_code_probes_prepare_too_early(tmp_path):
    """A plugin that itself looks for what is patched does not use the patch up."""
    if sys.version_info < (3, 10):
        pytest.skip("collections.Mapping is still there")
    plugin = """
        import collections
        seen = getattr(collections, "Mapping", None)
        PATCHES = ()
    """
    write_files(tmp_path, {"probing.py": plugin, "other.py": ""})
    code = "import other, collections, probing; print(probing.seen, collections.Mapping)"
    env = environment([tmp_path], active=True, MX_AUTOPATCH_PLUGINS_MODULES="probing")
    done = python("-c", code, cwd=tmp_path, env=env)
    assert (done.stdout, done.stderr) == ("None <class 'collections.abc.Mapping'>\n", "")


def test_a_plugin_that_imports_its_own_trigger(tmp_path):
    """While the engine is being prepared, so it is patched late, copies and all."""
    write_files(tmp_path, FILES)
    write_files(
        tmp_path,
        {
            "trial_patches.py": "import copies\nimport trigger\n" + textwrap.dedent(PATCHES),
            "copies.py": "from trigger import f\n",
            "script.py": """
                import trigger, copies, trial_patches
                from mx_autopatch import report
                print(trigger.f(), copies.f(), *[o.status for o in report().of("trial.f")])
            """,
        },
    )
    done = python("script.py", cwd=tmp_path, env=active(tmp_path))
    assert (done.stdout, done.stderr) == ("new new LATE\n", "")


@pytest.mark.parametrize("target", ["its own", "another"])
@pytest.mark.parametrize("name", ["counted", "pkg.counted", "pkg"])
def test_what_a_plugin_has_imported_is_not_executed_again(tmp_path, name, target):
    """importlib would, since it began to look for the module before the plugin loaded it.

    So it would be with a plugin that imports torch, and a script that begins with it.
    """
    counted = """
        import sys
        sys.count = getattr(sys, "count", 0) + 1
        def f():
            return "original"
    """
    file = {"pkg": "pkg/__init__.py"}.get(name, name.replace(".", "/") + ".py")
    write_files(tmp_path, {"pkg/__init__.py": "", file: counted})
    trigger = name if target == "its own" else "another"
    plugin = f"""
        import {name}
        from mx_autopatch.model import Patch, Replace
        PATCHES = (Patch("trial.f", (Replace("{trigger}:f", lambda: "new"),)),)
    """
    script = f"""
        import {name} as module
        import importlib, sys
        import observe
        first = observe.module(module)
        importlib.reload(module)
        observe.show(first=first, count=sys.count, reloaded=observe.module(module))
        if "mx_autopatch" in sys.modules:
            assert module.f() == "{"new" if target == "its own" else "original"}"
    """
    plain, hooked = both(tmp_path, script, plugin, expect=None)
    assert hooked.value == plain.value
    assert plain.value["count"] == 2


def test_looking_for_what_a_plugin_imports(tmp_path):
    """find_spec alone imports nothing further, and harms nothing."""
    write_files(tmp_path, {"counted.py": "def f(): return 'original'\n"})
    plugin = """
        import counted
        from mx_autopatch.model import Patch, Replace
        PATCHES = (Patch("trial.f", (Replace("counted:f", lambda: "new"),)),)
    """
    script = """
        from importlib.util import find_spec
        before = find_spec("counted")
        import counted
        import observe
        spec = observe.spec(before)
        del spec["initializing"]  # a mark that the import has been there
        observe.show(spec=spec, module=observe.module(counted))
    """
    plain, hooked = both(tmp_path, script, plugin, expect="LATE")
    assert hooked.value == plain.value


# -- the configuration ---------------------------------------------------------------


def test_a_zip_application_finds_the_file_beside_it(tmp_path):
    write_files(tmp_path / "app", {"__main__.py": "import stubbed\nprint(stubbed.__doc__)\n"})
    write_files(tmp_path / "out", {"autopatch.toml": '[modules]\nstub = ["stubbed"]\n'})
    zipapp.create_archive(tmp_path / "app", tmp_path / "out" / "app.pyz")
    done = python(tmp_path / "out" / "app.pyz", cwd=tmp_path, env=environment(active=True))
    assert done.stdout.startswith("A stub.")
    assert done.stderr == ""


def test_a_script_that_changes_argv_and_cwd_first(tmp_path):
    """The configuration is that of the script that was started, read when it is needed."""
    write_files(
        tmp_path,
        {
            "project/autopatch.toml": '[modules]\nstub = ["stubbed"]\n',
            "project/main.py": """
                import os, sys
                os.chdir(sys.argv[1])
                sys.argv = [sys.argv[0]]
                import stubbed
                print(stubbed.__doc__)
            """,
            "elsewhere/empty.txt": "",
        },
    )
    script, elsewhere = tmp_path / "project" / "main.py", tmp_path / "elsewhere"
    done = python(script, elsewhere, cwd=tmp_path, env=environment(active=True))
    assert done.stdout.startswith("A stub.")
    assert done.stderr == ""


def test_activation_from_code(tmp_path):
    """activate raises where the environment would warn; deactivate and activate again."""
    write_files(tmp_path, FILES)
    code = """
import sys, mx_autopatch, json
from mx_autopatch import bootstrap, ConfigError
before = list(sys.meta_path)
try:
    mx_autopatch.activate(overrides={"patches.disable": ["no.such.patch"]})
except ConfigError as error:
    print("no.such.patch" in str(error), sys.meta_path == before)
for _ in range(2):
    mx_autopatch.activate()
    import trigger
    print(trigger.f(), len(sys.meta_path) - len(before))
mx_autopatch.deactivate()
mx_autopatch.deactivate()
print(trigger.f(), sys.meta_path == before)
"""
    env = active(tmp_path)
    del env["MX_AUTOPATCH"]
    done = python("-c", code, cwd=tmp_path, env=env)
    assert done.stderr == ""
    assert done.stdout.split("\n")[:-1] == ["True True", "new 1", "new 1", "original True"]


def test_the_report_of_a_process(tmp_path):
    write_files(tmp_path, {**FILES, "script.py": SCRIPT})
    path = tmp_path / "report.json"
    env = active(tmp_path, MX_AUTOPATCH_REPORT_PATH=str(path))
    python("script.py", cwd=tmp_path, env=env)
    outcomes = {o["patch"]: o["status"] for o in json.loads(path.read_text())["outcomes"]}
    assert outcomes["trial.f"] == "APPLIED"
    assert outcomes["mmcv.ext"] == "PENDING"
