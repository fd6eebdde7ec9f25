"""Other import hooks in the process: each works as it does without us."""

from __future__ import annotations

import pytest
from helpers import both, write_files

TRIGGER = "def f():\n    return 'original'\n"

PATCHES = """
    import sys
    from mx_autopatch.model import Call, Patch, Wrap

    def wrapper(wrapped, instance, args, kwargs):
        return ["wrapped", wrapped()]

    def count(context):
        sys.called = getattr(sys, "called", 0) + 1

    PATCHES = (Patch("trial.f", (Wrap("trigger:f", wrapper), Call("trigger", count))),)
"""

#: What a script may rely on: ours is the first entry of sys.meta_path, if it is there.
OURS = """
    import importlib, importlib.abc, importlib.machinery, importlib.util, sys
    import observe
    HOOKED = type(sys.meta_path[0]).__module__ == "mx_autopatch.engine.finder"
    EXPECTED = ["wrapped", "original"] if HOOKED else "original"
    def behind(finder):
        sys.meta_path.insert(1 if HOOKED else 0, finder)
    def before(finder):
        sys.meta_path.insert(0, finder)
"""


def run(folder, script, patches=PATCHES, **more):
    import textwrap

    write_files(folder, {"trigger.py": TRIGGER})
    plain, hooked = both(folder, textwrap.dedent(OURS) + textwrap.dedent(script), patches, **more)
    assert hooked.value == plain.value
    return hooked


WRAPT = """
    import wrapt
    calls = []
    def first(module):
        if not calls:  # at a reload wrapt's finder takes the spec that the module has
            assert module.f() == EXPECTED, "called after the patches"
        calls.append(module.__name__)
    def second(module):
        calls.append("second")
    {0}
    wrapt.register_post_import_hook(second, "trigger")
    import trigger
    assert trigger.f() == EXPECTED, trigger.f()
    assert not HOOKED or sys.called == 1
    again = [observe.module(trigger)]
    importlib.reload(trigger)
    assert trigger.f() == EXPECTED, trigger.f()
    assert not HOOKED or sys.called == 2
    again.append(observe.module(trigger))
    wrapt.register_post_import_hook(first, "trigger")
    observe.show(calls=calls, again=again)
"""


def test_wrapt_hook_registered_after_us(tmp_path):
    """wrapt puts its finder at the head, before ours."""
    run(tmp_path, WRAPT.format('wrapt.register_post_import_hook(first, "trigger")'))


def test_wrapt_hook_registered_before_us(tmp_path):
    """wrapt's finder is asked by ours, and asks the whole of sys.meta_path again."""
    script = """wrapt.register_post_import_hook(first, "trigger")
    if HOOKED:  # as if it had been there when we came
        sys.meta_path.insert(0, sys.meta_path.pop(1))
        assert type(sys.meta_path[1]).__module__.startswith("wrapt")
    """
    run(tmp_path, WRAPT.format(script))


def test_a_finder_before_us_that_claims_the_module(tmp_path):
    """We never hear of the import; the report says so, and who did it."""
    script = """
        class Claiming(importlib.machinery.SourceFileLoader):
            pass

        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name == "trigger":
                    loader = Claiming(name, "trigger.py")
                    return importlib.util.spec_from_file_location(name, "trigger.py", loader=loader)

        before(Finder)
        import trigger
        observe.show(f=trigger.f(), module=observe.module(trigger))
    """
    hooked = run(tmp_path, script, expect="PENDING")
    (outcome,) = hooked.outcomes
    assert outcome["reason"] == "trigger was imported past our finder, by Claiming"


def test_a_finder_before_us_that_asks_the_rest(tmp_path):
    """As pytest's and coverage's do: they look for the spec themselves and change it."""
    script = """
        class Finder:
            def __init__(self):
                self.asking = set()
            def find_spec(self, name, path=None, target=None):
                if name != "trigger" or name in self.asking:
                    return None
                self.asking.add(name)
                try:
                    return importlib.util.find_spec(name)
                finally:
                    self.asking.discard(name)

        for put in (before, behind):
            finder = Finder()
            put(finder)
            import trigger
            assert trigger.f() == EXPECTED, trigger.f()
            if put is behind:  # before us, it answers a reload with the module's own spec
                importlib.reload(trigger)
                assert trigger.f() == EXPECTED, trigger.f()
            del sys.modules["trigger"]
            sys.meta_path.remove(finder)
        import trigger
        observe.show(module=observe.module(trigger))
    """
    run(tmp_path, script)


