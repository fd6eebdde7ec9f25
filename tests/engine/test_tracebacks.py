"""An exception in a trigger's own code is the user's: unchanged, and no frame of ours on it."""

from __future__ import annotations

import sys
import textwrap

import pytest
from helpers import both, environment, python, write_files

RAISING = {
    "ImportError": "import no_such_module_anywhere",
    "ImportError of a name": "from os import no_such_name",
    "ValueError": "def fail():\n    raise ValueError('on demand', 2)\nfail()",
    "SyntaxError": "x = = 1",
    "SyntaxError below": "import broken",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "SystemExit": "raise SystemExit(3)",
    "GeneratorExit": "raise GeneratorExit",
    "a cause": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError from e",
    "a context": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise ValueError",
    "an exception of its own": (
        "class Own(Exception):\n    def __init__(self):\n        self.mine = 1\nraise Own"
    ),
    "RecursionError": "def f():\n    f()\nf()",
    "not UTF-8": "\x80",
    "a null byte": "x = '\x00'",
}

PATCHES = """
    from mx_autopatch.model import During, Patch, Replace
    PATCHES = (
        Patch("trial.f", (
            Replace("pkg.trigger:f", lambda: "new"),
            During("sys:marker", module="pkg.trigger", value=2),
        )),
    )
"""

SCRIPT = """
    import importlib, os, sys
    import observe

    sys.marker = 1

    def by_statement():
        import pkg.trigger

    def from_statement():
        from pkg.trigger import f

    def by_import_module():
        importlib.import_module("pkg.trigger")

    def by_dunder_import():
        __import__("pkg.trigger")

    def within_an_exception():
        try:
            {}["key"]
        except KeyError:
            import pkg.trigger

    seen = {}
    ways = (by_statement, from_statement, by_import_module, by_dunder_import, within_an_exception)
    for way in ways:
        seen[way.__name__] = observe.raised(way)
        assert "pkg.trigger" not in sys.modules
        assert not hasattr(sys.modules["pkg"], "trigger")
        assert type(sys) is type(os)

    # the cause is gone
    with open("pkg/trigger.py", "w") as file:
        file.write("def f(): return 'original'\\n")
    importlib.invalidate_caches()
    import pkg.trigger
    assert pkg.trigger.f() == ("new" if "mx_autopatch" in sys.modules else "original")
    observe.show(seen=seen)
"""


def _without_the_hook(frames: list[list[str]]) -> list[list[str]]:
    """Before 3.11 one frame that says it is importlib's stays where importlib's own stay."""
    if sys.version_info >= (3, 11):
        return frames
    ours = [["<frozen importlib._bootstrap>", name] for name in ("exec_module", "load_module")]
    return [frame for frame in frames if frame not in ours]


@pytest.mark.parametrize("kind", RAISING)
def test_an_exception_of_the_module(tmp_path, kind):
    source = RAISING[kind]
    files = {"pkg/__init__.py": "", "pkg/trigger.py": source.encode("latin-1"), "broken.py": "1 +"}

    def fresh() -> None:
        write_files(tmp_path, files)

    fresh()
    restore = "with open('pkg/trigger.py', 'wb') as file:\n"
    restore += f"    file.write({source.encode('latin-1')!r})\n"
    script = "# the last run repaired it\n" + restore + textwrap.dedent(SCRIPT)
    # bytecode of a file that was rewritten within the second would be taken for its own
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    plain, hooked = both(tmp_path, script, PATCHES, env=env, at_once=False)
    for way, expected in plain.value["seen"].items():
        found = hooked.value["seen"][way]
        assert not [frame for frame in found["frames"] if "mx_autopatch" in frame[0]]
        found["frames"] = _without_the_hook(found["frames"])
        assert found == expected, way
    assert len(hooked.stdout.splitlines()) == len(plain.stdout.splitlines()) == 1


def test_an_exception_of_another_kind_of_loader(tmp_path):
    """One with load_module alone, a zip, and a loader that is a class."""
    import zipfile

    source = "def fail():\n    raise ValueError('on demand')\nfail()\n"
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("zipped.py", source)
    write_files(tmp_path, {"classy.py": source, "old.py": source})
    script = """
        import importlib, importlib.machinery, sys, warnings
        import observe

        warnings.simplefilter("ignore", ImportWarning)

        def read(name):
            with open(name, encoding="utf-8") as file:
                return file.read()

        class Loader:
            @staticmethod
            def create_module(spec):
                return None
            @staticmethod
            def exec_module(module):
                name = module.__name__ + ".py"
                exec(compile(read(name), name, "exec"), vars(module))

        class Old:
            def load_module(self, name):
                module = sys.modules[name] = type(sys)(name)
                try:
                    exec(compile(read(name + ".py"), name + ".py", "exec"), vars(module))
                except BaseException:
                    del sys.modules[name]
                    raise
                return module

        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                loaders = {"classy": Loader, "old": Old() if sys.version_info < (3, 12) else Loader}
                loader = loaders.get(name)
                return loader and importlib.machinery.ModuleSpec(name, loader)

        sys.path.insert(0, "archive.zip")
        sys.meta_path.insert(1 if "mx_autopatch" in sys.modules else 0, Finder)
        seen = []
        for name in ("zipped", "classy", "old"):
            seen.append(observe.raised(lambda: importlib.import_module(name)))
            seen.append(observe.raised(lambda: exec(f"import {name}")))
        observe.show(seen=seen, left=sorted({"zipped", "classy", "old"} & set(sys.modules)))
    """
    patches = """
        from mx_autopatch.model import Patch, Replace
        PATCHES = tuple(
            Patch(f"trial.{name}", (Replace(f"{name}:f", lambda: "new"),))
            for name in ("zipped", "classy", "old")
        )
    """
    plain, hooked = both(tmp_path, script, patches, expect="PENDING")
    for found in hooked.value["seen"]:
        found["frames"] = _without_the_hook(found["frames"])
    assert hooked.value == plain.value


