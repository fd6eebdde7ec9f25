"""What mmdet3d writes for nuScenes, without our patches and with them.

Run by test_nuscenes.py on the installed release, and by tests/mmcv1/test_mmdet3d_releases.py
on earlier ones. Prints one JSON object.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

warnings.simplefilter("ignore")  # what mmdet3d and its libraries say about themselves

import numpy as np  # noqa: E402

from mx_autopatch import bootstrap  # noqa: E402

ROUNDS, FRAMES_FOR_TIME, BOXES = 5, 3, 295
SETTINGS: dict[str, Any] = {"report.level": "silent"}
OURS = "mmdet3d.nuscenes_*"


def start(**settings: Any) -> None:
    patches = {f"patches.{key}": value for key, value in settings.items()}
    bootstrap.activate(overrides={**SETTINGS, **patches}, script=str(Path.cwd() / "x.py"))


start(disable=[OURS])
import mmdet3d  # noqa: E402
import nuscenes_tables as tables  # noqa: E402
import torch  # noqa: E402
from nuscenes.eval.detection.config import config_factory  # noqa: E402

torch.set_num_threads(1)
OLD = mmdet3d.__version__ < "1.1"
if OLD:
    lidar = import_module("mmdet3d.datasets.nuscenes_dataset")
    camera = import_module("mmdet3d.datasets.nuscenes_mono_dataset")
    structures = import_module("mmdet3d.core.bbox")
else:
    lidar = camera = import_module("mmdet3d.evaluation.metrics.nuscenes_metric")
    structures = import_module("mmdet3d.structures")
    import_module("mmdet3d.datasets.nuscenes_dataset")
FUNCTIONS = [
    (lidar, "output_to_nusc_box"),
    (lidar, "lidar_nusc_box_to_global"),
    (camera, "output_to_nusc_box"),
    (camera, "cam_nusc_box_to_global"),
    (camera, "global_nusc_box_to_cam"),
    (camera, "nusc_box_to_cam_box3d"),
]
KEY = "boxes_3d" if OLD else "bboxes_3d"
RANGES = config_factory("detection_cvpr_2019")


def detection(frame: int, size: int, kind: str = "LiDAR") -> dict[str, Any]:
    boxes, scores, labels = tables.boxes(frame, seed=0, size=size)
    cls = getattr(structures, f"{kind}Instance3DBoxes")
    attributes = {"attrs_3d" if OLD else "attr_labels": labels % 8}
    return {KEY: cls(boxes, box_dim=9), "scores_3d": scores, "labels_3d": labels, **attributes}


def all_of(boxes: list[Any]) -> list[Any]:
    """Every bit of these boxes, the types of their attributes included."""
    found = []
    for box in boxes:
        values = vars(box).values()
        elements = [v.elements if hasattr(v, "elements") else v for v in values]
        bits = [v.tobytes().hex() if isinstance(v, np.ndarray) else repr(v) for v in elements]
        kinds = [str(getattr(v, "dtype", "")) + type(v).__name__ for v in values]
        found.append([list(vars(box)), bits, kinds])
    return found


def from_lidar(frame: int, size: int, **more: Any) -> Any:
    boxes = lidar.output_to_nusc_box(detection(frame, size), **more)
    boxes = boxes if isinstance(boxes, list) else boxes[0]
    made = copy.deepcopy(boxes)
    info = tables.infos()[frame]
    there = lidar.lidar_nusc_box_to_global(info, boxes, tables.CLASSES, RANGES)
    return all_of(made), all_of(boxes), all_of(there)


def from_camera(frame: int, size: int) -> Any:
    boxes, attributes = camera.output_to_nusc_box(detection(frame, size, "Camera"))
    made, info = copy.deepcopy(boxes), tables.infos()[frame]
    there, _ = camera.cam_nusc_box_to_global(info, boxes, attributes, tables.CLASSES, RANGES)
    seen = copy.deepcopy(there)
    back = camera.global_nusc_box_to_cam(info, there, tables.CLASSES, RANGES)
    return all_of(made), all_of(boxes), all_of(seen), all_of(back)


def evaluated(root: Path) -> tuple[str, dict[str, Any]]:
    """The file of results, and what the devkit makes of it."""
    out = Path(tempfile.mkdtemp(dir=root))
    frames = range(tables.FRAMES)
    if OLD:
        data = lidar.NuScenesDataset(str(root / "infos.pkl"), [], str(root), test_mode=True)
        results = [{"pts_bbox": detection(frame, 40)} for frame in frames]
        metrics = data.evaluate(results, jsonfile_prefix=str(out))
        return (out / "pts_bbox/results_nusc.json").read_text(), metrics
    metric = lidar.NuScenesMetric(str(root), str(root / "infos.pkl"), jsonfile_prefix=str(out))
    metric.dataset_meta = {"classes": tables.CLASSES, "version": tables.VERSION}
    for frame in frames:
        sample = {"pred_instances_3d": detection(frame, 40), "pred_instances": {}}
        metric.process({}, [{**sample, "sample_idx": frame}])
    metrics = metric.compute_metrics(metric.results)
    return (out / "pred_instances_3d/results_nusc.json").read_text(), metrics


def unusual() -> list[Any]:
    """What has no boxes, what is not a number, and a release's own option."""
    given = [from_lidar(0, 0)[0][:0]]
    straight = detection(0, 3)
    straight[KEY].tensor[0, 6], straight[KEY].tensor[1, 6] = 0.0, -0.0
    boxes = lidar.output_to_nusc_box(straight)
    given.append(all_of(boxes if isinstance(boxes, list) else boxes[0]))
    nothing = detection(0, 0)
    nothing = {key: value[:0] for key, value in nothing.items()}
    given.append(repr(lidar.output_to_nusc_box(nothing)))
    scores = detection(0, 3)
    scores["scores_3d"][1] = float("nan")
    boxes = lidar.output_to_nusc_box(scores)
    given.append(all_of(boxes if isinstance(boxes, list) else boxes[0]))
    centres = detection(0, 3)
    centres[KEY].tensor[2, 1] = float("nan")
    try:
        given.append(lidar.output_to_nusc_box(centres))
    except AssertionError as error:
        given.append(f"AssertionError {error}")
    if "with_velocity" in lidar.output_to_nusc_box.__code__.co_varnames:
        given.append(from_lidar(0, 3, with_velocity=False))
    return given


