"""The stand-in for CANN in a process: what it takes to be loaded, and why it is refused."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT, environment, python, write_files

from mx_autopatch.softnpu import runtime

LOAD = """
import ctypes, os
from mx_autopatch.softnpu import runtime
print(runtime.load())
cann = ctypes.CDLL("libascendcl.so")
cann.aclrtGetSocName.restype = ctypes.c_char_p
count, free, total = ctypes.c_uint32(), ctypes.c_size_t(), ctypes.c_size_t()
cann.aclrtGetDeviceCount(ctypes.byref(count))
cann.aclrtGetMemInfo(1, ctypes.byref(free), ctypes.byref(total))
print(cann.aclrtGetSocName().decode(), count.value, total.value)
"""


def load(*flags: str, fails: bool = False, **env: str) -> str:
    """What a process that loads the stand-in prints, or its last line where it fails."""
    done = python(*flags, "-c", LOAD, cwd=ROOT, env=environment(**env), fails=fails)
    if not fails:
        assert not done.stderr
        return done.stdout.splitlines()[-1]
    return done.stderr.splitlines()[-1]


def test_shows_one_device_with_the_memory_of_a_910b() -> None:
    assert load() == f"Ascend910B1 1 {64 << 30}"


def test_devices_and_memory_are_those_of_the_environment() -> None:
    env = {"MX_AUTOPATCH_SOFT_DEVICES": "64", "MX_AUTOPATCH_SOFT_MEMORY": "8GiB"}
    assert load(**env) == f"Ascend910B1 64 {8 << 30}"
    env = {"MX_AUTOPATCH_SOFT_DEVICES": "0", "MX_AUTOPATCH_SOFT_MEMORY": "1000000"}
    assert load(**env) == "Ascend910B1 0 1000000"


def test_each_rank_of_torchrun_has_a_device_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scripts written for CUDA take the device of their local rank."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert runtime._count("") == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert runtime._count("") == 4
    assert runtime._count("2") == 2


@pytest.mark.parametrize("text", ["65", "-1", "two", " 1", "007"])
def test_a_number_of_devices_that_is_none(text: str) -> None:
    with pytest.raises(runtime.SoftNpuError) as caught:
        runtime._count(text)
    assert str(caught.value) == (
        f"environment MX_AUTOPATCH_SOFT_DEVICES: {text!r}: expected a number from 0 to 64"
    )


@pytest.mark.parametrize("text", ["0", "8GB", "8 GiB", "much", "12345TiB"])
def test_an_amount_of_memory_that_is_none(text: str) -> None:
    with pytest.raises(runtime.SoftNpuError, match="MX_AUTOPATCH_SOFT_MEMORY") as caught:
        runtime._check_memory(text)
    assert repr(text) in str(caught.value)
    assert "like 8GiB" in str(caught.value)


def test_a_wrong_environment_is_an_error_of_load() -> None:
    assert load(fails=True, MX_AUTOPATCH_SOFT_DEVICES="65") == (
        "mx_autopatch.errors.SoftNpuError: environment MX_AUTOPATCH_SOFT_DEVICES: '65': "
        "expected a number from 0 to 64"
    )


def test_loads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has it already; what would be refused now is not even looked at."""
    monkeypatch.setenv("MX_AUTOPATCH_SOFT_DEVICES", "nonsense")
    assert runtime.is_loaded()
    assert runtime.load().startswith("stand-in for CANN at ")
    assert runtime.load(devices=7) == runtime.load()


def test_the_number_of_devices_does_not_pass_to_other_processes() -> None:
    code = (
        "import os; from mx_autopatch.softnpu import runtime\n"
        "runtime.load(5); print(dict(os.environ))"
    )
    done = python("-c", code, cwd=ROOT)
    assert "MX_AUTOPATCH_SOFT_DEVICES" not in done.stdout


def test_says_where_cann_is_only_while_torch_npu_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    monkeypatch.setenv("ASCEND_OPP_PATH", "mine")
    with runtime.as_installed():
        home = os.environ["ASCEND_HOME_PATH"]
        assert os.environ["ASCEND_OPP_PATH"] == f"{home}/opp"
        assert Path(home, "libascendcl.so").exists()
    assert "ASCEND_HOME_PATH" not in os.environ
    assert os.environ["ASCEND_OPP_PATH"] == "mine"


def distribution(folder: Path, name: str, version: str) -> Path:
    """Metadata of a package, without the package."""
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return write_files(folder, {f"{name.replace('-', '_')}-{version}.dist-info/METADATA": text})


def test_without_torch_npu() -> None:
    # -S: no site-packages.
    assert load("-S", fails=True) == (
        "mx_autopatch.errors.SoftNpuError: soft NPU: it runs the real torch_npu, which is not "
        "installed; install the one for this torch: pip install torch-npu==<version of torch>"
    )


def test_without_torch(tmp_path: Path) -> None:
    folder = distribution(tmp_path, "torch-npu", "2.13.0")
    env = environment([folder])
    done = python("-S", "-c", LOAD, cwd=ROOT, env=env, fails=True)
    assert done.stderr.endswith("torch is not installed; pip install torch==2.13.0\n")


