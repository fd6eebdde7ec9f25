"""The builder of the API 1.0, and the one with the predefined patches in it."""

from __future__ import annotations

from mx_autopatch.patcher import _predefined
from mx_autopatch.patcher._training import Training
from mx_autopatch.patcher.patch import Patch
from mx_autopatch.patcher.patcher import Patcher

__all__ = [
    "LegacyPatchWrapper",
    "LegacyPatcherBuilder",
    "PatcherBuilder",
    "default_patcher_builder",
]


class PatcherBuilder(Training):
    """Collects patches and settings, and builds a :class:`Patcher`. Every method chains."""

    def __init__(self) -> None:
        self.module_patches: dict[str, list[Patch]] = {}
        self.blacklist: set[str] = set()

    def add_module_patch(self, module_name: str, *patches: Patch) -> PatcherBuilder:
        """Add patches for a module, which is the package that they start from.

        Raises:
            TypeError: something that is no Patch.
        """
        for patch in patches:
            if not isinstance(patch, Patch):
                raise TypeError(
                    f"add_module_patch({module_name!r}): expected Patch(function), got {patch!r}"
                )
        of_module = self.module_patches.setdefault(module_name, [])
        of_module.extend(patches)
        of_module.sort(key=lambda patch: patch.priority)
        return self

    def disable_patches(self, *patch_names: str) -> PatcherBuilder:
        """Keep patches off, by the names of their functions."""
        self.blacklist.update(patch_names)
        return self

    def build(self, allow_internal_format: bool = False) -> Patcher:
        """The patcher of what has been collected so far; later additions do not reach it."""
        patcher = Patcher(self.module_patches, self.blacklist, allow_internal_format)
        patcher._profile, patcher._brake = self._profile, self._brake
        return patcher


LegacyPatcherBuilder = PatcherBuilder
LegacyPatchWrapper = Patch


def _with_defaults() -> PatcherBuilder:
    builder = PatcherBuilder()
    for patch in _predefined.DEFAULT:
        builder.add_module_patch(
            patch.target_module, Patch(_predefined.FUNCTIONS[patch.legacy_name])
        )
    return builder


default_patcher_builder = _with_defaults()
