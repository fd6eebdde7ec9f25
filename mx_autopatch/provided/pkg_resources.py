"""Distributions, requirements and resources, as pkg_resources names them.

Contract: the API reference in setuptools' documentation of pkg_resources. What it says
of eggs, multi-version installs and namespace declarations has no counterpart here;
such a name raises AttributeError.
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterable, Iterator
from typing import Any

import importlib_metadata as _metadata
import packaging
import packaging.version
from packaging.requirements import InvalidRequirement as RequirementParseError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = [
    "Distribution",
    "DistributionNotFound",
    "Requirement",
    "RequirementParseError",
    "ResolutionError",
    "VersionConflict",
    "WorkingSet",
    "get_distribution",
    "iter_entry_points",
    "packaging",
    "parse_requirements",
    "parse_version",
    "require",
    "resource_exists",
    "resource_filename",
    "resource_isdir",
    "resource_listdir",
    "resource_stream",
    "resource_string",
    "safe_name",
    "working_set",
]


class ResolutionError(Exception):
    """Base of what can be wrong with a requirement."""


class DistributionNotFound(ResolutionError):
    """A requested distribution is not installed; the arguments are it and who asked."""

    def __str__(self) -> str:
        return f"The distribution {str(self.args[0])!r} is not installed"


class VersionConflict(ResolutionError):
    """An installed distribution does not satisfy a requirement; the arguments are both."""

    def __str__(self) -> str:
        return f"{self.args[0]} is installed, {self.args[1]} is required"


class Distribution:
    """An installed distribution."""

    def __init__(self, metadata: Any) -> None:
        self._metadata = metadata
        self.project_name: str = metadata.metadata["Name"]
        self.key = canonicalize_name(self.project_name)
        self.version: str = metadata.version
        self.location = os.path.normpath(str(metadata.locate_file("")))

    @property
    def parsed_version(self) -> packaging.version.Version:
        return parse_version(self.version)

    def as_requirement(self) -> Requirement:
        return Requirement(f"{self.project_name}=={self.version}")

    def has_metadata(self, name: str) -> bool:
        return self._metadata.read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        """The text of a metadata file.

        Raises:
            FileNotFoundError: the distribution has no such file.
        """
        text: str | None = self._metadata.read_text(name)
        if text is None:
            raise FileNotFoundError(f"{self} has no metadata file {name!r}")
        return text

    def get_metadata_lines(self, name: str) -> Iterator[str]:
        lines = (line.strip() for line in self.get_metadata(name).splitlines())
        return (line for line in lines if line and not line.startswith("#"))

    def requires(self, extras: Iterable[str] = ()) -> list[Requirement]:
        """The requirements that apply here, with those of ``extras``."""
        wanted = [Requirement(text) for text in self._metadata.requires or ()]
        environments = [{"extra": extra} for extra in ("", *extras)]
        return [
            requirement
            for requirement in wanted
            if requirement.marker is None
            or any(requirement.marker.evaluate(environment) for environment in environments)
        ]

    def __str__(self) -> str:
        return f"{self.project_name} {self.version}"

    def __repr__(self) -> str:
        return f"{self} ({self.location})"


class WorkingSet:
    """The installed distributions, the first of each name that is on the path."""

    def __iter__(self) -> Iterator[Distribution]:
        return iter(self.by_key.values())

    @property
    def by_key(self) -> dict[str, Distribution]:
        found: dict[str, Distribution] = {}
        for metadata in _metadata.distributions():
            if metadata.metadata["Name"]:
                distribution = Distribution(metadata)
                found.setdefault(distribution.key, distribution)
        return found

    def find(self, requirement: Requirement) -> Distribution | None:
        """The distribution of that name, None if there is none.

        Raises:
            VersionConflict: it is there in another version.
        """
        try:
            distribution = Distribution(_metadata.distribution(requirement.name))
        except _metadata.PackageNotFoundError:
            return None
        if not requirement.specifier.contains(distribution.version, prereleases=True):
            raise VersionConflict(distribution, requirement)
        return distribution

    def require(self, *requirements: Any) -> list[Distribution]:
        """The distributions that satisfy ``requirements``, and what those require in turn."""
        found: dict[str, Distribution] = {}
        waiting = [(wanted, None) for wanted in parse_requirements(requirements)]
        while waiting:
            wanted, by = waiting.pop(0)
            distribution = self.find(wanted)
            if distribution is None:
                raise DistributionNotFound(wanted, by)
            if distribution.key not in found:
                found[distribution.key] = distribution
                waiting += [(r, distribution) for r in distribution.requires(wanted.extras)]  # type: ignore[misc]
        return list(found.values())

    def iter_entry_points(self, group: str, name: str | None = None) -> Iterator[Any]:
        for entry_point in _metadata.entry_points(group=group):
            if name is None or entry_point.name == name:
                yield entry_point


working_set = WorkingSet()
require = working_set.require
iter_entry_points = working_set.iter_entry_points


def get_distribution(dist: Any) -> Distribution:
    """The installed distribution that a name or requirement names.

    Raises:
        DistributionNotFound: it is not installed.
        VersionConflict: it is, in another version.
    """
    if isinstance(dist, Distribution):
        return dist
    (requirement,) = parse_requirements(dist)
    found = working_set.find(requirement)
    if found is None:
        raise DistributionNotFound(requirement, None)
    return found


def parse_version(version: str) -> packaging.version.Version:
    """The version as an object that compares.

    Raises:
        packaging.version.InvalidVersion: it does not follow PEP 440.
    """
    return packaging.version.parse(version)


def parse_requirements(strs: Any) -> Iterator[Requirement]:
    """Requirements, from a text of lines, a Requirement, or an iterable of these."""
    if isinstance(strs, Requirement):
        yield strs
    elif isinstance(strs, str):
        for line in strs.splitlines():
            text = line.partition(" #")[0].strip()
            if text and not text.startswith("#"):
                yield Requirement(text)
    else:
        for item in strs:
            yield from parse_requirements(item)


def safe_name(name: str) -> str:
    """``name`` with every run of other characters than letters, digits and ``.-`` as ``-``."""
    import re

    return re.sub("[^A-Za-z0-9.]+", "-", name)


def _resource(package: Any, name: str) -> str:
    if isinstance(package, Requirement):
        return os.path.join(get_distribution(package).location, *name.split("/"))
    module = importlib.import_module(package)
    if getattr(module, "__file__", None) is None:
        raise NotImplementedError(f"{package} has no file, so {name!r} cannot lie beside it")
    return os.path.join(os.path.dirname(str(module.__file__)), *name.split("/"))


def resource_filename(package_or_requirement: Any, resource_name: str) -> str:
    """The path of a file beside a package."""
    return _resource(package_or_requirement, resource_name)


def resource_exists(package_or_requirement: Any, resource_name: str) -> bool:
    return os.path.exists(_resource(package_or_requirement, resource_name))


def resource_isdir(package_or_requirement: Any, resource_name: str) -> bool:
    return os.path.isdir(_resource(package_or_requirement, resource_name))


def resource_listdir(package_or_requirement: Any, resource_name: str) -> list[str]:
    return os.listdir(_resource(package_or_requirement, resource_name))


def resource_string(package_or_requirement: Any, resource_name: str) -> bytes:
    with open(_resource(package_or_requirement, resource_name), "rb") as file:
        return file.read()


def resource_stream(package_or_requirement: Any, resource_name: str) -> io.BytesIO:
    return io.BytesIO(resource_string(package_or_requirement, resource_name))


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"the pkg_resources that mx_autopatch provides has no {name!r}; "
        "install setuptools<81 for the real one"
    )
