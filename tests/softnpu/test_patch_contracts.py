"""What patches call for NPUs is accepted by torch_npu's own schemas and meta functions."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import HERE, environment, python, write_files

#: Call of the script -> the operators of torch_npu's own that it comes to.
WANTED = {
    **dict.fromkeys(
        ("rms_norm", "rms_norm half", "llama", "llama half", "gemma", "gemma half"),
        ("npu_rms_norm", "npu_rms_norm_backward"),
    ),
    "swiglu": ("npu_swiglu", "npu_swiglu_backward"),
    "rotary": ("npu_rotary_mul", "npu_rotary_mul_backward"),
    **dict.fromkeys(
        ("attention", "encoder layer", "mmcv"),
        ("npu_fusion_attention_grad_v3", "npu_fusion_attention_v3"),
    ),
    **dict.fromkeys(("batch_matmul", "fill"), ()),
}

# The part of transformers that the patch is for, where it is not installed.
LLAMA = {
    "transformers/__init__.py": "",
    "transformers/models/__init__.py": "",
    "transformers/models/llama/__init__.py": "",
    "transformers/models/llama/modeling_llama.py": "from npu_projects import apply_rotary_pos_emb",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("contract")
    path: list[Path] = []
    arguments = ["transformers"]
    if importlib.util.find_spec("transformers") is None:
        path.append(write_files(folder, LLAMA))
    if importlib.util.find_spec("mmcv") is not None:
        arguments.append("mmcv")
    env = environment(path, active=True, MX_AUTOPATCH_DEVICE="contract")
    script = HERE / "softnpu" / "patch_contracts.py"
    # mmcv and transformers warn of deprecations of their own.
    done = python(script, *arguments, cwd=folder, env=env, warnings=False, timeout=200)
    return json.loads(done.stdout)


@pytest.mark.parametrize("call", WANTED)
def test_is_accepted(found: Any, call: str) -> None:
    if call == "mmcv" and call not in found:
        pytest.skip("mmcv is not installed")
    assert found[call]["ok"], found[call]["text"]
    assert found[call]["npu"] == [f"npu::{name}" for name in WANTED[call]]


def test_all_calls_are_named(found: Any) -> None:
    assert found.keys() | {"mmcv"} == WANTED.keys()
