"""Laws of the configuration, on random ones."""

from __future__ import annotations

import os
import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mx_autopatch.engine.config import KEYS, StubRule, check_names, load

BY_NAME = {key.name: key for key in KEYS}

# --- values, as TOML has them ---------------------------------------------------------

letters = st.text(string.ascii_lowercase, min_size=1, max_size=6)
dotted = st.lists(letters, min_size=1, max_size=3).map(".".join)
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
names = st.lists(st.one_of(dotted, dotted.map(lambda name: f"{name}.*")), max_size=4)
scalars = st.one_of(text, st.booleans(), st.integers(-(2**63), 2**63 - 1))
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=8,
)
tables = st.dictionaries(text, trees, max_size=3)
stubs = st.dictionaries(dotted, st.sampled_from([None, "present", "absent"]), max_size=3).map(
    lambda rules: [
        {"name": name, "probes": probes} if probes else name for name, probes in rules.items()
    ]
)
paths = st.text(string.ascii_letters + "-. ", min_size=1, max_size=8).filter(str.strip)

counts = st.integers(0, 10**6)

VALID = {
    "strict": st.booleans(),
    "device": st.sampled_from(BY_NAME["device"].choices),
    "brake": counts,
    "patches.enable": names,
    "patches.disable": names,
    "patches.only": names,
    "patches.options": st.dictionaries(dotted, tables, max_size=3),
    "modules.stub": stubs,
    # From lower to upper case: no cycles.
    "modules.redirect": st.dictionaries(dotted, dotted.map(str.upper), max_size=3),
    "mmcv.version": st.sampled_from(["", "1.7.2", "2.1.0rc1", "2.0.0+cpu"]),
    "profile.path": paths,
    "profile.level": st.integers(0, 2),
    "profile.wait": counts,
    "profile.warmup": counts,
    "profile.active": counts.map(lambda count: count + 1),
    "profile.repeat": counts,
    "profile.skip_first": counts,
    "profile.with_memory": st.booleans(),
    "profile.export": st.sampled_from(BY_NAME["profile.export"].choices),
    "plugins.files": st.lists(paths, max_size=3),
    "plugins.modules": st.lists(dotted, max_size=3),
    "report.path": st.lists(st.sampled_from(["{pid}", "{rank}", "a", "/"])).map("".join),
    "report.level": st.sampled_from(BY_NAME["report.level"].choices),
}
layers = st.fixed_dictionaries({}, optional=VALID)


def test_every_key_has_a_strategy():
    assert set(VALID) == set(BY_NAME)


def frozen(value):
    """Lists as tuples; equality does not tell a frozen table from a dict."""
    if isinstance(value, dict):
        return {name: frozen(item) for name, item in value.items()}
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def expected(name, raw, folder):
    if name == "modules.stub":
        return tuple(StubRule(item) if isinstance(item, str) else StubRule(**item) for item in raw)
    if name == "plugins.files":
        return tuple(os.path.normpath(os.path.join(folder, path)) for path in raw)
    if name in ("mmcv.version", "report.path"):
        return raw or None
    return frozen(raw)


def value_of(config, name):
    value = getattr(config, BY_NAME[name].attribute)
    return value.tables if name == "patches.options" else value


# --- a tiny TOML writer ---------------------------------------------------------------


def toml_string(value):
    return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'


def toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return toml_string(value)
    if isinstance(value, dict):
        pairs = (f"{toml_string(name)} = {toml(item)}" for name, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value)


def write(folder, layer, section=""):
    lines = [f"[{section}]"] if section else []
    lines += [f"{name} = {toml(raw)}" for name, raw in layer.items()]
    path = folder / ("pyproject.toml" if section else "autopatch.toml")
    path.write_text("\n".join(lines), encoding="ascii")
    return str(path)


def variables(layer):
    """What of a layer can be said in the environment, in the canonical spelling."""
    environ = {}
    for name, raw in layer.items():
        if name == "patches.options":
            said = toml(raw)
        elif name == "modules.stub":
            items = (
                item if isinstance(item, str) else f"{item['name']}={item['probes']}"
                for item in raw
            )
            said = ",".join(items)
        elif name == "modules.redirect":
            said = ",".join(f"{old}={new}" for old, new in raw.items())
        elif name == "plugins.files":
            said = os.pathsep.join(raw)
        elif isinstance(raw, list):
            said = ",".join(raw)
        else:
            said = str(raw)
        environ[BY_NAME[name].variables[0]] = said
    return environ


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name).resolve()


def run(folder, environ=(), **arguments):
    environ = {"HOME": str(folder / "home"), **dict(environ)}
    return load(environ=environ, script="", cwd=str(folder), **arguments)


@settings(max_examples=150, deadline=None)
@given(layer=layers, section=st.sampled_from(["", "tool.mx_autopatch"]))
def test_what_was_written_is_read(folder, layer, section):
    path = write(folder, layer, section)
    try:
        config = run(folder, trust_discovered=True)
    finally:
        os.unlink(path)
    assert config.problems == ()
    for name, key in BY_NAME.items():
        if name in layer:
            assert value_of(config, name) == expected(name, layer[name], str(folder))
            assert config.sources[name] == path
        else:
            assert getattr(config, key.attribute) == key.default
            assert config.sources[name] == "default"


