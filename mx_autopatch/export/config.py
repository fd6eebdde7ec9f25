"""The config to export: read by mmengine, merged, and each ``type`` in it led to its source."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mx_autopatch.errors import AutopatchError
from mx_autopatch.export.closure import Symbol
from mx_autopatch.registries.resolve import resolve
from mx_autopatch.registries.search import Registered
from mx_autopatch.registries.sources import Sources
from mx_autopatch.registries.static import Entry, Model

__all__ = ["ExportError", "Types", "load", "locate", "of_model"]


class ExportError(AutopatchError):
    """A config that cannot be exported; the message names it, the key and the remedy."""


def locate(config: str) -> Path:
    """The file of a config: a path, or ``package::path`` in the package's own configs.

    Raises:
        ExportError: there is no such package, or no such file in it.
    """
    package, colons, inner = config.partition("::")
    if not colons:
        path = Path(config)
        if not path.is_file():
            raise ExportError(f"{config}: no such file; a config of a package is PACKAGE::PATH")
        return path
    source = Sources().get(package)
    if source is None:
        raise ExportError(f"{config}: {package!r} is not installed")
    # An editable installation keeps them beside the package, a wheel inside of it.
    folders = (source.path.parent / ".mim" / "configs", source.path.parents[1] / "configs")
    for folder in folders:
        if (folder / inner).is_file():
            return folder / inner
    raise ExportError(f"{config}: not in {' nor in '.join(map(str, folders))}")


def load(path: Path) -> dict[str, Any]:
    """The config as plain Python values, base configs merged and lazy objects as their names."""
    from mmengine.config import Config

    try:
        config = Config.fromfile(str(path))
        namespace: dict[str, Any] = {}
        # What a file of it would say: the one form in which text and lazy configs agree.
        exec(compile(config.pretty_text, str(path), "exec"), namespace)
    except Exception as error:
        raise ExportError(f"{path}: mmengine cannot read it: {error}") from error
    namespace.pop("__builtins__", None)
    return namespace


#: The keys without which a model is still one.
_MODEL_KEYS = ("model", "default_scope", "custom_imports")


def of_model(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config concerns the model alone."""
    return {key: copy.deepcopy(value) for key, value in config.items() if key in _MODEL_KEYS}


@dataclass
class Types:
    """Leads the types of a config to what is registered.

    Args:
        model: The registries.
        registered: Who registers what, in the packages that may be named.
        scope: The config's default scope.
    """

    model: Model
    registered: Registered
    scope: str

    def find(self, value: str, path: tuple[str, ...]) -> list[Entry | Symbol]:
        """What a ``type`` at a place of the config means; several if only running tells.

        Empty for what no package registers: something that mmengine or mmcv puts in by a
        loop, such as the optimizers of torch.
        """
        scope, dot, name = value.rpartition(".")
        found = self.registered.named(name)
        wanted = scope if dot else self.scope
        own = [entry for entry in found if entry.registry.scope == wanted]
        if not own and dot:
            symbol = self._symbol(value)
            if symbol is not None:
                return [symbol]
        if not own:
            own = [entry for entry in found if entry.registry.parent is None]
        roots = {entry.registry.root.name for entry in own}
        if len(roots) > 1:
            kinds = [_KINDS[key] for key in reversed(path) if key in _KINDS]
            own = [e for e in own if kinds and e.registry.root.name == kinds[0]] or own
        return list(own)

    def _symbol(self, value: str) -> Symbol | None:
        """A dotted path, as lazy configs have it: ``mmdet.models.detectors.RetinaNet``."""
        module, _, name = value.rpartition(".")
        source = self.model.sources.get(module)
        meaning = resolve(self.model.sources, source, name) if source is not None else None
        return Symbol(meaning.module, meaning.name) if meaning and meaning.name else None


#: Keys below which something of one kind stands, where a name is registered as several.
_KINDS = {
    "model": "model",
    "pipeline": "transform",
    "transforms": "transform",
    "dataset": "dataset",
    "sampler": "data sampler",
    "val_evaluator": "metric",
    "test_evaluator": "metric",
    "default_hooks": "hook",
    "custom_hooks": "hook",
    "visualizer": "visualizer",
    "vis_backends": "vis_backend",
    "optimizer": "optimizer",
    "optim_wrapper": "optim_wrapper",
    "param_scheduler": "parameter scheduler",
}


def walk(
    value: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every dict that has a ``type``, with the keys that lead to it."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield path, value
        for key, inner in value.items():
            yield from walk(inner, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from walk(inner, path)


def scope_of(config: Mapping[str, Any], path: Path) -> str:
    """The package whose registries the config means: its default scope."""
    scope = config.get("default_scope")
    if isinstance(scope, str):
        return scope
    # A lazy config names everything by its place.
    for _, each in walk(dict(config)):
        match = re.match(r"(\w+)\.", each["type"])
        if match and match[1] not in ("mmengine", "mmcv", "torch"):
            return match[1]
    raise ExportError(f"{path}: no default_scope, and no type that names a package")
