"""Workers of a DataLoader see the patches of their parent, whatever starts them."""

from __future__ import annotations

import json
import sys

import pytest
from helpers import environment, python, write_files

pytest.importorskip("torch")

FILES = {
    "transforms.py": """
        def scale(x):
            return x

        class Flip:
            def __call__(self, x):
                return x
    """,
    "trial_patches.py": """
        from mx_autopatch.model import Patch, Replace, Wrap

        def wrapper(wrapped, instance, args, kwargs):
            return wrapped(*args, **kwargs) + 1000

        PATCHES = (
            Patch("trial.s", (Replace("transforms:scale", lambda x: x * 10),)),
            Patch("trial.f", (Wrap("transforms:Flip.__call__", wrapper),)),
        )
    """,
    "main.py": """
        import json, sys
        import torch
        from torch.utils.data import DataLoader, Dataset, get_worker_info
        from transforms import Flip, scale

        class Numbers(Dataset):
            def __init__(self):
                self.flip = Flip()
                self.scale = scale  # pickled by name for a worker that is spawned

            def __len__(self):
                return 4

            def __getitem__(self, index):
                import transforms
                same = self.scale is transforms.scale and get_worker_info() is not None
                return self.flip(self.scale(index)), int(same)

        if __name__ == "__main__":
            seen = {}
            for context in sys.argv[1:]:  # one process for all, since importing torch is slow
                loader = DataLoader(Numbers(), num_workers=1, multiprocessing_context=context)
                seen[context] = [[int(value) for value in item] for item in loader]
            print(json.dumps(seen))
    """,
    "autopatch.toml": '[plugins]\nfiles = ["trial_patches.py"]\n',
}


@pytest.mark.skipif(sys.platform == "win32", reason="no fork here")
def test_workers(tmp_path):
    contexts = ["fork", "spawn", "forkserver"]
    folder = write_files(tmp_path / "project", FILES)
    away = tmp_path / "away"
    away.mkdir()
    env = environment(active=True, MX_AUTOPATCH_CONFIG=str(folder / "autopatch.toml"))
    done = python(folder / "main.py", *contexts, cwd=away, env=env, warnings=False)
    expected = [[index * 10 + 1000, 1] for index in range(4)]
    assert json.loads(done.stdout.splitlines()[-1]) == dict.fromkeys(contexts, expected)