def results(root: Path) -> dict[str, Any]:
    text, metrics = evaluated(root)
    return {
        "lidar": [from_lidar(frame, 60) for frame in range(tables.FRAMES)],
        "camera": [from_camera(frame, 60) for frame in range(tables.FRAMES)],
        "unusual": unusual(),
        "written": text,
        "metrics": repr(metrics),
    }


def microseconds() -> float:
    """The least time that a box takes to be converted, of some frames."""
    times = []
    for _ in range(FRAMES_FOR_TIME):
        given = detection(0, BOXES)
        begin = perf_counter()
        boxes = lidar.output_to_nusc_box(given)
        boxes = boxes if isinstance(boxes, list) else boxes[0]
        lidar.lidar_nusc_box_to_global(tables.infos()[0], boxes, tables.CLASSES, RANGES)
        times.append(perf_counter() - begin)
    return min(times) / len(boxes) * 1e6


def back_to_camera() -> float:
    """How far boxes come back from where they were, on a machine without CUDA."""
    given = detection(0, 40, "Camera")
    was = given[KEY].tensor.clone()
    boxes, _ = camera.output_to_nusc_box(given)
    made, scores, labels = camera.nusc_box_to_cam_box3d(boxes)
    assert scores.shape == (45, 11)
    assert torch.equal(labels.cpu(), given["labels_3d"])
    # Their velocities are those along x and y in 0.17, in place of x and z.
    columns = slice(0, 6)
    return (made.tensor.cpu() - was)[:, columns].abs().max().item()


def main() -> None:
    root = Path(tempfile.mkdtemp())
    tables.write_tables(root)
    mmengine = import_module("mmcv" if OLD else "mmengine")
    listed = {"infos": tables.infos(), "metadata": {"version": tables.VERSION}}
    mmengine.dump({**listed, "data_list": tables.infos(), "metainfo": {}}, root / "infos.pkl")
    originals = [getattr(module, name) for module, name in FUNCTIONS]
    plain = results(root)
    bootstrap.deactivate()
    for _ in range(3):
        start(only=[OURS])
    patched = results(root)
    outcomes = [o for o in bootstrap.report().outcomes if o.patch.startswith("mmdet3d.")]
    replaced = [
        getattr(module, name) is not was for (module, name), was in zip(FUNCTIONS, originals)
    ]
    distance = back_to_camera()
    slow, fast = [], []
    for _ in range(ROUNDS):  # in turn, since other processes come and go
        fast.append(microseconds())
        bootstrap.deactivate()
        slow.append(microseconds())
        start(only=[OURS])
    bootstrap.deactivate()
    said = {
        "version": mmdet3d.__version__,
        "equal": {key: plain[key] == value for key, value in patched.items()},
        "boxes": len(plain["lidar"][0][0]),
        "kept": len(plain["lidar"][0][2]),
        "car": plain["metrics"].partition("car_AP_dist_1.0': ")[2].partition(",")[0],
        "outcomes": [[o.patch, o.trigger, str(o.status), o.reason] for o in outcomes],
        "replaced": replaced,
        "reverted": [getattr(m, name) for m, name in FUNCTIONS] == originals,
        "microseconds": [min(slow), min(fast)],
        "distance": distance,
    }
    print(f"\n{json.dumps(said)}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
