"""What mmcv 1.x reads of torchvision, for where there is none: its models' addresses.

Contract: ``models.list_models()`` and ``models.get_model_weights(name)``, of which the
classes name each set of weights and its ``url``, as in torchvision 0.28. Nothing else is
here, and asking for it raises an AttributeError that says so.
"""

from __future__ import annotations

from typing import NoReturn

from mx_autopatch.provided.torchvision import models

__all__ = ["models"]

#: The release whose addresses these are; mmcv reads by it how to ask for them.
__version__ = "0.28.0"


def __getattr__(name: str) -> NoReturn:
    raise models.missing(f"torchvision.{name}")
