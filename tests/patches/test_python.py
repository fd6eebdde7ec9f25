"""python.collections_aliases, seen from outside: what a script meets."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from mx_autopatch import bootstrap


def run(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    start = "import os; os.environ['MX_AUTOPATCH'] = '1'\n"
    start += "from mx_autopatch.bootstrap import start, report; start()\n"
    command = [sys.executable, "-W", "error", *options, "-c", start + code]
    return subprocess.run(command, capture_output=True, text=True)


NEEDS_310 = pytest.mark.skipif(sys.version_info < (3, 10), reason="the names are there until 3.9")


@NEEDS_310
@pytest.mark.parametrize(
    "code",
    [
        "from collections import Mapping, Iterable",
        "import collections\nassert issubclass(dict, collections.MutableMapping)",
        "import collections.abc as abc, collections\nassert collections.Sequence is abc.Sequence",
    ],
)
def test_the_names_are_back(code: str) -> None:
    done = run(code)
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "mx_autopatch: 1 patch applied")


@NEEDS_310
def test_nothing_happens_until_a_name_is_missed() -> None:
    code = "import collections, re, typing, sys, packaging\n"
    code += "assert 'Mapping' not in vars(collections)\n"
    code += "assert 'mx_autopatch.model' not in sys.modules\n"
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_never_was_is_still_missing() -> None:
    code = "import collections\ntry:\n    collections.Nonsense\n"
    code += "except AttributeError as e:\n    print(e)"
    assert run(code).stdout == "module 'collections' has no attribute 'Nonsense'\n"
    code = "try:\n    from collections import Nonsense\nexcept ImportError as e:\n    print(e.name)"
    assert run(code).stdout == "collections\n"


def test_disabled_means_missing() -> None:
    code = "import os; os.environ['MX_AUTOPATCH_DISABLE'] = 'python.*'\nimport collections\n"
    code += "print(hasattr(collections, 'Nonsense'), hasattr(collections, 'Awaitable'))"
    expected = "False False\n" if sys.version_info >= (3, 10) else "False True\n"
    assert run(code).stdout == expected


def test_reverted(engine: Any) -> None:
    import collections

    before = dict(vars(collections))
    engine(patches__only=["python.collections_aliases"])
    if sys.version_info >= (3, 10):
        assert collections.Iterable is collections.abc.Iterable  # type: ignore[attr-defined]
    bootstrap.deactivate()
    after = dict(vars(collections))
    assert before.keys() == after.keys()