def test_finders_without_find_spec(tmp_path):
    """Python 3.12 and later pass over them; before, they are asked with a warning."""
    script = """
        import warnings
        warnings.simplefilter("ignore", ImportWarning)

        class Nothing:
            pass

        class Old:
            asked = []
            @classmethod
            def find_module(cls, name, path=None):
                cls.asked.append(name)

        behind(Old)
        if sys.version_info >= (3, 12):
            behind(Nothing())
            before(Nothing())
        import trigger
        assert trigger.f() == EXPECTED
        observe.show(module=observe.module(trigger))
    """
    run(tmp_path, script)


def test_a_finder_that_raises(tmp_path):
    """Its exception is the importer's, as it is without us."""
    script = """
        class Finder:
            broken = True
            def find_spec(self, name, path=None, target=None):
                if name == "trigger" and self.broken:
                    raise ImportError("on demand", name=name, path="here")

        finder = Finder()
        behind(finder)
        seen = [observe.raised(lambda: importlib.import_module("trigger")) for _ in range(2)]
        for each in seen:
            each["frames"] = each["frames"][-1:]
        finder.broken = False
        import trigger
        assert trigger.f() == EXPECTED
        observe.show(seen=seen, module=observe.module(trigger))
    """
    run(tmp_path, script)


def test_meta_path_changed_while_it_is_asked(tmp_path):
    """By another finder: taking itself away, adding a new one, replacing the list."""
    script = """
        class Removing:
            def find_spec(self, name, path=None, target=None):
                if name == "trigger":
                    sys.meta_path.remove(self)

        class Adding:
            def find_spec(self, name, path=None, target=None):
                if name == "trigger" and len(sys.meta_path) < 12:
                    sys.meta_path.append(Adding())

        class Replacing:
            def find_spec(self, name, path=None, target=None):
                if name == "trigger":
                    sys.meta_path = [f for f in sys.meta_path if f is not self]

        for kind in (Removing, Adding, Replacing):
            for put in (behind, before):
                if kind is Removing and put is before:
                    continue  # then Python itself passes over the one after it: us
                put(kind())
                import trigger
                assert trigger.f() == EXPECTED, (kind, put)
                del sys.modules["trigger"]
        import trigger
        observe.show(module=observe.module(trigger))
    """
    run(tmp_path, script)


def test_the_path_finder_asked_directly(tmp_path):
    """importlib.machinery.PathFinder knows nothing of us, so neither does its module."""
    script = """
        spec = importlib.machinery.PathFinder.find_spec("trigger")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.f() == "original"
        observe.show(spec=observe.spec(module.__spec__))
    """
    run(tmp_path, script, expect="PENDING")


def test_spec_from_file_location(tmp_path):
    """A file loaded by its path, under the trigger's name or another one."""
    script = """
        found = []
        for name in ("trigger", "another"):
            spec = importlib.util.spec_from_file_location(name, "trigger.py")
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            found.append([module.f(), observe.module(module)])
        observe.show(found=found)
    """
    hooked = run(tmp_path, script, expect="PENDING")
    assert hooked.outcomes[0]["reason"].startswith("trigger was imported past our finder")


def test_an_import_within_a_finder(tmp_path):
    """A finder behind us imports another trigger while it is asked for one."""
    write_files(tmp_path, {"other.py": TRIGGER})
    script = """
        class Finder:
            done = False
            def find_spec(self, name, path=None, target=None):
                if name == "trigger" and not self.done:
                    self.done = True
                    import other
                    assert other.f() == EXPECTED

        behind(Finder())
        import trigger
        assert trigger.f() == EXPECTED
        observe.show(modules=[observe.module(sys.modules[name]) for name in ("trigger", "other")])
    """
    patches = PATCHES + '    PATCHES += (Patch("trial.o", (Wrap("other:f", wrapper),)),)\n'
    run(tmp_path, script, patches)


