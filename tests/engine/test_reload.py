"""A trigger that is executed again: by reload, or after its removal from sys.modules."""

from __future__ import annotations

import pytest
from helpers import both, write_files

TRIGGER = """
    import events
    from base import Base, REGISTRY

    events.append("executed")
    if events.fails:
        replaced = "half way"
        raise ValueError("on demand")


    def replaced():
        return "original"


    def guarded(x):
        return "original"


    def wrapped():
        return ["original"]


    class Thing(Base):
        def method(self):
            return "original"
"""

FILES = {
    "trigger.py": TRIGGER,
    "events.py": "seen = []\nfails = False\nappend = seen.append\n",
    "base.py": """
        class Base:
            def inherited(self):
                return "original"

        REGISTRY = {"key": "original"}
    """,
    "copies.py": "from trigger import replaced, guarded, wrapped, Thing\n",
}

PATCHES = """
    from mx_autopatch.model import Call, Define, Patch, Replace, Wrap


    def wrapper(wrapped, instance, args, kwargs):
        return ["wrapped", *wrapped(*args, **kwargs)]


    def call(context):
        import events
        events.append("called")


    PATCHES = (
        Patch(
            "trial.all",
            (
                Replace("trigger:replaced", lambda: "new"),
                Replace("trigger:guarded", lambda x: "new", guard=lambda x: x),
                Wrap("trigger:wrapped", wrapper),
                Replace("trigger:Thing.method", lambda self: "new"),
                Replace("trigger:Base.inherited", lambda self: "new"),
                Replace("trigger:REGISTRY[key]", "new"),
                Define("trigger:added", "new"),
                Call("trigger", call),
            ),
        ),
    )
"""

HEAD = """
    import importlib, sys
    import events, observe

    def look(module):
        names = [module.replaced(), module.guarded(1), module.guarded(0), module.wrapped()]
        thing = module.Thing()
        names += [thing.method(), thing.inherited(), module.REGISTRY["key"]]
        names += [getattr(module, "added", None)]
        return names

    # what an unhooked run sees is all originals; a hooked run sees exactly this
    ORIGINAL = ["original", "original", "original", ["original"], *["original"] * 3, None]
    PATCHED = ["new", "new", "original", ["wrapped", "original"], *["new"] * 4]
    HOOKED = "mx_autopatch" in sys.modules
    EXPECTED = PATCHED if HOOKED else ORIGINAL
    calls = lambda: events.seen.count("called")
"""


def run(folder, script, **more):
    import textwrap

    write_files(folder, FILES)
    script = textwrap.dedent(HEAD) + textwrap.dedent(script)
    plain, hooked = both(folder, script, PATCHES, **more)
    assert hooked.value == plain.value
    return plain, hooked


def test_reload_applies_exactly_once_again(tmp_path):
    run(
        tmp_path,
        """
        import trigger
        assert look(trigger) == EXPECTED, look(trigger)
        seen = [observe.module(trigger)]
        for again in range(3):
            assert importlib.reload(trigger) is trigger
            assert look(trigger) == EXPECTED, (again, look(trigger))
            assert not HOOKED or calls() == again + 2
            seen.append(observe.module(trigger))
        observe.show(seen=seen, executed=events.seen.count("executed"))
        """,
    )


def test_copies_of_the_first_execution_stay_patched_after_a_reload(tmp_path):
    """As without us they keep what they had: here, the patched functions."""
    run(
        tmp_path,
        """
        import trigger, copies
        before = [copies.replaced, copies.guarded, copies.wrapped, copies.Thing]
        importlib.reload(trigger)
        after = [copies.replaced, copies.guarded, copies.wrapped, copies.Thing]
        assert [x() for x in (copies.replaced, copies.wrapped)] == EXPECTED[0:4:3]
        assert copies.guarded(1) == EXPECTED[1]
        assert copies.Thing().method() == EXPECTED[4]
        observe.show(same=[a is b for a, b in zip(before, after)])
        """,
    )


def test_what_other_code_has_changed_since_is_no_obstacle(tmp_path):
    """A reload gives the module's own object, so the patch holds again."""
    run(
        tmp_path,
        """
        import trigger
        trigger.replaced = lambda: "mine"
        trigger.Thing.method = lambda self: "mine"
        assert trigger.replaced() == trigger.Thing().method() == "mine"
        importlib.reload(trigger)
        assert look(trigger) == EXPECTED, look(trigger)
        observe.show(module=observe.module(trigger))
        """,
    )