def stripped(layer):
    """Without what the environment cannot say: spaces round an element of a list."""
    return {
        **layer,
        **({"plugins.files": [p.strip() for p in layer["plugins.files"]]}
           if "plugins.files" in layer else {}),
    }  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(file=layers, environment=layers, options=layers)
def test_the_highest_source_that_says_something_wins(folder, file, environment, options):
    environment = stripped(environment)
    path = write(folder, file)
    try:
        config = run(folder, variables(environment), overrides=options, trust_discovered=True)
    finally:
        os.unlink(path)
    assert config.problems == ()
    for name, key in BY_NAME.items():
        if name in options:
            wanted, source = options[name], f"command line {key.option or name}"
        elif name in environment:
            wanted, source = environment[name], f"environment {key.variables[0]}"
        elif name in file:
            wanted, source = file[name], path
        else:
            assert config.sources[name] == "default"
            continue
        assert value_of(config, name) == expected(name, wanted, str(folder))
        assert config.sources[name] == source


def sound(config):
    """Whatever came in: values of the right kind, and problems that say where."""
    here = (str(config.path), "environment ", "command line ")
    assert all(problem.startswith(here) for problem in config.problems)
    "\n".join(config.problems).encode()  # can be printed
    for key in KEYS:
        if key.default is not None:
            assert isinstance(getattr(config, key.attribute), type(key.default))
        assert isinstance(config.sources[key.name], str)
    check_names(config, ["a.b"])
    assert config.selects("a.b", True) in (True, False)
    repr(config)


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(st.binary(), st.text(alphabet='[]{}=".,\n#ab1', max_size=60).map(str.encode)))
def test_random_bytes_are_a_problem_at_most(folder, data):
    path = folder / "autopatch.toml"
    path.write_bytes(data)
    config = run(folder)
    path.unlink()
    sound(config)
    assert config.path == str(path)


wild = st.recursive(
    st.one_of(scalars, st.floats(allow_nan=False, allow_infinity=False).map(abs)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(dotted, text), inner, max_size=3),
        st.dictionaries(st.sampled_from(["name", "probes"]), inner),
    ),
    max_leaves=6,
)
somewhere = st.one_of(
    st.sampled_from(sorted(BY_NAME)),
    dotted,
    st.sampled_from(sorted(BY_NAME)).map(lambda name: name[:-1]),
)


def set_in(tree, path, value):
    *parents, last = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            return
    tree[last] = value


@settings(max_examples=300, deadline=None)
@given(entries=st.dictionaries(somewhere, st.one_of(wild, *VALID.values()), max_size=6))
def test_random_tables_are_a_problem_at_most(folder, entries):
    tree = {}
    for path, value in entries.items():
        set_in(tree, path, value)
    path = write(folder, {toml_string(name): value for name, value in tree.items()})
    config = run(folder)
    os.unlink(path)
    sound(config)
    assert not any("TOML" in problem for problem in config.problems)


@settings(max_examples=300, deadline=None)
@given(
    environ=st.dictionaries(
        st.one_of(
            st.sampled_from([variable for key in KEYS for variable in key.variables]),
            st.text(max_size=8).map(lambda name: f"MX_AUTOPATCH_{name}"),
        ),
        st.one_of(
            st.text(max_size=20),
            st.text("ab.=,{}[]\"'~/ ", max_size=20),
            st.binary(max_size=8).map(os.fsdecode),
        ),
        max_size=5,
    )
)
def test_random_variables_are_a_problem_at_most(folder, environ):
    sound(run(folder, environ))


@settings(max_examples=200, deadline=None)
@given(
    overrides=st.dictionaries(
        st.one_of(st.sampled_from(sorted(BY_NAME)), text),
        st.one_of(wild, st.none(), st.binary(), st.tuples(dotted), st.text()),
        max_size=4,
    )
)
def test_random_overrides_are_a_problem_at_most(folder, overrides):
    sound(run(folder, overrides=overrides))


@settings(max_examples=300, deadline=None)
@given(links=st.dictionaries(dotted, dotted, max_size=8))
def test_what_is_left_of_redirects_has_no_cycle(folder, links):
    config = run(folder, overrides={"modules.redirect": links})
    for start in config.redirect:
        reached, waiting = set(), [config.redirect[start]]
        while waiting:
            parts = waiting.pop().split(".")
            for name in {".".join(parts[:size]) for size in range(1, len(parts) + 1)} - reached:
                reached.add(name)
                if name in config.redirect:
                    waiting.append(config.redirect[name])
        assert start not in reached
    assert bool(config.problems) == (len(config.redirect) < len(links))


@settings(max_examples=200, deadline=None)
@given(
    enable=names, disable=names, only=names, name=dotted, default=st.booleans(),
)  # fmt: skip
def test_selection(folder, enable, disable, only, name, default):
    def load_with(**lists):
        return run(folder, overrides={f"patches.{key}": value for key, value in lists.items()})

    config = load_with(enable=enable, disable=disable, only=only)
    on = config.selects(name, default)
    assert config.reason(name, default).startswith(f"{name} is {'on' if on else 'off'} ")
    exactly_off = load_with(enable=enable, disable=[*disable, name], only=only)
    assert not exactly_off.selects(name, default)
    if name not in disable:
        assert load_with(enable=[name], disable=disable).selects(name, default)
        assert load_with(enable=enable, disable=disable, only=[name]).selects(name, default)
    if only and on:
        assert load_with(only=only).selects(name, False)