@pytest.mark.parametrize("name", ["triggers", "trigger_", "trigge", "trigger.sub", "x.trigger"])
def test_a_name_that_only_looks_like_a_trigger(tmp_path, name):
    """mmdet never fires for mmdet3d."""
    path = name.replace(".", "/") + ".py"
    write_files(tmp_path, {path: TRIGGER})
    if name == "trigger.sub":
        write_files(tmp_path, {"trigger/__init__.py": "", "trigger/other.py": ""})
    write_files(tmp_path, {"x/__init__.py": ""})
    script = f"""
        import importlib
        import observe
        module = importlib.import_module({name!r})
        assert module.f() == "original"
        observe.show(module=observe.module(module))
    """
    plain, hooked = both(tmp_path, script, PATCHES, expect=None)
    assert hooked.value == plain.value
    status = "MISSING" if name == "trigger.sub" else "PENDING"  # there the package has fired
    assert {o["status"] for o in hooked.outcomes} == {status}


def test_sys_modules_blocks(tmp_path):
    """None in sys.modules forbids the import, whatever the patches say."""
    script = """
        sys.modules["trigger"] = None
        error = observe.raised(lambda: importlib.import_module("trigger"))
        del sys.modules["trigger"]
        import trigger
        observe.show(error=error, module=observe.module(trigger))
    """
    run(tmp_path, script)


def test_deactivation_leaves_nothing_behind(tmp_path):
    write_files(tmp_path, {"trigger.py": TRIGGER})
    script = """
        import sys
        import observe
        import trigger
        f = trigger.f
        found = __import__("importlib.util").util.find_spec
        if "mx_autopatch" in sys.modules:
            assert f() != "original"
            import mx_autopatch
            mx_autopatch.deactivate()
        observe.show(
            f=trigger.f(),
            finders=[getattr(f, "__name__", type(f).__name__) for f in sys.meta_path],
            module=observe.module(trigger),
            collections=sorted(vars(sys.modules["collections"])),
            handler="__getattr__" in vars(sys.modules["collections"]),
            spec=observe.spec(found("antigravity")),
        )
    """
    plain, hooked = both(tmp_path, script, PATCHES, expect=None)
    assert hooked.value == plain.value


def test_deactivation_while_a_trigger_is_executed(tmp_path):
    """It ends unpatched: nobody could take its patches back any more."""
    source = """
        import sys
        if "mx_autopatch.bootstrap" in sys.modules:
            sys.modules["mx_autopatch.bootstrap"].deactivate()
        def f():
            return "original"
    """
    write_files(tmp_path, {"trigger.py": source})
    script = """
        import observe, trigger
        observe.show(f=trigger.f(), module=observe.module(trigger))
    """
    plain, hooked = both(tmp_path, script, PATCHES, expect=None)
    assert hooked.value == plain.value


def test_a_requirement_that_imports_the_module_itself(tmp_path):
    """Decided while the module is looked for; it is executed once all the same."""
    source = "import sys\nsys.count = getattr(sys, 'count', 0) + 1\ndef f(): return 'original'\n"
    write_files(tmp_path, {"trigger.py": source, "source.py": ""})
    script = """
        import sys
        import observe, trigger
        observe.show(count=sys.count, module=observe.module(trigger))
        if "mx_autopatch" in sys.modules:
            assert trigger.f() == "new"
    """
    patches = """
        from mx_autopatch.model import Patch, Provide, Replace

        def needs():
            import trigger
            return trigger.f() == "new"

        PATCHES = (
            Patch("trial.f", (Replace("trigger:f", lambda: "new"),)),
            Patch("trial.p", (Provide("trigger", source="source"),), requires=(needs,)),
        )
    """
    plain, hooked = both(tmp_path, script, patches, expect=None)
    assert hooked.value == plain.value
    assert plain.value["count"] == 1