def test_the_very_exception_object_arrives(tmp_path):
    """Nothing is put round it, and no reference to it is kept."""
    source = """
        import observe
        class Own(Exception):
            pass
        observe.error = Own("on demand")
        raise observe.error
    """
    write_files(tmp_path, {"trigger.py": source})
    script = """
        import gc, sys, weakref
        import observe
        try:
            import trigger
        except Exception as error:
            seen = [error is observe.error, error.__context__ is None, error.__cause__ is None]
            gone = weakref.ref(error)
        del observe.error
        gc.collect()
        observe.show(seen=seen, gone=gone() is None, exc=repr(sys.exc_info()))
    """
    patches = """
        from mx_autopatch.model import Patch, Replace
        PATCHES = (Patch("trial.f", (Replace("trigger:f", lambda: "new"),)),)
    """
    plain, hooked = both(tmp_path, script, patches, expect="PENDING")
    assert hooked.value == plain.value
    assert plain.value == {"seen": [True] * 3, "gone": True, "exc": "(None, None, None)"}


@pytest.mark.parametrize(
    ("source", "status"),
    [("raise ValueError('on demand')", 1), ("raise SystemExit(7)", 7), ("import absent", 1)],
)
def test_what_the_interpreter_prints_and_returns(tmp_path, source, status):
    """A script that dies of it: the same text on stderr, the same exit status."""
    patches = """
        from mx_autopatch.model import Patch, Replace
        PATCHES = (Patch("trial.f", (Replace("trigger:f", lambda: "new"),)),)
    """
    files = {"trigger.py": source, "script.py": "import trigger\n", "trial_patches.py": patches}
    write_files(tmp_path, files)
    plain = python("script.py", cwd=tmp_path, fails=True)
    env = environment([tmp_path], active=True, MX_AUTOPATCH_PLUGINS_MODULES="trial_patches")
    hooked = python("script.py", cwd=tmp_path, env=env, fails=True)
    assert plain.returncode == hooked.returncode == status
    assert (hooked.stdout, hooked.stderr) == (plain.stdout, plain.stderr)


def test_a_replacement_shows_its_own_frames_and_none_of_ours(tmp_path):
    """Plain replacements cost no frame; what they raise points to the patch file."""
    write_files(tmp_path, {"trigger.py": "def f(): return 1\ndef w(): return 1 / 0\n"})
    patches = """
        from mx_autopatch.model import Patch, Replace, Wrap
        def f():
            raise ValueError("from the patch")
        def wrapper(wrapped, instance, args, kwargs):
            return wrapped(*args, **kwargs)
        PATCHES = (
            Patch("trial.f", (Replace("trigger:f", f), Wrap("trigger:w", wrapper))),
        )
    """
    script = """
        import sys
        import observe, trigger
        frames = []
        for function in (trigger.f, trigger.w):
            try:
                function()
            except Exception as error:
                frames.append([f[0].rpartition("/")[2] for f in observe.frames(error)])
        observe.show(frames=frames)
    """
    _, hooked = both(tmp_path, script, patches)
    first, second = hooked.value["frames"]
    assert first == ["script.py", "trial_patches.py"]
    assert second == ["script.py", "wrapping.py", "trial_patches.py", "trigger.py"]


def test_an_error_in_a_patch_breaks_no_import(tmp_path):
    """Whatever a patch's own code raises becomes an outcome; the module is as it was."""
    write_files(tmp_path, {"trigger.py": "def f():\n    return 'original'\n\n\nvalue = 1\n"})
    patches = """
        from mx_autopatch.model import Call, Patch, Replace

        def broken(context):
            context.module.value = 2
            raise RuntimeError("in the patch")

        PATCHES = (
            Patch("trial.a", (Call("trigger", broken),)),
            Patch("trial.b", (Replace("trigger:f", factory=broken),)),
            Patch("trial.c", (Replace("trigger:absent", lambda: None),)),
            Patch("trial.d", (Replace("trigger:value.deeper", 1),)),
        )
    """
    script = """
        import observe, trigger
        observe.show(f=trigger.f(), module=observe.module(trigger))
    """
    plain, hooked = both(tmp_path, script, patches, expect=None)
    assert hooked.value == plain.value
    assert hooked.statuses() == {
        "trigger": "FAILED",
        "trigger:f": "FAILED",
        "trigger:absent": "MISSING",
        "trigger:value.deeper": "MISSING",
    }
