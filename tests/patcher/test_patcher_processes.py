"""A patcher's patches in the processes that the patched one starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import environment, python, write_files
from studio_files import STUDIO

from mx_autopatch.patcher import _carried

PATCHES = """
    from mx_driving.patcher import (
        AtomicPatch, LegacyPatch, Patch, Patcher, PatcherBuilder, RegistryPatch
    )

    def repaint(studio, options):
        studio.paint = lambda x: (options["word"], x)
        studio.tools.brush.dip = lambda x: ("redip", x)

    def hold(self, x): return ("held", x)
    def is_big(x): return x > 3
    def fold(x): return ("refold", x)

    class Round: pass

    class Tools(Patch):
        @classmethod
        def patches(cls, options=None):
            return [
                AtomicPatch("studio.Easel.hold", hold),
                RegistryPatch("studio.tools.brush.BRUSHES", Round),
                AtomicPatch("studio.Easel", "studio.tools.brush.Flat"),
            ]

    builder = PatcherBuilder().add_module_patch("studio", Patch(repaint, {"word": "carried"}))

    def more():
        return (
            Patcher()
            .add(Tools)
            .disable("studio.Easel", "something_else")
            .add(AtomicPatch("studio.Easel.fold", fold, runtime_check=is_big))
            .skip_import("cuda_kernels")
            .replace_import("cuda_studio.brush", "studio.tools.brush")
            .inject_import("studio.tools.brush", "dip", "studio.tools")
        )
"""

SEE = """
    import json, sys

    def see():
        import studio, studio.tools.brush as brush
        import cuda_kernels.deep, cuda_studio.brush
        from studio.tools import dip
        return [
            studio.paint(1), brush.dip(2), studio.Easel().hold(3),
            studio.Easel.fold(1), studio.Easel.fold(4), sorted(brush.BRUSHES._module_dict),
            cuda_studio.brush is brush, dip is brush.dip,
        ]

    if __name__ == "__main__":
        print(json.dumps(see()))
"""

SCRIPT = """
    import json, multiprocessing, subprocess, sys
    from see import see

    def of_the_script(studio, options):
        studio.Easel.mine = True

    def worker(queue):
        import studio
        queue.put([see(), hasattr(studio.Easel, "mine"), "patches_of_mine" in sys.modules])

    if __name__ == "__main__":
        from patches_of_mine import Patch, PatcherBuilder, builder, more
        mine = PatcherBuilder().add_module_patch("studio", Patch(of_the_script))
        with builder.build(), more(), mine.build():
            context = multiprocessing.get_context("spawn")
            queue = context.Queue()
            process = context.Process(target=worker, args=(queue,))
            process.start()
            spawned = queue.get(timeout=60)
            process.join()
            child = subprocess.run([sys.executable, "see.py"], capture_output=True, text=True)
            assert child.returncode == 0, child.stderr
            here = see()
        after = subprocess.run([sys.executable, "-c", "import studio; print(studio.paint(1))"],
                               capture_output=True, text=True).stdout
        print(json.dumps([here, spawned, json.loads(child.stdout), process.exitcode, after]))
"""

EXPECTED = [
    *(["carried", 1], ["redip", 2], ["held", 3], ["fold", 1], ["refold", 4]),
    ["Flat", "Round"],
    *(True, True),
]


def test_spawned_workers_and_subprocesses(tmp_path: Path) -> None:
    files = {"patches_of_mine.py": PATCHES, "see.py": SEE, "main.py": SCRIPT}
    write_files(tmp_path, {**STUDIO, **files})
    env = environment([tmp_path], active=True)
    done = python("main.py", cwd=tmp_path, env=env)
    here, (spawned, mine, imported), child, exitcode, after = json.loads(done.stdout)
    assert here == spawned == child == EXPECTED
    assert exitcode == 0
    assert imported  # by the patch, not by the worker
    assert not mine
    assert after == "('paint', 1)\n"
    stays = "patch of_the_script stays in this process: a spawned worker could not find it"
    assert [stays in line for line in done.stderr.splitlines()].count(True) == 1
    applied = [line for line in done.stderr.splitlines() if "Applied patch repaint" in line]
    assert len(applied) == 1  # a worker does not say again what the first process has said


def test_a_child_that_cannot_find_the_module_says_so(tmp_path: Path) -> None:
    write_files(tmp_path, STUDIO)
    unit = {
        "label": "repaint",
        "priority": 0,
        "triggers": ["studio"],
        "at_once": False,
        "make": [
            {"$": "name", "of": "mx_autopatch.patcher._base:units_of_function"},
            {"func": {"$": "name", "of": "gone:repaint"}, "options": {}, "module": "studio"},
        ],
    }
    content = json.dumps({"pid": 0, "units": [unit], "switched": {}})
    env = environment([tmp_path], active=True, MX_AUTOPATCH_PATCHER=content)
    env["MX_AUTOPATCH_REPORT_LEVEL"] = "summary"
    done = python("-c", "import studio; print(studio.paint(1))", cwd=tmp_path, env=env)
    assert done.stdout == "('paint', 1)\n"
    assert "repaint is in force in the process that started this one, but cannot be found" in (
        done.stderr
    )
    env["MX_AUTOPATCH_PATCHER"] = "not JSON"
    done = python("-c", "import studio; print(studio.paint(1))", cwd=tmp_path, env=env)
    assert done.stdout == "('paint', 1)\n"
    assert "MX_AUTOPATCH_PATCHER: JSONDecodeError" in done.stderr


class Named:
    """Something that can be found by name."""

    class Inner:
        pass


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": [1, 2.5, "x", True], "b": (1, ("y", None))},
        [Named, Named.Inner, json.dumps],
        {"deep": {"er": Named}},
    ],
)
def test_what_can_be_named_arrives_as_it_was(value: Any) -> None:
    encoded = json.loads(json.dumps(_carried.encode(value)))
    assert _carried.decode(encoded) == value


@pytest.mark.parametrize("value", [lambda: 1, object(), {"$": 1}, {1: 2}, {"f": lambda: 1}])
def test_what_cannot_be_named_stays(value: Any) -> None:
    with pytest.raises(_carried.NotNameable, match="cannot be found by name"):
        _carried.encode(value)
