"""mmcv 1.x without torchvision.

Why: mmcv.runner imports torchvision, to read from it where the weights of ``torchvision://``
     checkpoints lie; without it, or with one built for another torch, neither mmcv.runner nor
     mmcv.cnn, mmcv.ops or any library of models on mmcv 1.x can be imported.
How: while mmcv.runner.checkpoint executes, a module with that table of addresses, of
     torchvision 0.28, answers for the missing one. Nobody else sees it: to everybody who
     asks, torchvision is as missing as before. Any other part raises an error that names it.
Upstream: mmcv.runner.checkpoint, mmcv 1.x.
Remove when: mmcv 1.x is out of use.
"""

from __future__ import annotations

import importlib
import sys
from typing import Callable

from mx_autopatch.model import Before, Context, NotNeeded, Patch

NAME = "torchvision"


def _lend(context: Context) -> tuple[str, Callable[[], None]]:
    """Put our module in torchvision's place until mmcv has read it."""
    try:
        importlib.import_module(NAME)
    except Exception as error:  # built for another torch, it raises RuntimeError
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        raise NotNeeded("torchvision is installed")
    own = importlib.import_module("mx_autopatch.provided.torchvision")
    sys.modules[NAME] = own

    def take_away() -> None:
        if sys.modules.get(NAME) is own:
            del sys.modules[NAME]

    return f"addresses of checkpoints without torchvision ({reason})", take_away


PATCHES = (
    Patch(
        name="mmcv.torchvision_urls",
        edits=(Before("mmcv.runner.checkpoint", _lend),),
        requires=("mmcv<2",),
    ),
)
