"""The index is what the patch files say, and every patch is documented."""

from __future__ import annotations

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.patches import __main__ as maker
from mx_autopatch.patches import index

ENTRIES = {name: bootstrap.catalog().get(name) for name in index.INDEX}


def test_the_index_is_up_to_date() -> None:
    assert maker.index() == index.INDEX, "run `make index`"


@pytest.mark.parametrize("name", index.INDEX)
def test_every_patch_says_why_how_upstream_and_when_to_remove(name: str) -> None:
    text = ENTRIES[name].documentation()
    for heading in ("Why: ", "How: ", "Upstream: ", "Remove when: "):
        assert heading in text, f"{name} lacks {heading!r}"


@pytest.mark.parametrize("name", index.INDEX)
def test_every_patch_lies_where_its_name_says(name: str) -> None:
    scope, _, key = name.partition(".")
    assert ENTRIES[name].file == f"mx_autopatch.patches.{scope}.{key}"
