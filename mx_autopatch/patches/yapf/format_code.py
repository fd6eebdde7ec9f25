"""yapf as mmengine and mmcv 1.x call it.

Why: yapf 0.40.2 dropped the parameter ``verify`` that Config.pretty_text of mmcv 1.x
     and of older mmengine passes (mmdetection#10962); and yapf writes its grammar cache
     in place, so of several ranks that start cold one reads a half-written file.
How: ``verify`` is accepted and dropped; the cache is written beside and moved in place.
Upstream: yapf.yapflib.yapf_api.FormatCode, yapf >= 0.40.2.
Remove when: mmcv 1.x and mmengine < 0.9 are out of use.
"""

import inspect
import os
from typing import Any

from mx_autopatch.model import Patch, Replace, Wrap


def _without_verify(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    if "verify" in kwargs and "verify" not in inspect.signature(wrapped).parameters:
        kwargs = {name: value for name, value in kwargs.items() if name != "verify"}
    return wrapped(*args, **kwargs)


def dump(self: Any, filename: str) -> None:
    """Pickle the grammar tables into ``filename``, which is whole at any time."""
    import pickle

    unfinished = f"{filename}.{os.getpid()}.tmp"
    try:
        with open(unfinished, "wb") as file:
            pickle.dump(self.__dict__, file, pickle.HIGHEST_PROTOCOL)
        os.replace(unfinished, filename)
    finally:
        if os.path.exists(unfinished):
            os.remove(unfinished)


PATCHES = (
    Patch(
        name="yapf.format_code",
        edits=(
            Wrap("yapf.yapflib.yapf_api:FormatCode", _without_verify),
            Replace("yapf_third_party._ylib2to3.pgen2.grammar:Grammar.dump", dump),
        ),
        requires=("yapf>=0.40.2",),
    ),
)
