"""The whole examination: of a script, of packages, or of all that is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mx_autopatch.doctor.diagnosis import FAILS, FIXED, OK, Diagnosis
from mx_autopatch.doctor.probe import attempt
from mx_autopatch.doctor.symptoms import recognise
from mx_autopatch.registries.packages import with_registries
from mx_autopatch.registries.search import is_importable
from mx_autopatch.registries.sources import Source, Sources
from mx_autopatch.registries.static import Model

__all__ = ["imports_of", "package_health", "packages_here", "script_health"]


def packages_here() -> list[str]:
    """The installed packages that have registries of their own, or register in others."""
    sources = Sources()
    return [
        package
        for package in with_registries()
        if any("register_module" in source.text for source in sources.of(package))
    ]


def imports_of(script: Path) -> tuple[list[str], dict[str, str]]:
    """What a script imports from outside its own folder.

    Returns the top-level packages, and for each of those that is not importable the file
    that imports it.

    Raises:
        SyntaxError: the script is no Python that this interpreter knows.
        OSError: it cannot be read.
    """
    sources = Sources()
    own = {source.name: source for source in sources.project(script.parent)}
    compile(script.read_bytes(), str(script), "exec", dont_inherit=True)
    waiting, seen = [Source("__main__", script)], set()
    found: dict[str, str] = {}
    while waiting:
        source = waiting.pop()
        for name in source.required:
            steps = name.split(".")
            nearest = (".".join(steps[:end]) for end in range(len(steps), 0, -1))
            mine = next((own[each] for each in nearest if each in own), None)
            if mine is None:
                found.setdefault(steps[0], str(source.path))
            elif mine.name not in seen:
                seen.add(mine.name)
                waiting.append(mine)
    missing = {name: file for name, file in found.items() if not is_importable(name)}
    return sorted(found), missing


def script_health(script: Path, settings: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Whether all that a script imports, and registers models with, can be imported."""
    packages, missing = imports_of(script)
    for name, file in missing.items():
        symptom = recognise(f"No module named '{name}'")
        yield Diagnosis(name, FAILS, f"{file} imports it; {symptom.cause}", symptom.remedy)
    known = [name for name in with_registries() if name in packages]
    others = [name for name in packages if name not in missing and name not in known]
    yield from package_health([*known, *_foreign(others)], settings)


def _foreign(names: Sequence[str]) -> list[str]:
    """Those that come compiled, or import what does: the ones that can be of a wrong build."""
    return [name for name in names if name in ("torch", "torchvision", "torch_npu", "cv2")]


def package_health(packages: Sequence[str], settings: Mapping[str, str]) -> Iterator[Diagnosis]:
    """What becomes of importing each package and what its registries import, with us and without.

    Each takes one process without mx_autopatch and, if anything fails in it, one with it.
    What is imported once a name is looked up is part of it, since a run does that.
    """
    model = Model()
    modules = {package: _modules(model, package) for package in packages}

    def examine(package: str) -> list[Diagnosis]:
        return list(_verdicts(package, modules[package], settings))

    with ThreadPoolExecutor() as pool:
        for verdicts in pool.map(examine, packages):
            yield from verdicts


def _verdicts(
    package: str, modules: Sequence[str], settings: Mapping[str, str]
) -> Iterator[Diagnosis]:
    bare = attempt(modules, active=False, settings=settings)
    listed = ", ".join(modules)
    if not bare.errors:
        yield Diagnosis(package, OK, f"imports: {listed}")
        return
    patched = attempt(modules, active=True, settings=settings)
    for module, error in patched.errors.items():
        symptom = recognise(error)
        remedy = symptom.remedy or f"the patch {symptom.patch} should fix it: is it on?"
        yield Diagnosis(package, FAILS, f"import {module}: {symptom.cause}", remedy)
    told = set()
    for module, error in bare.errors.items():
        if module in patched.errors or error in told:
            continue
        told.add(error)
        symptom = recognise(error)
        by = symptom.patch or ", ".join(patched.applied)
        yield Diagnosis(package, FIXED, f"import {module}: {symptom.cause}", by)


def _modules(model: Model, package: str) -> list[str]:
    """The package, and what its registries import before they look a name up."""
    modules = {package: None}
    for _, registry, _ in model.names(model.sources.of(package)):
        if registry.place.partition(".")[0] == package:
            modules.update(dict.fromkeys(registry.locations))
    if package == "mmcv":
        modules["mmcv.ops"] = None  # imported by nothing else of its own
    return [name for name in modules if name == package or model.sources.get(name) is not None]
