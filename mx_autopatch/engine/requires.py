"""Whether a patch's requirements hold in this process."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable
from typing import Any, Callable

from mx_autopatch.model import Requirement

#: ``name>=version``, which most requirements are. packaging.requirements takes 25 modules
#: and five times as long as packaging.version, which mmengine imports anyway.
_AT_LEAST = re.compile(r"(?P<name>[\w.-]+) *>= *(?P<version>\d[\w.]*)\Z")

#: Prefix of a capability -> function of what follows it, True or why not.
Capability = Callable[[str], "bool | str"]


class Requirements:
    """Decides requirements.

    Args:
        capabilities: Beyond ``module:``, which is built in; the engine itself knows
            no device, so ``device:`` is handed in.
        true_version: ``module name -> version or None`` for modules that are loaded,
            whatever they pretend to be at the moment.
    """

    def __init__(
        self,
        capabilities: dict[str, Capability],
        true_version: Callable[[str], str | None],
    ) -> None:
        self._capabilities = {"module": _module, **capabilities}
        self._true_version = true_version

    def unmet(self, requirements: Iterable[Requirement]) -> str:
        """Why the first requirement that fails does not hold; empty if all do."""
        for requirement in requirements:
            verdict = self._decide(requirement)
            if verdict is not True:
                return verdict or f"requires {_name(requirement)}"
        return ""

    def _decide(self, requirement: Requirement) -> Any:
        if callable(requirement):
            return requirement()
        kind, colon, argument = requirement.partition(":")
        if colon:
            decide = self._capabilities.get(kind)
            if decide is None:
                return f"requires {requirement}: unknown capability {kind!r}"
            return decide(argument)
        return self._version(requirement)

    def _version(self, requirement: str) -> bool | str:
        try:
            name, admits = _condition(requirement)
        except ValueError as error:  # packaging's exceptions are ValueErrors
            return f"requires {requirement!r}: {error}"
        if name == "python":
            found: str | None = ".".join(map(str, sys.version_info[:3]))
        else:
            found = self.version(name)
        if found is None:
            return f"requires {requirement}: not installed"
        try:
            return admits(found) or f"requires {requirement}, found {found}"
        except ValueError:
            return f"requires {requirement}, found {found!r}, which is no version"

    def version(self, name: str) -> str | None:
        """The version of the importable package or distribution ``name``.

        A loaded module knows its own; asking it costs nothing, reading metadata does.
        """
        return self._true_version(name) or installed(name) or _by_import_name(name)


def _condition(requirement: str) -> tuple[str, Callable[[str], bool]]:
    """The name in a version requirement, and whether a version satisfies it."""
    plain = _AT_LEAST.match(requirement)
    if plain is not None:
        from packaging.version import Version

        least = Version(plain["version"])
        return plain["name"], lambda found: Version(found) >= least
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    return wanted.name, lambda found: wanted.specifier.contains(found, prereleases=True)


@functools.cache
def installed(distribution: str) -> str | None:
    """The version of an installed distribution, None if there is none."""
    # The standard library's reader, which torch and mmengine load as well.
    from importlib import metadata

    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
    return version


@functools.cache
def _by_import_name(name: str) -> str | None:
    # mmcv may come from mmcv, mmcv-full or mmcv-lite; only the files know. This reads
    # every distribution's list of files, hence last.
    import importlib_metadata

    distributions = importlib_metadata.packages_distributions().get(name, [])
    return installed(distributions[0]) if distributions else None


def _module(name: str) -> bool | str:
    from importlib.util import find_spec

    module = sys.modules.get(name)
    if name in sys.modules and not getattr(module, "__dict__", {}).get("_mx_autopatch_parent_only"):
        return module is not None or f"requires the module {name}"
    if module is not None:
        return f"requires the module {name}, which is not installed"
    try:
        found = find_spec(name) is not None
    except (ImportError, ValueError) as error:
        return f"requires the module {name}: {error}"
    return found or f"requires the module {name}, which is not importable"


def _name(requirement: Requirement) -> str:
    return requirement if isinstance(requirement, str) else getattr(requirement, "__name__", "?")
