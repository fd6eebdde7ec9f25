"""The configuration: one frozen object, with the source of every value.

In rising precedence: default, file (``config_file``), environment, command line. The
value of a higher source replaces that of a lower one as a whole; an empty list on the
command line takes a list of the file back.

Imported at the first import of a third-party module in every enabled process, hence
no imports but those, and what only a file or an error needs is imported where it is
needed.
"""

from __future__ import annotations

import os

from mx_autopatch.engine.config_file import find
from mx_autopatch.engine.config_keys import KEYS, PREFIX, RESERVED, FrozenDict, StubRule
from mx_autopatch.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from mx_autopatch.engine.config_file import Found
    from mx_autopatch.engine.config_keys import Options

    Layer = dict[str, tuple[Any, str]]  # dotted key -> value, source

__all__ = ["KEYS", "Config", "StubRule", "check_names", "load", "template"]

_VARIABLE = f"{PREFIX}_"


class Config:
    """All that can be configured. Cannot be changed; ``sources`` says whence it came."""

    enable: tuple[str, ...]
    disable: tuple[str, ...]
    only: tuple[str, ...]
    options: Options
    strict: bool
    stub: tuple[StubRule, ...]
    redirect: Mapping[str, str]
    device: str
    mmcv_version: str | None
    plugin_files: tuple[str, ...]
    plugin_modules: tuple[str, ...]
    report_path: str | None
    report_level: str
    brake: int | None
    profile_path: str | None
    profile_level: int
    profile_wait: int
    profile_warmup: int
    profile_active: int
    profile_repeat: int
    profile_skip_first: int
    profile_with_memory: bool
    profile_export: str

    #: Dotted key -> ``default``, the path of the file, ``environment MX_AUTOPATCH_DEVICE``
    #: or ``command line --device``.
    sources: Mapping[str, str]
    #: The file, also if it was refused.
    path: str | None
    #: Whether code that the file names may run.
    trusted: bool
    #: One sentence each. What they are about was left out, the rest is in force.
    problems: tuple[str, ...]
    #: The content of plugin files that the trust store vouches for: run this, since the
    #: file may have changed after it was hashed. Empty where trust came from elsewhere.
    plugin_bytes: Mapping[str, bytes]

    __slots__ = (
        *(key.attribute for key in KEYS),
        "sources",
        "path",
        "trusted",
        "problems",
        "plugin_bytes",
    )

    def __init__(
        self,
        values: Mapping[str, object] = FrozenDict({}),
        sources: Mapping[str, str] = FrozenDict({}),
        *,
        path: str | None = None,
        trusted: bool = False,
        problems: Iterable[str] = (),
        plugin_bytes: Mapping[str, bytes] = FrozenDict({}),
    ) -> None:
        """``values`` and ``sources`` go by dotted key; what they lack is the default."""
        put = object.__setattr__
        for key in KEYS:
            put(self, key.attribute, values.get(key.name, key.default))
        named = {key.name: sources.get(key.name, "default") for key in KEYS}
        put(self, "sources", FrozenDict(named))
        put(self, "path", path)
        put(self, "trusted", trusted)
        put(self, "problems", tuple(problems))
        put(self, "plugin_bytes", FrozenDict(dict(plugin_bytes)))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"the configuration is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"the configuration is frozen: cannot delete {name!r}")

    def __repr__(self) -> str:
        """What differs from the defaults."""
        changed = (key for key in KEYS if self.sources[key.name] != "default")
        values = (f"{key.attribute}={getattr(self, key.attribute)!r}" for key in changed)
        return f"Config({', '.join(values)})"

    def changed(self, values: Mapping[str, object], who: str) -> Config:
        """This configuration with other values, of which None is the default's.

        Raises:
            ConfigError: a key or value is not valid; ``who`` gave it.
        """
        from mx_autopatch.engine.config_read import read_overrides

        problems: list[str] = []
        layer = read_overrides(values, _working_directory(), problems, who)
        if problems:
            raise ConfigError("\n".join(problems))
        known = {key.name: getattr(self, key.attribute) for key in KEYS}
        sources = dict(self.sources)
        for name in values:
            known.pop(name, None)
            sources.pop(name, None)
        known.update({name: value for name, (value, _) in layer.items()})
        sources.update({name: source for name, (_, source) in layer.items()})
        return Config(
            known,
            sources,
            path=self.path,
            trusted=self.trusted,
            problems=self.problems,
            plugin_bytes=self.plugin_bytes,
        )

    def configures(self, names: str) -> bool | str:
        """Whether any of these keys, separated by commas, has a value; else why not."""
        wanted = names.split(",")
        if any(key.name in wanted and getattr(self, key.attribute) != key.default for key in KEYS):
            return True
        return f"{' or '.join(wanted)} would have to be set"

    def raise_for_problems(self) -> None:
        """For whoever asked for this configuration, or for strictness."""
        if self.problems:
            raise ConfigError("\n".join(self.problems))

    def selects(self, name: str, default: bool) -> bool:
        """Whether the patch is on. ``default``: whether it is when nobody says anything.

        ``only`` leaves on nothing but what it names. ``disable`` beats ``enable`` and
        ``only``, and all of them beat the default; but an exact name beats a glob.
        """
        return self._decide(name, default)[0]

    def reason(self, name: str, default: bool) -> str:
        """Why ``selects`` says so, in a sentence with the source."""
        on, why = self._decide(name, default)
        return f"{name} is {'on' if on else 'off'} {why}"

    def _decide(self, name: str, default: bool) -> tuple[bool, str]:
        chosen = "patches.only" if self.only else "patches.enable"
        for_it, pattern_for = _match(self.only or self.enable, name)
        against, pattern_against = _match(self.disable, name)
        if against and against >= for_it:
            return False, self._because("patches.disable", f"names {pattern_against!r}")
        if for_it:
            return True, self._because(chosen, f"names {pattern_for!r}")
        if self.only:
            return False, self._because(chosen, "does not name it")
        return default, "by default"

    def _because(self, key: str, does: str) -> str:
        return f"because {key} {does} ({self.sources[key]})"


