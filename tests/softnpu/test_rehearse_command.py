"""``python -m mx_autopatch rehearse``, on scripts with known lines, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, environment, write_files

#: Written for CUDA, and never to be edited.
SCRIPT = """
    import sys

    import rich
    import torch

    print(rich.__file__, sys.argv, __name__)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    model.cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(4):
        x = torch.ones(2, 4).cuda()
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0:
            break
        kept = x[x > 0]
    torch.cuda.synchronize()
    total = kept.double().sum()
    torch.mode(x)
    if "raise" in sys.argv:
        raise ValueError("as under python")
    if "exit" in sys.argv:
        sys.exit(3)
    """

TRAIN = str(ROOT / "examples" / "train_detector.py")
#: Two iterations of the example, with nothing after them.
DETECTOR = f"""
    _base_ = {str(ROOT / "examples" / "configs" / "retinanet_r18_shapes.py")!r}
    model = dict(backbone=dict(init_cfg=None))
    shapes = dict(data=dict(root="data/", train=4, val=1, size=64, seed=0))
    dataset = dict(data_root="data/")
    train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset)
    val_dataloader, val_cfg, val_evaluator = None, None, None
    test_dataloader, test_cfg, test_evaluator = None, None, None
    train_cfg = dict(max_epochs=1)
    """
ALL = ("--json", "out/r-{rank}.json")

Done = subprocess.CompletedProcess  # of str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("project")
    files = {"train.py": SCRIPT.lstrip("\n"), "package/__init__.py": "", "rich.py": ""}
    return write_files(made, {**files, "package/train.py": SCRIPT.lstrip("\n")})


def run(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Done:
    """The process, and nothing asserted about it."""
    given = environment(OMP_NUM_THREADS="1", **(env or {}))
    return subprocess.run(
        [sys.executable, "-m", "mx_autopatch", "rehearse", *arguments],
        cwd=folder,
        env=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def lines(rows: list[dict[str, Any]], name: str, what: str = "") -> dict[int, tuple[Any, int]]:
    """Line -> what, count; all in the file ``name`` and the user's own."""
    for row in rows:
        assert Path(row["file"]).name == name
        assert row["own"]
    return {row["line"]: (row[what] if what else None, row["count"]) for row in rows}


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Done]:
    """All of them, two at a time: each imports torch, which takes seconds."""
    write_files(folder, {"tiny.py": DETECTOR})
    rank = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    detector = ("--json", "detector.json", "--output", "detector.txt")
    with ThreadPoolExecutor(2) as pool:
        started = {
            "detector": pool.submit(run, folder, *detector, TRAIN, "tiny.py"),
            "whole": pool.submit(run, folder, *ALL, "train.py", "--json", "exit"),
            "raise": pool.submit(run, folder, *ALL, "-m", "package.train", "raise", env=rank),
        }
    return {name: done.result() for name, done in started.items()}


@pytest.fixture(scope="module")
def whole(folder: Path, runs: dict[str, Done]) -> tuple[Done, dict[str, Any]]:
    """A run that ends with sys.exit(3), and its JSON."""
    done = runs["whole"]
    assert done.returncode == 3, done.stderr
    return done, json.loads((folder / "out" / "r-0.json").read_text())


def test_the_script_is_run_as_python_does(folder: Path, whole: tuple[Done, dict[str, Any]]) -> None:
    done, _ = whole
    argv = ["train.py", "--json", "exit"]
    assert done.stdout == f"{folder / 'rich.py'} {argv} __main__\n"


