"""Provided modules, redirected ones and stubs."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from typing import Any

import pytest

from mx_autopatch import bootstrap
from mx_autopatch.errors import StubError
from mx_autopatch.model import Define, Patch, Provide, Redirect, Wrap

# -- provide -----------------------------------------------------------------------

SOURCE = """
    "What the virtual module says of itself."
    def work(x): return ("virtual", x)
    _private = 1
    def __getattr__(name):
        if name == "lazy": return "lazily"
        raise AttributeError(name)
"""


@pytest.fixture
def pkg(write: Any) -> Any:
    write({"pkg/__init__.py": "", "substitute.py": SOURCE})
    return Patch("pkg.ext", (Provide("pkg._ext", source="substitute"),))


def test_provided_where_there_is_none(pkg: Patch, engine: Any) -> None:
    report = engine(pkg)
    spec = importlib.util.find_spec("pkg._ext")
    assert spec is not None
    assert "substitute" in str(spec.origin)
    assert str(report().outcomes[0].status) == "PENDING"  # looked for is not imported
    module = importlib.import_module("pkg._ext")
    assert (module.work(1), module.lazy, module.__name__) == (("virtual", 1), "lazily", "pkg._ext")
    assert module.__doc__ == "What the virtual module says of itself."
    assert not hasattr(module, "absent")
    assert module is not sys.modules["substitute"]
    assert sys.modules["pkg"]._ext is module
    assert str(report().outcomes[0].status) == "APPLIED"


def test_not_provided_where_the_real_one_is(pkg: Patch, write: Any, engine: Any) -> None:
    write({"pkg/_ext.py": "def work(x): return ('real', x)\n"})
    report = engine(pkg)
    module = importlib.import_module("pkg._ext")
    assert module.work(1) == ("real", 1)
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    (outcome,) = report()
    assert (str(outcome.status), outcome.reason) == ("UNMET", "pkg._ext is installed")


@pytest.mark.parametrize(
    "source",
    ["raise ImportError('undefined symbol: _ZN3c10')\n", "import another_torch_abi\n"],
)
def test_provided_where_the_real_one_does_not_load(
    pkg: Patch, write: Any, engine: Any, source: str
) -> None:
    write({"pkg/_ext.py": source})
    report = engine(pkg)
    module = importlib.import_module("pkg._ext")
    assert module.work(1) == ("virtual", 1)
    (outcome,) = report()
    assert str(outcome.status) == "APPLIED"
    assert outcome.reason.startswith("the installed one does not load: ")


def test_a_broken_extension_module_is_replaced(pkg: Patch, write: Any, engine: Any) -> None:
    from importlib.machinery import EXTENSION_SUFFIXES

    folder = write({})
    (folder / "pkg" / f"_ext{EXTENSION_SUFFIXES[0]}").write_bytes(b"not a library")
    report = engine(pkg)
    assert importlib.import_module("pkg._ext").work(2) == ("virtual", 2)
    assert "does not load" in report().outcomes[0].reason


def test_other_errors_of_the_real_one_are_its_own(pkg: Patch, write: Any, engine: Any) -> None:
    write({"pkg/_ext.py": "raise ValueError('a bug')\n"})
    engine(pkg)
    with pytest.raises(ValueError, match="a bug"):
        importlib.import_module("pkg._ext")


def test_a_provided_module_can_be_patched(pkg: Patch, engine: Any) -> None:
    wrap = Patch("pkg.wrap", (Wrap("pkg._ext:work", lambda w, i, a, k: [w(*a, **k)]),))
    engine(pkg, wrap)
    assert importlib.import_module("pkg._ext").work(1) == [("virtual", 1)]


# -- redirect ----------------------------------------------------------------------


@pytest.fixture
def moved(write: Any) -> None:
    write(
        {
            "new/__init__.py": "X = 1\nclass Thing: pass\n",
            "new/sub.py": "Y = 2\n",
            "old_place/__init__.py": "X = 'old'\n",
        }
    )


def test_redirect_by_configuration_covers_submodules(moved: None, engine: Any) -> None:
    engine(modules__redirect={"gone": "new"})
    spec = importlib.util.find_spec("gone.sub")
    assert spec is not None
    assert spec.origin == "redirected to new.sub"
    import new  # type: ignore[import-not-found]
    from gone import Thing, sub  # type: ignore[import-not-found]

    assert sys.modules["gone"] is new
    assert sub is sys.modules["new.sub"] is importlib.import_module("gone.sub")
    assert new.__name__ == new.__spec__.name == "new"
    assert pickle.loads(pickle.dumps(Thing())).__class__ is new.Thing


def test_redirect_by_configuration_beats_the_real_one(moved: None, engine: Any) -> None:
    engine(modules__redirect={"old_place": "new"})
    assert importlib.import_module("old_place").X == 1


@pytest.mark.parametrize("if_missing", [False, True])
def test_redirect_edit(moved: None, engine: Any, if_missing: bool) -> None:
    edits = (
        Redirect("old_place", "new", if_missing=if_missing),
        Redirect("gone", "new", if_missing=if_missing),
    )
    report = engine(Patch("x.moved", edits))
    assert ("old" if if_missing else 1) == importlib.import_module("old_place").X
    assert importlib.import_module("gone").X == 1
    assert importlib.import_module("gone.sub").Y == 2
    assert [str(o.status) for o in report()] == ["UNMET" if if_missing else "APPLIED", "APPLIED"]


def test_redirect_to_nothing_is_an_import_error_of_the_new_name(engine: Any) -> None:
    engine(modules__redirect={"gone": "nowhere_at_all"})
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        importlib.import_module("gone")


# -- stub --------------------------------------------------------------------------


def test_a_stub_can_be_imported_and_says_what_it_is(engine: Any) -> None:
    engine(modules__stub=["fake_attn"])
    spec = importlib.util.find_spec("fake_attn")
    assert spec is not None
    assert spec.origin is not None
    assert "modules.stub names 'fake_attn'" in spec.origin
    import fake_attn.deep.er as deeper  # type: ignore[import-not-found]
    from fake_attn import attend
    from fake_attn.bert import pad

    assert sys.modules["fake_attn.deep"].er is deeper
    assert repr(attend) == "<stub fake_attn.attend>"
    assert attend is sys.modules["fake_attn"].attend
    assert not isinstance(3, pad)
    assert not hasattr(attend, "__version__")
    assert not hasattr(sys.modules["fake_attn"], "__version__")


USES: list[Any] = [
    ("called", lambda f: f(1, x=2)),
    ("called", lambda f: f.nested.deeper()),
    ("tested for truth", lambda f: bool(f)),
    ("compared", lambda f: f < 1),
    ("iterated over", lambda f: list(f)),
    ("iterated over", lambda f: 1 in f),
    ("indexed", lambda f: f[0]),
    ("used in an expression", lambda f: f + 1),
    ("used in an expression", lambda f: 1 * f),
    ("converted", lambda f: int(f)),
    ("called", lambda f: type("Child", (f,), {})()),
]


@pytest.mark.parametrize(("how", "use"), USES, ids=range(len(USES)))
def test_using_anything_of_it_raises_and_names_the_rule(engine: Any, how: str, use: Any) -> None:
    engine(modules__stub=["fake_attn"])
    function = importlib.import_module("fake_attn").function
    with pytest.raises(StubError) as caught:
        use(function)
    text = str(caught.value)
    assert f"was {how}, but its module is a stub" in text
    assert "fake_attn.function" in text
    assert "command line" in text
    assert "modules.stub names 'fake_attn'; install it, or drop the rule" in text


def test_a_class_may_inherit_from_a_stub(engine: Any) -> None:
    engine(modules__stub=["fake_conv"])
    fake = importlib.import_module("fake_conv")

    class Block(fake.Module):  # type: ignore[name-defined,misc]
        def forward(self) -> int:
            return 1

    assert Block.forward(None) == 1  # type: ignore[arg-type]
    with pytest.raises(StubError, match=r"fake_conv\.Module was called"):
        Block()


PROBE = """
    try:
        import fake_attn
        FOUND = True
    except ImportError:
        FOUND = False
    try:
        from fake_attn.sub import (
            thing,
        )
        FOUND_SUB = True
    except (ImportError, AttributeError):
        FOUND_SUB = False
    try:
        import fake_attn
        FOUND_ANYWAY = True
    except ValueError:
        pass
