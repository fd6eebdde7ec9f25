"""A value that holds for one module's own code while it executes, and for nobody else."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

import pytest

from mx_autopatch.model import During, Patch

GATED = """
    import lib
    import witness
    SEEN = lib.VERSION
    from lib import VERSION as COPIED
    WITNESSED = witness.look()
    def later():
        return lib.VERSION
"""


WITNESS = """
    import lib
    AT_IMPORT = lib.VERSION
    def look():
        return lib.VERSION
"""


@pytest.fixture
def world(write: Any) -> None:
    write(
        {
            "lib.py": "VERSION = 'true'\nOTHER = 1\n",
            "witness.py": WITNESS,
            "gated/__init__.py": GATED + "    from gated import part\n",
            "gated/part.py": "import lib\nSEEN = lib.VERSION\n",
            "other.py": "import lib\nimport gated\nSEEN = lib.VERSION\n",
        }
    )


def during(module: str = "gated", value: Any = "shown", name: str = "lib.during") -> Patch:
    return Patch(name, (During("lib:VERSION", module=module, value=value),))


def test_only_the_modules_own_code_reads_it(world: None, engine: Any) -> None:
    report = engine(during())
    gated = importlib.import_module("gated")
    lib, witness = sys.modules["lib"], sys.modules["witness"]
    assert (gated.SEEN, gated.COPIED, gated.part.SEEN) == ("shown",) * 3
    assert (gated.WITNESSED, witness.AT_IMPORT) == ("true", "true")
    assert (gated.later(), lib.VERSION) == ("true", "true")
    assert type(lib) is type(sys)
    (outcome,) = report()
    assert (str(outcome.status), outcome.reason) == ("APPLIED", "read as 'shown'")


def test_nested_ones_do_not_disturb_each_other(world: None, engine: Any) -> None:
    engine(during(), during("other", "outer", "lib.outer"))
    other = importlib.import_module("other")
    assert (other.SEEN, sys.modules["gated"].SEEN) == ("outer", "shown")
    assert sys.modules["lib"].VERSION == "true"


def test_overlapping_threads_restore_the_truth(write: Any, engine: Any) -> None:
    slow = "import lib, time\ntime.sleep({})\nSEEN = lib.VERSION\ntime.sleep({})\n"
    write(
        {
            "lib.py": "VERSION = 'true'\n",
            "first.py": slow.format(0.1, 0.0),
            "second.py": slow.format(0.05, 0.15),
        }
    )
    engine(during("first", 1, "lib.first"), during("second", 2, "lib.second"))
    threads = [
        threading.Thread(target=importlib.import_module, args=[name])
        for name in ("first", "second")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sys.modules["first"].SEEN, sys.modules["second"].SEEN) == (1, 2)
    lib = sys.modules["lib"]
    assert (lib.VERSION, type(lib)) == ("true", type(sys))


def test_two_attributes_of_one_module(world: None, write: Any, engine: Any) -> None:
    write({"both.py": "import lib\nSEEN = lib.VERSION, lib.OTHER\n"})
    edits = (
        During("lib:VERSION", module="both", value="v"),
        During("lib:OTHER", module="both", value="o"),
    )
    engine(Patch("lib.both", edits))
    assert importlib.import_module("both").SEEN == ("v", "o")
    lib = sys.modules["lib"]
    assert (lib.VERSION, lib.OTHER, type(lib)) == ("true", 1, type(sys))


def test_the_value_is_taken_back_when_the_module_raises(write: Any, engine: Any) -> None:
    write({"lib.py": "VERSION = 'true'\n", "bad.py": "import lib\nraise ValueError(lib.VERSION)\n"})
    engine(during("bad"))
    with pytest.raises(ValueError, match="shown"):
        importlib.import_module("bad")
    assert sys.modules["lib"].VERSION == "true"
    assert type(sys.modules["lib"]) is type(sys)


def test_assignments_reach_the_module(write: Any, engine: Any) -> None:
    write({"lib.py": "VERSION = 'true'\n", "sets.py": "import lib\nlib.VERSION = 'set'\n"})
    engine(during("sets"))
    importlib.import_module("sets")
    assert sys.modules["lib"].VERSION == "set"


def test_a_missing_library_is_said(write: Any, engine: Any) -> None:
    write({"alone.py": "X = 1\n"})
    report = engine(Patch("lib.d", (During("nolib:V", module="alone", value=1),)))
    assert importlib.import_module("alone").X == 1
    (outcome,) = report()
    assert str(outcome.status) == "MISSING"
    assert outcome.reason == "nolib cannot be imported: No module named 'nolib'"
