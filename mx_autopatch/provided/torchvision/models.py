"""The addresses of torchvision's classification models, in the way torchvision tells them."""

from __future__ import annotations

import enum
import functools
from typing import Any, NoReturn

from mx_autopatch.provided.torchvision._files import ADDRESS, FILES

__all__ = ["get_model_weights", "list_models"]

_CLASSES = {name.lower(): name for name in FILES}


class _Weights(str, enum.Enum):
    """One set of weights a member; ``DEFAULT`` is another name of the recommended one."""

    @property
    def url(self) -> str:
        """Where the file lies."""
        return ADDRESS + str(self.value)


def list_models(module: Any = None) -> list[str]:
    """The names of the classification models, in order, whatever module is given."""
    return sorted(_CLASSES)


@functools.cache
def get_model_weights(name: str) -> type[enum.Enum]:
    """The class ``<Model>_Weights`` of a model, its members with their ``url``.

    Raises:
        ValueError: there is no such classification model.
    """
    known = _CLASSES.get(name.lower())
    if known is None:
        raise ValueError(f"Unknown model {name}")
    files = FILES[known]
    members = {**files, "DEFAULT": next(iter(files.values()))}
    return _Weights(f"{known}_Weights", members)  # type: ignore[call-overload, no-any-return]


def missing(name: str) -> AttributeError:
    """The error for a part of torchvision that is not here."""
    return AttributeError(
        f"{name} is not there: torchvision is not installed, and in its place mx_autopatch "
        "gives mmcv the addresses of its models only. Install the torchvision that is made "
        "for this torch"
    )


def __getattr__(name: str) -> NoReturn:
    raise missing(f"torchvision.models.{name}")
