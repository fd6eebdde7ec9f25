"""Patches as the session sees them: known by name and trigger before they are loaded."""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mx_autopatch.engine.catalog import Catalog
    from mx_autopatch.engine.config_keys import Options
    from mx_autopatch.model import Patch

    #: name -> (patch file, triggers, on by default)
    Index = Mapping[str, tuple[str, tuple[str, ...], bool]]


class PatchEntry:
    """A patch that may not have been loaded yet.

    Attributes:
        file: The module that defines the patch; its import is put off until needed.
        triggers: The modules that fire the patch.
        default: Whether it is on without being asked for.
    """

    def __init__(
        self,
        name: str,
        file: str,
        triggers: tuple[str, ...],
        default: bool,
        patch: Patch | None = None,
        order: int = 1,
    ) -> None:
        self.name, self.file, self.triggers, self.default = name, file, triggers, default
        #: 0 for the user's own patches, 1 for built-in ones: the user's come first.
        self.order = order
        self._patch = patch

    @classmethod
    def of(cls, patch: Patch) -> PatchEntry:
        """The entry of a patch that is there already."""
        return cls(patch.name, "", patch.triggers, patch.default, patch, order=0)

    def load(self) -> Patch:
        """The patch itself; imports its file if need be."""
        if self._patch is None:
            offered: Iterable[Patch] = import_module(self.file).PATCHES
            found = [patch for patch in offered if patch.name == self.name]
            if not found:
                raise LookupError(f"{self.file} offers no patch {self.name!r}")
            self._patch = found[0]
        return self._patch

    @property
    def key(self) -> tuple[int, int, str]:
        """The order in which patches of one trigger apply. Loads the patch."""
        return (self.load().priority, self.order, self.name)

    def documentation(self) -> str:
        """Why and how: the patch's own text, else its file's docstring."""
        patch = self.load()
        return patch.doc or (sys.modules[self.file].__doc__ or "" if self.file else "")


def indexed(index: Index) -> Iterator[PatchEntry]:
    """The entries of a static index; imports no patch file."""
    for name, (file, triggers, default) in index.items():
        yield PatchEntry(name, file, triggers, default)


def made_from(catalog: Catalog, name: str, options: Options) -> list[PatchEntry]:
    """The patches behind one entry of a catalog.

    A function or class is built first, with the configuration's options of its own
    name, and makes one patch or several.
    """
    obj = catalog.get(name)
    if isinstance(obj, PatchEntry):
        return [obj]
    from mx_autopatch.model import Patch

    made = obj
    if not isinstance(obj, Patch):
        made = catalog.build({"type": name, **options.get(name, {})})
    patches = made if isinstance(made, (tuple, list)) else (made,)
    for patch in patches:
        if not isinstance(patch, Patch):
            raise TypeError(f"{name} ({catalog.place(name)}) made {patch!r}, not a Patch")
    return [PatchEntry.of(patch) for patch in patches]
