"""What went wrong, in words."""

from __future__ import annotations

import os
import traceback

from mx_autopatch.errors import PatchError


def words(error: BaseException) -> str:
    """An error in one line, with the line of a patch file that raised it."""
    if isinstance(error, (PatchError, LookupError)) and error.args:
        return str(error.args[0])
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