@pytest.mark.parametrize("version", ["2.12.0", "2.7.1.post2"])
def test_a_torch_npu_for_another_torch(tmp_path: Path, version: str) -> None:
    distribution(tmp_path, "torch-npu", version)
    distribution(tmp_path, "torch", "2.13.0+cpu")
    done = python("-S", "-c", LOAD, cwd=ROOT, env=environment([tmp_path]), fails=True)
    release = ".".join(version.split(".")[:3])
    assert done.stderr.splitlines()[-1].endswith(
        f"torch_npu {version} needs torch {release}, found 2.13.0+cpu; "
        f"pip install torch-npu==2.13.0, or torch=={release}"
    )


def test_a_later_build_for_the_same_torch(tmp_path: Path) -> None:
    distribution(tmp_path, "torch-npu", "2.13.0.post3")
    distribution(tmp_path, "torch", "2.13.0+cpu")
    done = python("-S", "-c", LOAD, cwd=ROOT, env=environment([tmp_path]))
    assert "/softnpu-2.13.0.post3-" in done.stdout


@pytest.fixture(scope="session")
def other_cann(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a library that bears the name of CANN's, and is not ours."""
    folder = tmp_path_factory.mktemp("cann")
    code = 'const char *aclrtGetSocName(void) { return "Ascend910_real"; }\n'
    command = ["cc", "-shared", "-fPIC", "-xc", "-", "-Wl,-soname,libascendcl.so"]
    subprocess.run(
        [*command, "-o", "libascendcl.so"], cwd=folder, input=code, text=True, check=True
    )
    return str(folder)


def test_a_real_cann_is_not_stood_in_for(other_cann: str) -> None:
    message = load(fails=True, LD_LIBRARY_PATH=other_cann)
    assert "this machine has a real CANN (libascendcl.so was found): use device = 'npu'" in message
    assert "MX_AUTOPATCH_SOFT_FORCE=1" in message


def test_unless_it_is_forced(other_cann: str) -> None:
    said = load(LD_LIBRARY_PATH=other_cann, MX_AUTOPATCH_SOFT_FORCE="1")
    assert said == f"Ascend910B1 1 {64 << 30}"


def test_what_was_compiled_and_cannot_be_loaded(tmp_path: Path) -> None:
    """Same size, other content: what no test of the sizes finds."""
    load(XDG_CACHE_HOME=str(tmp_path))
    (library,) = tmp_path.glob("mx_autopatch/softnpu-*/libascendcl.so")
    library.write_bytes(b"\0" * library.stat().st_size)
    message = load(fails=True, XDG_CACHE_HOME=str(tmp_path))
    assert "cannot be loaded" in message
    assert f"delete {library.parent}, it is made anew" in message


def test_through_the_engine_a_failure_is_said_once_and_reported(tmp_path: Path) -> None:
    """`import torch` then goes the way that it goes without us; stderr and report say why."""
    report = tmp_path / "report.json"
    env = environment(
        active=True,
        MX_AUTOPATCH_DEVICE="soft",
        MX_AUTOPATCH_PATCHES_ONLY="torch.soft_npu",
        MX_AUTOPATCH_REPORT_PATH=str(report),
        XDG_CACHE_HOME=str(tmp_path),
        CC="no-such-compiler",
        TORCH_DEVICE_BACKEND_AUTOLOAD="0",
    )
    code = "import torch; print(torch.ones(2).sum().item())"
    done = python("-c", code, cwd=tmp_path, env=env, warnings=False)
    assert done.stdout == "2.0\n"
    assert done.stderr.count("no C compiler: 'no-such-compiler' cannot be run") == 1
    outcomes = json.loads(report.read_text())["outcomes"]
    (failed,) = [o for o in outcomes if o["status"] == "FAILED"]
    assert failed["patch"] == "torch.soft_npu"
    assert "no C compiler: 'no-such-compiler' cannot be run" in failed["reason"]


def test_torch_npu_must_not_be_there_before() -> None:
    code = (
        "import sys; sys.modules['torch_npu._C'] = sys\n"
        "from mx_autopatch.softnpu import runtime; runtime.load()"
    )
    done = python("-c", code, cwd=ROOT, fails=True)
    assert "torch_npu is loaded already; start it with the interpreter" in done.stderr


def test_a_kernel_is_refused_by_its_name() -> None:
    """What torch_npu's own code hands to CANN fails, in words that name the operator."""
    cann = ctypes.CDLL("libascendcl.so")
    cann.aclGetRecentErrMsg.restype = ctypes.c_char_p
    nothing = [None] * 3
    code = cann.aclopCompileAndExecute(b"Add", 0, *nothing[:2], 0, *nothing, 0, 0, None, None)
    # At 207000 torch_npu would warn and go on, with memory that nobody has written.
    assert code == 200001
    assert cann.aclGetRecentErrMsg() == b"the soft NPU has no kernel Add"
