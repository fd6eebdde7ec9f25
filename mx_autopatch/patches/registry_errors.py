"""What the patches mmengine.registry_errors and mmcv.registry_errors put in place."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from typing import Any, Callable

from mx_autopatch.model import Context

__all__ = ["explaining", "tolerant"]

_ABSENT = re.compile(r"(?P<key>\S+) is not in the (?:(?P<scope>[^:]+)::)?(?P<name>.+?) registry")


def explaining(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Registry.build and build_from_cfg(cfg, registry), whose KeyError gets an explanation."""
    try:
        return wrapped(*args, **kwargs)
    except KeyError as error:
        registry = instance  # which may be empty, and then false
        if registry is None:
            registry = kwargs.get("registry", args[1] if len(args) > 1 else None)
        said = _ABSENT.match(str(error.args[0])) if error.args else None
        # The builds around a nested one raise the same exception again.
        if said is not None and registry is not None and not _explained(error):
            _add(error, _lines(registry, said))
        raise


def _explained(error: KeyError) -> bool:
    return getattr(error, "_mx_autopatch_explained", False)


def _lines(registry: Any, said: re.Match[str]) -> list[str]:
    from mx_autopatch.registries.explain import absence
    from mx_autopatch.registries.live import registries

    # The look-up may have gone on in the registry of another scope, which the text names.
    named = (one.registry for one in registries() if (one.scope, one.name) == said.group(2, 3))
    try:
        return absence(next(named, registry), said["key"], Path.cwd())
    except Exception as failure:  # the user's error is what counts
        return [f"no explanation, because of {type(failure).__name__}: {failure}"]


def _add(error: KeyError, lines: list[str]) -> None:
    error._mx_autopatch_explained = True  # type: ignore[attr-defined]
    if sys.version_info >= (3, 11):
        for line in lines:
            error.add_note(f"mx_autopatch: {line}")
    else:  # a KeyError shows the repr of its text, so it has to be one line
        error.args = (f"{error.args[0]} [mx_autopatch: {'; '.join(lines)}]", *error.args[1:])


def tolerant(context: Context) -> str:
    """Let the module's Registry take what is registered again, and name both places else."""
    cls, override = context.module.Registry, bool(context.options["override"])
    cls._register_module = _registering(cls._register_module, override)
    return "Registry._register_module" + (", later ones override" if override else "")


def _registering(original: Callable[..., None], override: bool) -> Callable[..., None]:
    @functools.wraps(original)
    def _register_module(
        self: Any, module: Any, module_name: Any = None, force: bool = False
    ) -> None:
        names = (
            [module_name] if module_name is None or isinstance(module_name, str) else module_name
        )
        for name in names:
            try:
                original(self, module=module, module_name=name, force=force)
            except KeyError as error:
                key = name or module.__name__
                there = self._module_dict.get(key)
                if there is None:  # some other KeyError
                    raise
                if not (override or _is_same(there, module)):
                    _add(error, [_both(key, there, module)])
                    raise
                if override or there.__module__ == module.__module__:
                    self._module_dict[key] = module

    return _register_module


def _is_same(one: Any, other: Any) -> bool:
    """Whether two classes or functions were made by the same lines of the same file."""
    return _origin(one) is not None and _origin(one) == _origin(other)


def _origin(obj: Any) -> Any:
    """Name, file, and the line of each function; None where there is no telling."""
    members = {"": obj} if hasattr(obj, "__code__") else vars(obj) if isinstance(obj, type) else {}
    codes = {n: getattr(getattr(m, "__func__", m), "__code__", None) for n, m in members.items()}
    lines = {(n, code.co_filename, code.co_firstlineno) for n, code in codes.items() if code}
    file = getattr(sys.modules.get(getattr(obj, "__module__", "")), "__file__", None)
    return (obj.__qualname__, file, lines) if lines or file else None


def _both(key: str, there: Any, new: Any) -> str:
    from mx_autopatch.registries.live import place_of

    return (
        f"{key!r} is {place_of(there)}; the other one is {place_of(new)}. Give one of them "
        "another name, or force=True; the option override of the patch "
        "registry_errors lets the later one win everywhere"
    )