def _match(patterns: tuple[str, ...], name: str) -> tuple[int, str]:
    """How well the best pattern fits: 2 exactly, 1 as a glob, 0 not at all; and which."""
    if name in patterns:
        return 2, name
    for pattern in patterns:
        if _is_glob(pattern) and _fits(name, pattern):
            return 1, pattern
    return 0, ""


def _is_glob(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern or "[" in pattern


def _fits(name: str, pattern: str) -> bool:
    from fnmatch import fnmatchcase  # imports re

    return fnmatchcase(name, pattern)


def load(
    *,
    environ: Mapping[str, str] = os.environ,
    script: str | None = None,
    cwd: str | None = None,
    explicit: str | None = None,
    overrides: Mapping[str, object] | None = None,
    trust_discovered: bool = False,
) -> Config:
    """The configuration of this process. Bad content never raises: see ``problems``.

    ``script``: where the search for a file starts; None for that of this process
    (``sys.argv[0]``), "" for none. ``explicit``: the file itself (``--config``).
    ``overrides``: dotted key -> value of the command line, as text or as TOML has it;
    None means not given. ``trust_discovered``: the user named us on the command line,
    so code that a file found on the way names may run.
    """
    if cwd is None:
        cwd = _working_directory()
    problems: list[str] = []
    settings: Layer = {}
    trusted = False
    plugin_bytes: dict[str, bytes] = {}
    found = find(environ, script, cwd, explicit, problems)
    if found is not None:
        settings, trusted, plugin_bytes = _from_file(found, environ, trust_discovered, problems)
    variables = [name for name in environ if name.startswith(_VARIABLE) and name not in RESERVED]
    if variables or overrides:
        from mx_autopatch.engine.config_read import read_environment, read_overrides

        settings.update(read_environment(environ, variables, cwd, problems))
        settings.update(read_overrides(overrides or {}, cwd, problems))
    if found is not None and not trusted:
        _drop_plugins(settings, found.path, problems)
    return Config(
        {name: value for name, (value, _) in settings.items()},
        {name: source for name, (_, source) in settings.items()},
        path=None if found is None else found.path,
        trusted=trusted,
        problems=problems,
        plugin_bytes=plugin_bytes,
    )


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return ""


def _from_file(
    found: Found, environ: Mapping[str, str], trust_discovered: bool, problems: list[str]
) -> tuple[Layer, bool, dict[str, bytes]]:
    """What the file says, whether it is trusted, and the plugins read to find that out."""
    from mx_autopatch.engine.config_read import read_file

    settings, wrong = read_file(found)
    trusted = found.explicit or trust_discovered
    plugin_bytes: dict[str, bytes] | None = {}
    if found.unsafe or not trusted:  # being named does not make a file nobody else's
        from mx_autopatch.engine.trust import trusted_plugins

        files = settings["plugins.files"][0] if "plugins.files" in settings else ()
        plugin_bytes = trusted_plugins(found.path, found.data, files, environ=environ)
        trusted = plugin_bytes is not None
    if found.unsafe and not trusted:
        problems.append(found.unsafe)  # and not a word of what it says
        return {}, False, {}
    problems += wrong
    return settings, trusted, plugin_bytes or {}


def _drop_plugins(settings: Layer, path: str, problems: list[str]) -> None:
    """A file that merely lay there must not make us run code."""
    from mx_autopatch.engine.config_names import trust_command

    for key in ("plugins.files", "plugins.modules"):
        value, source = settings.get(key, ((), ""))
        if value and source == path:
            del settings[key]
            problems.append(
                f"{path}: {key}: {', '.join(map(repr, value))} left out: a file that was found,"
                " not named, may name code only while it is trusted and unchanged; read it and"
                f" run {trust_command(path)}"
            )


def check_names(config: Config, known: Iterable[str]) -> tuple[str, ...]:
    """Problems with the patch names of ``config``, once all ``known`` names are known."""
    if not (config.enable or config.disable or config.only or config.options):
        return ()
    from mx_autopatch.engine.config_check import unknown_names

    return tuple(unknown_names(config, known))


def template() -> str:
    """A commented ``autopatch.toml`` with every key at its default."""
    from mx_autopatch.engine import config_template

    return config_template.template()
