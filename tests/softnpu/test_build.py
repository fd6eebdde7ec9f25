"""The stand-in for CANN is compiled once, by whom it may be, and is what CANN's headers say."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import pytest
from helpers import environment

from mx_autopatch.errors import SoftNpuError
from mx_autopatch.softnpu import build
from mx_autopatch.softnpu.names import LIBRARIES, REFUSE, SUCCEED

FILES = {"content.json", "cann.c", "name.c", "libascendcl.so"} | {
    f"lib{name}.so" for name in LIBRARIES
}
FOLDERS = {"runtime", "compiler", "opp"}

BUILD = "from mx_autopatch.softnpu.build import built; print(built('2.13.0'))"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; gives the folder that is ours in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mx_autopatch"


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Make the compiler a script that logs its calls before it compiles; gives the log."""

    def make(before: str = "") -> Path:
        log, script = tmp_path / "calls", tmp_path / "compiler"
        script.write_text(f'#!/bin/sh\necho call >> "{log}"\n{before}\nexec cc "$@"\n')
        script.chmod(0o755)
        monkeypatch.setenv("CC", str(script))
        return log

    return make


def content(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_is_compiled_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build.built("2.13.0")
    assert content(folder) == FILES | FOLDERS
    assert content(home) == {folder.name, "softnpu.lock"}
    monkeypatch.setenv("CC", "no-such-compiler")
    assert build.built("2.13.0") == folder


def test_the_key_is_the_source_the_flags_and_the_version_of_torch_npu(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = build.source()
    first = build.built("2.13.0")
    assert first.name.startswith("softnpu-2.13.0-")
    monkeypatch.setattr(build, "source", lambda: text + "/* another */\n")
    second = build.built("2.13.0")
    monkeypatch.setattr(build, "source", lambda: text)
    monkeypatch.setattr(build, "_FLAGS", (*build._FLAGS, "-DSOMETHING"))
    third = build.built("2.12.0")
    assert third.name.startswith("softnpu-2.12.0-")
    assert len({path.name.rpartition("-")[2] for path in (first, second, third)}) == 3


def test_of_eight_processes_at_once_one_compiles(
    home: Path, tmp_path: Path, compiler: Callable[[str], Path]
) -> None:
    calls = compiler("")

    def start(_: int) -> str:
        done = subprocess.run(
            [sys.executable, "-S", "-c", BUILD],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert not done.stderr
        return done.stdout

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(start, range(8)))
    (folder,) = folders
    assert content(home) == {Path(folder.strip()).name, "softnpu.lock"}
    assert len(calls.read_text().splitlines()) == 1 + len(LIBRARIES)


def test_a_process_killed_while_it_compiles_leaves_a_cache_that_works(
    home: Path, tmp_path: Path, compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The third library is where it stays until it is killed.
    calls = compiler(f'test $(wc -l < "{tmp_path}/calls") -lt 3 || sleep 60')
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", BUILD], env=environment(), start_new_session=True
    )
    until = time.monotonic() + 30
    while not (calls.exists() and len(calls.read_text().splitlines()) == 3):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (left,) = home.glob("softnpu-*")
    assert ".tmp-" in left.name
    assert (left / "libascendcl.so").exists()
    monkeypatch.delenv("CC")
    folder = build.built("2.13.0")
    assert content(home) == {folder.name, "softnpu.lock"}
    assert content(folder) == FILES | FOLDERS


def test_the_folder_of_a_process_that_compiles_is_left_alone(
    home: Path, tmp_path: Path, compiler: Callable[[str], Path]
) -> None:
    calls = compiler(f'while test ! -e "{tmp_path}/go"; do sleep 0.01; done')
    with ThreadPoolExecutor(2) as pool:
        command = [sys.executable, "-S", "-c", BUILD]
        slow = pool.submit(subprocess.check_output, command, env=environment(), text=True)
        while not list(home.glob("softnpu-*.tmp-*")):
            time.sleep(0.01)
        late = pool.submit(build.built, "2.13.0")
        time.sleep(0.2)
        assert not late.done()
        assert len(list(home.glob("softnpu-*.tmp-*"))) == 1
        (tmp_path / "go").touch()
        assert slow.result().strip() == str(late.result())
    assert len(calls.read_text().splitlines()) == 1 + len(LIBRARIES)


def test_where_there_are_no_locks_everyone_compiles_and_the_first_wins(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(build.fcntl, "flock", no_locks)
    with ThreadPoolExecutor(2) as pool:
        folders = set(pool.map(build.built, ["2.13.0"] * 2))
    (folder,) = folders
    assert content(home) == {folder.name, "softnpu.lock"}
    assert content(folder) == FILES | FOLDERS


def remove_library(folder: Path) -> None:
    (folder / "libgraph.so").unlink()


def cut_library(folder: Path) -> None:
    os.truncate(folder / "libascendcl.so", 0)


def remove_content(folder: Path) -> None:
    (folder / "content.json").unlink()


def spoil_content(folder: Path) -> None:
    (folder / "content.json").write_text("{")


def test_a_folder_that_is_not_whole_is_made_anew(home: Path) -> None:
    folder = build.built("2.13.0")
    for damage in (remove_library, cut_library, remove_content, spoil_content):
        damage(folder)
        assert build.built("2.13.0") == folder
        assert content(folder) == FILES | FOLDERS
        assert (folder / "libascendcl.so").stat().st_size
        assert content(home) == {folder.name, "softnpu.lock"}


def test_without_a_compiler(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O3")
    with pytest.raises(SoftNpuError) as caught:
        build.built("2.13.0")
    message = str(caught.value)
    assert "no C compiler: 'no-such-compiler' cannot be run (No such file" in message
    assert "apt-get install gcc libc6-dev" in message
    assert "variable CC" in message
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SoftNpuError, match="no C compiler: 'cc' cannot be run"):
        build.built("2.13.0")
    assert content(home) == {"softnpu.lock"}


def test_a_compiler_that_fails(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "cc -fno-such-option")
    with pytest.raises(SoftNpuError) as caught:
        build.built("2.13.0")
    message = str(caught.value)
    assert re.search(r"cc -fno-such-option .* failed with exit status 1; install a C", message)
    assert "-fno-such-option" in message.splitlines()[-1]  # the compiler's own words
    assert content(home) == {"softnpu.lock"}


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    with pytest.raises(SoftNpuError) as caught:
        build.built("2.13.0")
    assert f"cannot write to {file}/mx_autopatch: " in str(caught.value)
    assert "set XDG_CACHE_HOME" in str(caught.value)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert build.cache() == Path("/home/somebody/.cache/mx_autopatch")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert build.cache() == Path("/home/somebody/.cache/mx_autopatch")
    monkeypatch.setenv("HOME", "nowhere")
    with pytest.raises(SoftNpuError, match=r"no home directory.* set XDG_CACHE_HOME"):
        build.cache()


# ---- the source itself ----


def headers() -> Path:
    spec = importlib.util.find_spec("torch_npu")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "include" / "third_party" / "acl" / "inc"


INCLUDED = ("acl/acl.h", "acl/acl_op_compiler.h", "acl/acl_prof.h", "profiling/aprof_pub.h")


def compile_only(path: Path, *options: str) -> str:
    """What the compiler says."""
    command = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-fsyntax-only", *options, str(path)]
    return subprocess.run(command, capture_output=True, text=True).stderr


def with_headers(path: Path, *options: str) -> str:
    includes = [option for name in INCLUDED for option in ("-include", name)]
    return compile_only(path, f"-I{headers()}", "-Wno-deprecated-declarations", *includes, *options)


def test_compiles_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "all.c").write_text(build.source())
    assert compile_only(tmp_path / "all.c") == ""


CANN = Path(build.__file__).with_name("cann.c")


def test_functions_have_the_prototypes_of_the_headers() -> None:
    """The compiler refuses a definition that differs from a declaration before it."""
    said = with_headers(CANN, "-Wmissing-prototypes")
    without = set(re.findall(r"no previous prototype for .(\w+).", said))
    # Three are declared without their parameters, as C allows; one is the driver's.
    assert {name for name in without if not name.startswith("soft_npu_")} == {
        *("aclGetRecentErrMsg", "aclrtGetSocName", "aclopCreateAttr"),
        "halGetAPIVersion",
    }
    assert "error" not in said


def test_a_prototype_that_differs_would_be_found(tmp_path: Path) -> None:
    text = CANN.read_text()
    wrong = text.replace(
        "aclrtMemset(void *pointer, size_t room", "aclrtMemset(void *pointer, int room"
    )
    assert wrong != text
    (tmp_path / "wrong.c").write_text(wrong)
    assert "conflicting types for" in with_headers(tmp_path / "wrong.c")


def declarations() -> dict[str, tuple[str, str]]:
    """Name -> (type of the result, parameters) of the functions that the headers declare."""
    found = {}
    for path in headers().parent.parent.rglob("*.h"):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(errors="replace"), flags=re.DOTALL)
        for result, name, parameters in re.findall(
            r"(?:_VISIBILITY|_API|extern)\s+([\w\s\*]+?)\b(\w+)\(([^;{]*?)\)\s*;", text
        ):
            found[name] = (result.strip(), " ".join(parameters.split()))
    return found


#: Declared in none of the headers; torch_npu's own source says that they are of this kind.
UNDECLARED = {
    *("halGetDeviceInfo", "rtDevBinaryRegister", "rtFunctionRegister", "rtKernelLaunch"),
    *("rtGetC2cCtrlAddr", "aclprofWarmup", "aclprofRegisterDeviceCallback"),
}


def test_functions_without_code_have_nothing_to_write() -> None:
    """They return an error code or nothing, and get no pointer to put a result at."""
    declared = declarations()
    undeclared = {name for name in (*SUCCEED, *REFUSE) if name not in declared}
    assert undeclared == UNDECLARED
    kinds = {declared[name][0] for name in (*SUCCEED, *REFUSE) if name in declared}
    assert kinds <= {"aclError", "int32_t", "void", "HcclResult"}, kinds
    written = {}
    for name in SUCCEED:
        if name in declared:
            pointers = [p for p in declared[name][1].split(",") if "*" in p and "const" not in p]
            if pointers:
                written[name] = pointers
    # These are given something to act on, not to fill in.
    assert set(written) == {
        *("aclSetTensorDescName", "aclSetTensorPlaceMent", "aclrtCmoAsync"),
        *("aclrtHostUnregister", "aclrtSetStreamAttribute"),
        *(name for name in SUCCEED if name.startswith("aclopSetAttr")),
    }


def test_the_sanitizers_find_nothing(tmp_path: Path) -> None:
    driver = Path(__file__).with_name("driver.c").read_text()
    (tmp_path / "all.c").write_text(build.source() + driver)
    flags = ["-std=gnu11", "-g", "-pthread", "-fno-sanitize-recover=all"]
    env = {
        "PATH": os.environ["PATH"],
        "MX_AUTOPATCH_SOFT_DEVICES": "3",
        "MX_AUTOPATCH_SOFT_MEMORY": "64MiB",
    }
    made = subprocess.run(
        ["cc", *flags, "-fsanitize=address,undefined", "all.c", "-o", "driver"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    if "asan" in made.stderr and shutil.which("cc"):
        pytest.skip("this compiler has no sanitizers")
    assert not made.stderr
    done = subprocess.run(["./driver"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
