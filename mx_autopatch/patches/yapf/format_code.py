"""yapf as mmengine and mmcv 1.x call it.

Why: yapf 0.40.2 dropped the parameter ``verify`` that Config.pretty_text of mmcv 1.x
     and of older mmengine passes (mmdetection#10962).
How: ``verify`` is accepted and dropped where FormatCode has no such parameter.
Upstream: yapf.yapflib.yapf_api.FormatCode, yapf >= 0.40.2.
Remove when: mmcv 1.x and mmengine < 0.9 are out of use.
"""

import inspect
from typing import Any

from mx_autopatch.model import Patch, Wrap


def _without_verify(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    if "verify" in kwargs and "verify" not in inspect.signature(wrapped).parameters:
        kwargs = {name: value for name, value in kwargs.items() if name != "verify"}
    return wrapped(*args, **kwargs)


PATCHES = (
    Patch(
        name="yapf.format_code",
        edits=(Wrap("yapf.yapflib.yapf_api:FormatCode", _without_verify),),
        requires=("yapf>=0.40.2",),
    ),
)