def test_the_json(whole: tuple[Done, dict[str, Any]]) -> None:
    _, found = whole
    assert found["format"] == 1
    assert (found["device"], found["rank"], found["recorded"]) == ("soft", 0, True)
    assert found["argv"] == ["train.py", "--json", "exit"]
    assert found["ended_by"] is None
    assert set(found["versions"]) == {"python", "torch", "torch_npu"}
    assert (found["refused"], found["failed"], found["problems"]) == ([], [], [])

    operators = {row["name"]: (row["count"], row["where"]) for row in found["operators"]}
    assert operators["aten::relu"] == (4, "native")
    assert operators["aten::threshold_backward"] == (4, "native")
    assert operators["aten::addmm"] == (8, "native")
    assert operators["aten::mode"] == (1, "cpu")
    assert [name for name, (_, where) in operators.items() if where == "cpu"] == ["aten::mode"]
    assert [row["count"] for row in found["operators"]] == sorted(
        (row["count"] for row in found["operators"]), reverse=True
    )

    assert lines(found["waits"], "train.py", "what") == {
        16: ("value read (item)", 4),
        18: ("indexing by a bool mask", 4),
        19: ("synchronize", 1),
    }
    assert found["waits"][0]["source"] == "if loss.item() < 0:"
    assert found["waits"][0]["function"] == "<module>"
    # Four parameters, once; the batch, in each step.
    assert lines(found["copies"], "train.py") == {8: (None, 4), 11: (None, 4)}
    assert {row["line"]: row["bytes"] for row in found["copies"]} == {8: 4 * 49, 11: 4 * 32}
    assert lines(found["casts"], "train.py", "what") == {20: ("float32 to float64", 1)}
    assert lines(found["computed"], "train.py", "dtype") == {20: ("float64", 1)}
    assert found["computed"][0]["operators"] == {"aten::sum": 1}

    applied = {o["patch"] for o in found["patches"] if o["status"] == "APPLIED"}
    assert {"torch.soft_npu", "torch.transfer_to_npu"} <= applied


def test_the_text(whole: tuple[Done, dict[str, Any]]) -> None:
    text = " ".join(whole[0].stderr.split())
    assert "rehearsal of train.py --json exit on the soft NPU (torch 2.13.0" in text
    assert "the host waits for the device: 9 times, by 3 lines" in text
    assert "4 value read (item) * train.py:16 if loss.item() < 0:" in text
    assert "1 aten::mode CPU: falls back" in text
    assert "\x1b" not in text  # nobody's terminal


def test_torch_npu_says_the_same_of_what_falls_back(
    whole: tuple[Done, dict[str, Any]],
) -> None:
    warned = [line for line in whole[0].stderr.splitlines() if "will fall back to run" in line]
    assert [line.split("operator '")[1].split("'")[0] for line in warned] == ["aten::mode"]


def test_an_exception_in_a_module_on_another_rank(folder: Path, runs: dict[str, Done]) -> None:
    """The traceback is the script's own. Each rank writes its JSON; the first one prints."""
    done = runs["raise"]
    assert done.returncode == 1
    # torch_npu's own excepthook adds a line on stdout.
    assert done.stdout.partition("\n")[0].endswith(" __main__")
    assert 'package/train.py", line ' in done.stderr
    assert "mx_autopatch/cli" not in done.stderr
    assert "ValueError: as under python" in done.stderr
    assert "rehearsal of" not in done.stderr
    found = json.loads((folder / "out" / "r-1.json").read_text())
    assert found["rank"] == 1
    assert found["ended_by"] == "ValueError: as under python"
    assert lines(found["waits"], "train.py", "what")[16] == ("value read (item)", 4)
    assert found["waits"][0]["file"].endswith("package/train.py")


def test_json_on_stdout_and_no_torch(folder: Path) -> None:
    (folder / "plain.py").write_text("print('out')\n")
    done = run(folder, "--json", "-", "plain.py")
    assert done.returncode == 0, done.stderr
    said, _, rest = done.stdout.partition("\n")
    assert said == "out"
    found = json.loads(rest)
    assert (found["recorded"], found["operators"]) == (False, [])
    assert "rehearsal of" not in done.stderr


def test_the_detector_of_the_examples(folder: Path, runs: dict[str, Done]) -> None:
    """The lines named are lines of mmdet that wait, in the file as it is installed."""
    done = runs["detector"]
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((folder / "detector.json").read_text())
    assert found["recorded"]
    waits = {(Path(row["file"]).name, row["what"]): row for row in found["waits"]}
    assigner = waits["max_iou_assigner.py", "nonzero"]
    assert "torch.nonzero(" in assigner["source"]
    assert not assigner["own"]
    assert Path(assigner["called_from"]["file"]).name == "train_detector.py"
    assert assigner["called_from"]["source"] == "runner.train()"
    assert ("smooth_l1_loss.py", "value read (item)") in waits
    for row in found["waits"]:
        source = Path(row["file"]).read_text().splitlines()[row["line"] - 1]
        assert source.strip() == row["source"]
    assert {row["where"] for row in found["operators"]} == {"native"}
    text = (folder / "detector.txt").read_text()
    assert "mmdet/models/task_modules/assigners/max_iou_assigner.py:" in text
