"""The data set and the configs of examples/: reproducible, well formed, free of absolute paths."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers import ROOT
from processes import environ, python

np = pytest.importorskip("numpy")

EXAMPLES = ROOT / "examples"
SMALL = {"train": 6, "val": 3, "size": 64}

# Of SMALL with seed 0. Another value on some machine means that it has other data.
DIGEST = "91ba223367a29f2e86fdca14dd0e637068d9d866d9d32e9d181dcc41fa4df4c9"


@pytest.fixture(scope="module")
def shapes() -> ModuleType:
    """examples/shapes.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("shapes", EXAMPLES / "shapes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_same_seed_gives_the_same_bytes(shapes: ModuleType, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        shapes.generate(tmp_path / name, seed=seed, **SMALL)
    one, two, other = (content(tmp_path / name) for name in ("one", "two", "other"))
    assert len(one) == SMALL["train"] + SMALL["val"] + 2
    assert one == two
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)


def test_the_bytes_are_those_of_every_other_machine(shapes: ModuleType, tmp_path: Path) -> None:
    shapes.generate(tmp_path / "data", **SMALL)
    digest = hashlib.sha256()
    for name, data in content(tmp_path / "data").items():
        digest.update(f"{name} {len(data)}\n".encode() + data)
    assert digest.hexdigest() == DIGEST


def test_a_larger_data_set_begins_with_a_smaller_one(shapes: ModuleType, tmp_path: Path) -> None:
    shapes.generate(tmp_path / "small", **SMALL)
    shapes.generate(tmp_path / "large", **{**SMALL, "train": 9})
    small, large = content(tmp_path / "small"), content(tmp_path / "large")
    assert {name: data for name, data in large.items() if name in small} == {
        **small,
        "train.json": large["train.json"],
    }
    first, all_ = (json.loads(c["train.json"])["annotations"] for c in (small, large))
    assert all_[: len(first)] == first


def test_coco_can_read_it(shapes: ModuleType, tmp_path: Path) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    shapes.generate(tmp_path / "data", train=30, val=5, size=96)
    for split, count in (("train", 30), ("val", 5)):
        coco = coco_module.COCO(str(tmp_path / "data" / f"{split}.json"))
        assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(shapes.CLASSES)
        images = coco.loadImgs(coco.getImgIds())
        assert len(images) == count
        for image in images:
            assert (tmp_path / "data" / split / image["file_name"]).is_file()
            annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
            assert 1 <= len(annotations) <= shapes.MAX_SHAPES
            for annotation in annotations:
                x, y, width, height = annotation["bbox"]
                assert x >= 0
                assert y >= 0
                assert x + width <= image["width"]
                assert y + height <= image["height"]
                assert 0 < annotation["area"] <= width * height
        if split == "train":
            assert all(coco.getAnnIds(catIds=[i]) for i in coco.getCatIds())


def test_boxes_fit_what_is_drawn(shapes: ModuleType) -> None:
    """A shape changes its ground by 60 levels at least; texture, by less than 50."""
    for index in range(20):
        pixels, found = shapes.draw(np.random.RandomState(index), 128)
        middle = np.median(pixels, axis=(0, 1))
        different = (abs(pixels - middle) > 30).all(axis=2)
        for category, (x, y, width, height), area in found:
            inside = different[y : y + height, x : x + width]
            # The corners tell a rectangle from the two others.
            assert inside[0, 0] == inside[0, -1] == (shapes.CLASSES[category] == "rectangle")
            assert inside.sum() == pytest.approx(area, rel=0.1)


@pytest.mark.parametrize("name", ["rectangle", "ellipse", "triangle"])
@pytest.mark.parametrize(("height", "width"), [(10, 10), (11, 31), (40, 13), (21, 64)])
def test_outlines_reach_the_edges_of_their_boxes(
    shapes: ModuleType, name: str, height: int, width: int
) -> None:
    mask = shapes.outline(shapes.CLASSES.index(name), height, width)
    assert mask.shape == (height, width)
    assert (mask == mask[:, ::-1]).all()
    assert mask.any(axis=0).all()
    # The tip of a narrow triangle lies between the two middle columns.
    assert mask[-1].any()
    assert mask[1].any()


# One and several blocks of 65,535 bytes.
@pytest.mark.parametrize(("height", "width"), [(1, 1), (32, 48), (150, 160)])
def test_opencv_reads_the_pixels_that_were_written(
    shapes: ModuleType, tmp_path: Path, height: int, width: int
) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = np.random.RandomState(0).randint(0, 256, (height, width, 3), dtype=np.uint8)
    (tmp_path / "image.png").write_bytes(shapes.encode_png(pixels))
    assert (cv2.imread(str(tmp_path / "image.png"))[:, :, ::-1] == pixels).all()


def test_an_image_too_small_for_shapes_is_refused(shapes: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size: must be at least 32 pixels, got 16"):
        shapes.generate(tmp_path / "data", size=16)


def test_of_two_that_make_it_the_first_wins(shapes: ModuleType, tmp_path: Path) -> None:
    shapes.generate(tmp_path / "data", **SMALL)
    before = content(tmp_path)
    shapes.generate(tmp_path / "data", seed=1, **SMALL)
    assert content(tmp_path) == before


def test_a_folder_with_something_else_is_left_alone(shapes: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("mine")
    with pytest.raises(OSError, match="data"):
        shapes.generate(tmp_path / "data", **SMALL)
    assert content(tmp_path) == {"data/notes.txt": b"mine"}


def test_as_a_script(tmp_path: Path) -> None:
    sizes = [f"--{name}={value}" for name, value in SMALL.items()]
    done = python(EXAMPLES / "shapes.py", "data", *sizes, cwd=tmp_path)
    assert done == (0, "data: 6 training and 3 validation images\n", "")
    again = python(EXAMPLES / "shapes.py", "data", *sizes, cwd=tmp_path)
    assert again.code == 2
    assert "data exists already" in again.err


def test_no_word_of_us_and_no_absolute_path() -> None:
    # demo_npu.py is no script of a user's: it starts those on two devices.
    for path in sorted(set(EXAMPLES.rglob("*.py")) - {EXAMPLES / "demo_npu.py"}):
        text = path.read_text(encoding="utf-8")
        assert "autopatch" not in text, path
        assert not re.search(r"""["']/""", text), path


@pytest.mark.skipif(importlib.util.find_spec("mmdet") is None, reason="needs mmdet")
def test_the_configs_parse(tmp_path: Path) -> None:
    """In a process with us: mmengine finds mmdet's configs by pkg_resources, which may be gone."""
    (tmp_path / "parse.py").write_text(
        "import json, sys\n"
        "from mmengine.config import Config\n"
        "for path in sys.argv[1:]:\n"
        "    print(json.dumps(Config.fromfile(path).to_dict()))\n"
    )
    configs = sorted(EXAMPLES.glob("configs/[!_]*.py"))
    done = subprocess.run(
        [sys.executable, "-m", "mx_autopatch", "parse.py", *map(str, configs)],
        cwd=tmp_path,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=120,  # it imports torch
    )
    assert done.returncode == 0, done.stderr
    parsed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [c["model"]["type"] for c in parsed] == ["FasterRCNN", "RetinaNet"]
    for config in parsed:
        assert config["model"]["backbone"]["init_cfg"] is None
        assert not re.search(r'"/', json.dumps(config))
        assert str(Path(sys.prefix)) not in json.dumps(config)