"""


@pytest.mark.parametrize("probes", ["present", "absent"])
def test_probes_can_be_told_apart(write: Any, engine: Any, probes: str) -> None:
    write({"probing.py": PROBE})
    engine(modules__stub=[{"name": "fake_attn", "probes": probes}])
    module = importlib.import_module("probing")
    present = probes == "present"
    assert (present, present, True) == (module.FOUND, module.FOUND_SUB, module.FOUND_ANYWAY)


def test_virtual_modules_go_when_the_engine_does(pkg: Patch, moved: None, engine: Any) -> None:
    report = engine(pkg, modules__stub=["fake_attn"], modules__redirect={"gone": "new"})
    for name in ("pkg._ext", "fake_attn.sub", "gone.sub"):
        importlib.import_module(name)
    session = bootstrap.active().session  # type: ignore[union-attr]
    bootstrap.deactivate()
    assert not {"pkg._ext", "fake_attn", "fake_attn.sub", "gone", "gone.sub"} & set(sys.modules)
    assert {"pkg", "new", "new.sub"} <= set(sys.modules)
    assert not hasattr(sys.modules["pkg"], "_ext")
    assert str(session.report().of("pkg.ext")[0].status) == "REVERTED"
    assert len(report()) == 0


def test_a_stub_is_no_prefix_of_other_names(write: Any, engine: Any) -> None:
    write({"fake_attention.py": "X = 1\n"})
    engine(modules__stub=["fake_attn"])
    assert importlib.import_module("fake_attention").X == 1


def test_a_trigger_is_no_prefix_of_other_names(write: Any, engine: Any) -> None:
    write({"mmx/__init__.py": "", "mmx3d/__init__.py": ""})
    engine(Patch("mmx.define", (Define("mmx:X", 1),)))
    assert not hasattr(importlib.import_module("mmx3d"), "X")
    assert importlib.import_module("mmx").X == 1
