"""The kinds of values: from what was written to a checked, frozen value."""

from __future__ import annotations

import os

from mx_autopatch.engine.config_file import parse_toml
from mx_autopatch.engine.config_keys import FrozenDict, Options, StubRule
from mx_autopatch.engine.config_names import did_you_mean, is_dotted, quoted, seen
from mx_autopatch.engine.config_redirect import drop_cycles, leaves
from mx_autopatch.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mx_autopatch.engine.config_keys import Key

__all__ = ["UNSET", "Reading"]

UNSET = object()  # no usable value: that of the next lower source stands
_PROBES = ("present", "absent")
_DEPTH = 32  # of tables in options; what is deeper is a mistake, or meant for the stack


class Reading:
    """One raw value of one key, on its way to a checked one.

    ``label`` opens each message, and relative paths start at ``base``. There is a
    method a kind, twice: ``_text_KIND`` brings text of the environment into the form
    that TOML has, and ``_KIND`` checks that form. Either may raise ValueError when
    nothing can be used, or complain about a part and leave it out.
    """

    __slots__ = ("base", "key", "label", "problems")

    def __init__(self, key: Key, label: str, base: str, problems: list[str]) -> None:
        self.key = key
        self.label = label
        self.base = base
        self.problems = problems

    def value(self, raw: object, *, text: bool) -> object:
        """The checked value, or UNSET. ``text``: as in the environment, not as in TOML."""
        try:
            if text:
                raw = getattr(self, f"_text_{self.key.kind}")(raw)
            return UNSET if raw is UNSET else getattr(self, f"_{self.key.kind}")(raw)
        except ValueError as exc:
            self.complain(str(exc))
            return UNSET

    def complain(self, message: str) -> None:
        self.problems.append(f"{self.label}: {message}")

    # --- one word -------------------------------------------------------------

    def _text_flag(self, text: str) -> object:
        text = text.strip()
        if not text:
            return UNSET  # an empty variable is how many launchers say "not set"
        words = {"1": True, "true": True, "yes": True, "on": True}
        words.update({"0": False, "false": False, "no": False, "off": False})
        if text.lower() not in words:
            raise ValueError(f"{quoted(text)} is not one of 1, true, yes, on, 0, false, no, off")
        return words[text.lower()]

    def _flag(self, raw: object) -> bool:
        if not isinstance(raw, bool):
            raise ValueError(f"expected true or false; got {seen(raw)}")
        return raw

    def _text_count(self, text: str) -> object:
        text = text.strip()
        if not text:
            return UNSET
        if not (text.isascii() and text.isdecimal() and len(text) < 19):
            raise ValueError(f"{quoted(text)} is not a whole number; write one like 100")
        return int(text)

    def _count(self, raw: object, least: int = 0) -> int | None:
        if raw == "" and self.key.default is None:
            return None
        if type(raw) is not int or raw < least:
            raise ValueError(f"expected a whole number, {least} or more; got {seen(raw)}")
        if self.key.choices and str(raw) not in self.key.choices:
            raise ValueError(f"{raw} is not one of {', '.join(self.key.choices)}")
        return raw

    def _text_positive(self, text: str) -> object:
        return self._text_count(text)

    def _positive(self, raw: object) -> int | None:
        return self._count(raw, least=1)

    def _text_choice(self, text: str) -> object:
        return text.strip() or UNSET

    def _choice(self, raw: object) -> str:
        choices = ", ".join(self.key.choices)
        if not isinstance(raw, str):
            raise ValueError(f"expected one of {choices}; got {seen(raw)}")
        if raw not in self.key.choices:
            hint = did_you_mean(raw, self.key.choices)
            raise ValueError(f"{quoted(raw)} is not one of {choices}{hint}")
        return raw

    def _text_version(self, text: str) -> object:
        return text

    def _version(self, raw: object) -> str | None:
        if not isinstance(raw, str):
            hint = f'; write "{raw}"' if type(raw) in (int, float) else ""
            raise ValueError(f"expected a version in quotes; got {seen(raw)}{hint}")
        if not raw:
            return None
        try:
            from packaging.version import InvalidVersion, Version
        except ImportError:
            raise ValueError(
                f"{quoted(raw)} cannot be checked without packaging; pip install packaging"
            ) from None
        try:
            Version(raw)
        except InvalidVersion:
            raise ValueError(f"{quoted(raw)} is not a version; write one like '2.1.0'") from None
        return raw

    def _text_path(self, text: str) -> object:
        return text

    def _path(self, raw: object) -> str | None:
        if not isinstance(raw, str):
            raise ValueError(f"expected a path; got {seen(raw)}")
        rest = raw.replace("{pid}", "").replace("{rank}", "")
        if "{" in rest or "}" in rest:
            raise ValueError(f"{quoted(raw)}: only {{pid}} and {{rank}} may stand in braces")
        return raw or None

    # --- lists ----------------------------------------------------------------

    def _strings(self, raw: object, what: str) -> Iterator[str]:
        """The elements that are strings with something in them."""
        if not isinstance(raw, (list, tuple)):
            hint = f"; write [{quoted(raw)}]" if isinstance(raw, str) and raw else ""
            raise ValueError(f"expected a list of {what}s; got {seen(raw)}{hint}")
        for item in raw:
            if isinstance(item, str) and item.strip():
                yield item
            else:
                self.complain(f"expected a {what}; got {seen(item)}")

    def _text_names(self, text: str) -> object:
        return _split(text, ",")

    def _names(self, raw: object) -> tuple[str, ...]:
        return tuple(self._strings(raw, "patch name"))

    def _text_files(self, text: str) -> object:
        return _split(text, os.pathsep)

    def _files(self, raw: object) -> tuple[str, ...]:
        return tuple(map(self._absolute, self._strings(raw, "path")))

    def _absolute(self, path: str) -> str:
        path = os.path.join(self.base, os.path.expanduser(path))
        if not os.path.isabs(path):
            raise ValueError(f"{quoted(path)}: the working directory is gone; write a full path")
        return os.path.normpath(path)

    def _text_modules(self, text: str) -> object:
        return _split(text, ",")

    def _modules(self, raw: object) -> tuple[str, ...]:
        return tuple(name for name in self._strings(raw, "module name") if self._is_module(name))

    def _is_module(self, name: str) -> bool:
        if not is_dotted(name):
            self.complain(f"{quoted(name)} is not a module name; write one like 'package.module'")
        return is_dotted(name)

    # --- modules.stub ---------------------------------------------------------

    def _text_stubs(self, text: str) -> object:
        pairs = (item.partition("=") for item in _split(text, ","))
        return [
            {"name": name.strip(), "probes": probes.strip()} if equals else name
            for name, equals, probes in pairs
        ]

    def _stubs(self, raw: object) -> tuple[StubRule, ...]:
        if not isinstance(raw, (list, tuple)):
            raise ValueError(f"expected a list of module names or tables; got {seen(raw)}")
        rules: dict[str, StubRule] = {}
        for item in raw:
            rule = self._stub(item)
            if rule is not None and rules.setdefault(rule.name, rule) != rule:
                self.complain(f"{rule.name!r} is listed as present and as absent; keep one")
        return tuple(rules.values())

    def _stub(self, item: object) -> StubRule | None:
        fields = {"name": item} if isinstance(item, str) else item
        if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
            self.complain(f"expected a module name or {{name = ...}}; got {seen(item)}")
            return None
        name, probes = fields["name"], fields.get("probes", "present")
        for field in (field for field in fields if field not in ("name", "probes")):
            hint = did_you_mean(field, ("name", "probes"))
            self.complain(f"{quoted(name)}: unknown field {quoted(field)}{hint}")
        if not self._is_module(name):
            return None
        if probes not in _PROBES:
            shown = quoted(probes) if isinstance(probes, str) else seen(probes)
            self.complain(f"{name!r}: probes is {shown}, not one of present, absent")
            return None
        return StubRule(name, probes)

    # --- modules.redirect -----------------------------------------------------

    def _text_redirects(self, text: str) -> object:
        table: dict[str, str] = {}
        for item in _split(text, ","):
            old, equals, new = (part.strip() for part in item.partition("="))
            if not equals:
                self.complain(f"{quoted(item)} is not old=new")
            elif table.setdefault(old, new) != new:
                self._doubled(old)
        return table

    def _redirects(self, raw: object) -> Mapping[str, str]:
        if not isinstance(raw, dict):
            raise ValueError(f'expected a table "old" = "new"; got {seen(raw)}')
        table: dict[str, str] = {}
        for old, new in leaves(raw):
            if not isinstance(new, str):
                self.complain(f"{quoted(old)}: expected a module name; got {seen(new)}")
            elif not (self._is_module(old) and self._is_module(new)):
                continue
            elif table.setdefault(old, new) != new:
                self._doubled(old)
        for message in drop_cycles(table):
            self.complain(message)
        return FrozenDict(table)

    def _doubled(self, old: str) -> None:
        self.complain(f"{quoted(old)} is redirected to two modules; keep one")

    # --- patches.options ------------------------------------------------------

    def _text_options(self, text: str) -> object:
        if not text:
            return {}
        try:
            document = parse_toml(f"value = {text}".encode("utf-8", "surrogateescape"))
        except ConfigError as exc:
            raise ValueError(f"{exc}; write {{name = {{key = value}}}}") from None
        if len(document) > 1:
            raise ValueError("expected one inline table")
        return document["value"]

    def _options(self, raw: object) -> Options:
        if not isinstance(raw, dict):
            raise ValueError(f"expected a table of tables; got {seen(raw)}")
        tables: dict[str, object] = {}
        for name, value in raw.items():
            if isinstance(value, dict):
                tables[name] = _frozen(value)
            else:
                self.complain(f"{quoted(name)}: expected a table of options; got {seen(value)}")
        return Options(FrozenDict(tables))


def _split(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]


def _frozen(value: object, depth: int = 0) -> object:
    if depth > _DEPTH:
        raise ValueError("tables are nested too deeply")
    if isinstance(value, dict):
        return FrozenDict({name: _frozen(item, depth + 1) for name, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item, depth + 1) for item in value)
    return value
