"""Microseconds to convert one detection for nuScenes, without our patches and with them.

On the mmdet3d of the lanes of `make test`, by the script of their tests, which also compares
every bit of the boxes. The least of fifteen frames of 300 boxes, in the best of three processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "mmcv1"), str(TESTS / "patches")]

#: Release -> the lane's environment, whether it is laid down there, and its modules to stub.
RELEASES = {
    "0.17.1": (".venv-mmcv1", True, ["mmdet3d.ops", "trimesh", "skimage", "networkx"]),
    "1.0.0rc6": (".venv-mmcv1", True, ["trimesh", "skimage", "networkx"]),
    "1.4.0": (".venv", False, []),
}
SETTINGS = '[modules]\nstub = {stub}\nredirect = {{ "numba.errors" = "numba.core.errors" }}\n'


def measure(release: str) -> tuple[float, float]:
    """Microseconds a box, without and with."""
    from helpers import APART, environment

    venv, laid_down, stub = RELEASES[release]
    sources = [ROOT / venv / "mmdet3d" / f"mmdet3d-{release}"] if laid_down else []
    env = environment([*sources, APART], active=True, MX_AUTOPATCH_DEVICE="cpu")
    env.update(TORCH_DEVICE_BACKEND_AUTOLOAD="0", OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "autopatch.toml").write_text(SETTINGS.format(stub=json.dumps(stub)))
        command = [ROOT / venv / "bin" / "python", TESTS / "patches" / "nuscenes_trial.py"]
        runs = []
        for _ in range(3):
            done = subprocess.run(
                command, cwd=folder, env=env, capture_output=True, text=True, check=True
            )
            said = json.loads(done.stdout.splitlines()[-1])
            assert all(said["equal"].values()), said["equal"]
            assert said["version"] == release
            runs.append(said["microseconds"])
    return min(slow for slow, _ in runs), min(fast for _, fast in runs)


def main() -> None:
    print(f"{'mmdet3d':10}{'without':>10}{'with':>8}{'ratio':>8}")
    for release in RELEASES:
        slow, fast = measure(release)
        print(f"{release:10}{slow:10.0f}{fast:8.1f}{slow / fast:8.1f}", flush=True)


if __name__ == "__main__":
    main()