def test_a_reload_that_fails_leaves_what_was_there_patched(tmp_path):
    run(
        tmp_path,
        """
        import trigger
        events.fails = True
        error = observe.raised(lambda: importlib.reload(trigger))
        assert sys.modules["trigger"] is trigger
        # only what the code reached has changed, and that is patched too
        assert (trigger.replaced() if HOOKED else trigger.replaced) == (
            "new" if HOOKED else "half way"
        )
        assert [trigger.guarded(1), trigger.guarded(0), trigger.wrapped()] == EXPECTED[1:4]
        assert [trigger.Thing().method(), trigger.Base().inherited()] == EXPECTED[4:6]
        assert trigger.REGISTRY["key"] == EXPECTED[6]
        events.fails = False
        importlib.reload(trigger)
        assert look(trigger) == EXPECTED, look(trigger)
        error["frames"] = [f for f in error["frames"] if "importlib" not in f[0]]
        observe.show(error=error, module=observe.module(trigger))
        """,
    )


@pytest.mark.parametrize("keep", ["", "old = trigger"])
def test_forgotten_and_imported_again(tmp_path, keep):
    run(
        tmp_path,
        f"""
        import trigger
        for again in range(3):
            first = observe.module(trigger)
            {keep}
            del sys.modules["trigger"]
            import trigger
            assert look(trigger) == EXPECTED, (again, look(trigger))
            if {bool(keep)}:
                assert trigger is not old
                assert look(old) == EXPECTED, look(old)
            assert observe.module(trigger) == first
        observe.show(module=first)
        """,
    )


def test_a_package_of_triggers_forgotten_as_a_whole(tmp_path):
    write_files(
        tmp_path,
        {
            "pkg/__init__.py": "from pkg.sub import f\n",
            "pkg/sub.py": "def f(): return 'original'\n",
        },
    )
    script = """
        import sys
        import observe
        for _ in range(3):
            import pkg
            if "mx_autopatch" in sys.modules:
                assert pkg.f() == pkg.sub.f() == "new"
            for name in [n for n in sys.modules if n.partition(".")[0] == "pkg"]:
                del sys.modules[name]
        observe.show()
    """
    patches = """
        from mx_autopatch.model import Patch, Replace
        PATCHES = (Patch("trial.f", (Replace("pkg.sub:f", lambda: "new"),)),)
    """
    both(tmp_path, script, patches)


def test_extension_modules_reload(tmp_path):
    script = """
        import importlib, sys
        import observe
        import xxsubtype as module
        seen = [observe.module(module)]
        importlib.reload(module)
        seen.append(observe.module(module))
        if "mx_autopatch" in sys.modules:
            assert module.added == 1
        observe.show(seen=seen)
    """
    patches = """
        from mx_autopatch.model import Define, Patch
        PATCHES = (Patch("trial.add", (Define("{}:added", 1),)),)
    """
    for name in ("xxsubtype", "_queue", "_decimal"):
        plain, hooked = both(
            tmp_path, script.replace("xxsubtype", name), patches.format(name), expect=None
        )
        assert hooked.value == plain.value
        assert set(hooked.statuses().values()) <= {"APPLIED", "UNMET"}


def test_namespace_package_reload(tmp_path):
    write_files(tmp_path, {"space/a.py": ""})
    script = """
        import importlib, sys
        import observe
        import space
        seen = [observe.module(space)]
        importlib.reload(space)
        seen.append(observe.module(space))
        if "mx_autopatch" in sys.modules:
            assert space.added == 1
        observe.show(seen=seen)
    """
    patches = """
        from mx_autopatch.model import Define, Patch
        PATCHES = (Patch("trial.add", (Define("space:added", 1),)),)
    """
    plain, hooked = both(tmp_path, script, patches)
    assert hooked.value == plain.value


def test_during_ends_with_every_execution(tmp_path):
    """Also where the execution fails, and where it is repeated."""
    write_files(
        tmp_path,
        {
            "versioned.py": "__version__ = '2.2'\n",
            "trigger.py": """
                import sys, versioned
                SEEN = versioned.__version__
                if sys.__dict__.pop("fail", False):
                    raise ValueError("on demand")
            """,
        },
    )
    script = """
        import importlib, sys
        import observe, versioned
        sys.fail = True
        error = observe.raised(lambda: importlib.import_module("trigger"))["type"]
        types = [type(versioned).__name__, type(versioned) is type(sys)]
        import trigger
        expected = "1.0" if "mx_autopatch" in sys.modules else "2.2"
        assert trigger.SEEN == expected
        importlib.reload(trigger)
        assert trigger.SEEN == expected
        types += [type(versioned).__name__, type(versioned) is type(sys)]
        observe.show(error=error, types=types, version=versioned.__version__)
    """
    patches = """
        from mx_autopatch.model import During, Patch
        PATCHES = (
            Patch("trial.d", (During("versioned:__version__", module="trigger", value="1.0"),)),
        )
    """
    plain, hooked = both(tmp_path, script, patches)
    assert hooked.value == plain.value
