"""After a patched import a module looks as it does without us.

Each case runs the same script in two processes, hooked and not, and compares what they
print; see ``observe`` for what is looked at.
"""

from __future__ import annotations

import importlib.util
import os
import py_compile
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import both, write_files

TRIGGER = '''
    """A trigger."""

    import functools

    LIMIT = 1


    def replaced(a, b=1):
        return ["original", a, b]


    def guarded(a, b=1):
        return ["original", a, b]


    def wrapped(a, b=1):
        return ["original", a, b]


    def generated(n):
        yield from range(n)


    def untouched():
        return LIMIT


    class Thing:
        """A thing."""

        def method(self):
            return "original"

        @classmethod
        def make(cls):
            return cls()

        @staticmethod
        def static(x):
            return ["original", x]

        @property
        def value(self):
            return "original"


    class Swapped:
        def method(self):
            return "original"


    class Built:
        def __init__(self, size=1):
            self.size = size


    class Caller:
        def __init__(self, name):
            self.name = name

        def __call__(self):
            return self.name


    instance = Caller("original")


    async def awaited():
        return 1


    def here():
        return __loader__, __spec__, __file__
'''

PATCHES = """
    from mx_autopatch.model import Define, Patch, Replace, Wrap


    def replaced(a, b=1):
        return ["new", a, b]


    def guarded(a, b=1):
        return ["new", a, b]


    def wrapper(wrapped, instance, args, kwargs):
        return wrapped(*args, **kwargs)


    def method(self):
        return "new"


    def static(x):
        return ["new", x]


    class Swapped:
        def method(self):
            return "new"


    PATCHES = (
        Patch(
            "trial.all",
            (
                Replace("{0}:replaced", replaced),
                Replace("{0}:guarded", guarded, guard=lambda a, b=1: a > 0),
                Wrap("{0}:wrapped", wrapper),
                Wrap("{0}:generated", wrapper),
                Replace("{0}:Thing.method", method),
                Replace("{0}:Thing.static", static),
                Wrap("{0}:Thing.make", wrapper),
                Replace("{0}:Swapped", Swapped),
                Wrap("{0}:Built", wrapper),
                Wrap("{0}:instance", wrapper),
                Wrap("{0}:awaited", wrapper),
                Define("{0}:added", 1),
            ),
        ),
    )
"""

LOOK = """
    import sys
    import observe

    before = observe.before_import("{0}")
    import {0} as module
    after = observe.module(module)
    inside = observe.spec(module.here()[1]) if hasattr(module, "here") else None
    observe.show(before=before, after=after, inside=inside)
"""


def compare(folder: Path, name: str = "trigger", **more) -> dict:
    """Both runs look at module ``name``, and see the same."""
    more.setdefault("patches", PATCHES.format(name))
    plain, hooked = both(folder, LOOK.format(name), **more)
    assert hooked.value == plain.value
    return plain.value["after"]


def define(name: str) -> str:
    """A patch that gives a module one name more: what can be had of any module."""
    return f"""
        from mx_autopatch.model import Define, Patch
        PATCHES = (Patch("trial.add", (Define("{name}:added", 1),)),)
    """


# -- kinds of modules ----------------------------------------------------------------


def test_source_module(tmp_path):
    write_files(tmp_path, {"trigger.py": TRIGGER})
    seen = compare(tmp_path)
    assert seen["loader"]["type"].endswith(".SourceFileLoader")
    assert seen["getsource"].startswith('"""A trigger."""') or "A trigger." in seen["getsource"]


def test_source_module_without_bytecode(tmp_path):
    write_files(tmp_path, {"trigger.py": TRIGGER})
    compare(tmp_path, env={"PYTHONDONTWRITEBYTECODE": "1"})


def test_package(tmp_path):
    files = {"pkg/__init__.py": TRIGGER, "pkg/data.txt": "data", "pkg/sub.py": ""}
    write_files(tmp_path, files)
    seen = compare(tmp_path, "pkg")
    assert seen["resources"] == seen["pkgutil.get_data"] == "data"
    assert seen["path"] == ["list", str(tmp_path / "pkg")]


def test_submodule(tmp_path):
    write_files(tmp_path, {"pkg/__init__.py": "", "pkg/sub.py": TRIGGER, "pkg/data.txt": "data"})
    seen = compare(tmp_path, "pkg.sub")
    assert seen["package"] == "pkg"


def test_sourceless_bytecode(tmp_path):
    write_files(tmp_path, {"trigger.py": TRIGGER})
    source = tmp_path / "trigger.py"
    py_compile.compile(str(source), str(tmp_path / "trigger.pyc"), doraise=True)
    source.unlink()
    assert compare(tmp_path)["loader"]["type"].endswith(".SourcelessFileLoader")


def _extension_of_the_standard_library() -> str:
    from importlib.machinery import ExtensionFileLoader, PathFinder

    for name in ("_lsprof", "_heapq", "_queue", "_bisect"):
        spec = PathFinder.find_spec(name)
        if spec is not None and isinstance(spec.loader, ExtensionFileLoader):
            return name
    pytest.skip("this Python has its extension modules built in")


def test_extension_module_of_the_standard_library(tmp_path):
    name = _extension_of_the_standard_library()
    seen = compare(tmp_path, name, patches=define(name))
    assert seen["loader"]["type"].endswith(".ExtensionFileLoader")


def test_extension_module_of_a_package(tmp_path):
    """A third-party one: wrapt's, alone in a package of ours so that nothing else imports it."""
    binary = importlib.util.find_spec("wrapt._wrappers").origin
    write_files(tmp_path, {"pkg/__init__.py": "", "pkg/data.txt": "data"})
    shutil.copy(binary, tmp_path / "pkg")
    seen = compare(tmp_path, "pkg._wrappers", patches=define("pkg._wrappers"))
    assert seen["loader"]["type"].endswith(".ExtensionFileLoader")


BUILTIN = next(n for n in ("xxsubtype", "_symtable") if n in sys.builtin_module_names)


@pytest.mark.parametrize("name", [BUILTIN, "__phello__", "__phello__.spam"])
def test_builtin_and_frozen_modules(tmp_path, name):
    """Their loader is a class, not an object."""
    seen = compare(tmp_path, name, patches=define(name))
    assert seen["loader"]["type"] == "builtins.type"


def test_namespace_package(tmp_path):
    write_files(tmp_path, {"one/space/a.py": "", "two/space/b.py": ""})
    path = [tmp_path / "one", tmp_path / "two"]
    script = LOOK.format("space")
    plain, hooked = both(tmp_path, script, define("space"), path=path)
    seen = plain.value["after"]
    assert hooked.value["after"] == seen
    # The one difference there is: find_spec shows the loader that the module will have, in
    # place of None, since without a loader nobody would tell us of the import.
    plain.value["before"]["loader"] = seen["loader"]["type"].rpartition(".")[2]
    assert hooked.value == plain.value
    assert seen["path"][0] == "_NamespacePath"
    assert seen["iter_modules"] == ["a", "b"]


def test_a_namespace_package_grows_with_the_path(tmp_path):
    write_files(tmp_path, {"one/space/a.py": "x = 1", "two/space/b.py": "x = 2"})
    script = """
        import sys
        import observe

        sys.path.insert(0, "one")
        import space, space.a
        sys.path.insert(0, "two")
        import space.b
        observe.show(space=observe.module(space), x=[space.a.x, space.b.x])
    """
    plain, hooked = both(tmp_path, script, define("space"))
    assert hooked.value == plain.value
    assert plain.value["x"] == [1, 2]


def test_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("zipped/__init__.py", "")
        archive.writestr("zipped/trigger.py", _dedent(TRIGGER))
        archive.writestr("zipped/data.txt", "data")
    path = [tmp_path / "archive.zip"]
    seen = compare(tmp_path, "zipped.trigger", path=path)
    assert seen["loader"]["type"] == "zipimport.zipimporter"
    seen = compare(tmp_path, "zipped", path=path, patches=define("zipped"))
    assert seen["pkgutil.get_data"] == "data"


def _dedent(text: str) -> str:
    import textwrap

    return textwrap.dedent(text)


def test_one_zipimporter_serves_patched_and_unpatched_modules(tmp_path):
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for name in ("first", "trigger", "last"):
            archive.writestr(f"{name}.py", _dedent(TRIGGER))
    script = """
        import sys
        import observe
        import first, trigger, last
        loaders = {m.__loader__ for m in (first, trigger, last)}
        observe.show(
            loaders=len(loaders), first=observe.module(first), last=observe.module(last)
        )
        assert last.replaced(0)[0] == first.replaced(0)[0] == "original"
    """
    plain, hooked = both(
        tmp_path, script, PATCHES.format("trigger"), path=[tmp_path / "archive.zip"]
    )
    if sys.version_info >= (3, 10):  # before, each module had a copy of the importer
        assert plain.value["loaders"] == 1
    assert hooked.value == plain.value


# -- finders and loaders of others ---------------------------------------------------

EDITABLE_FINDER = """
    import sys
    from importlib.util import spec_from_file_location

    MAPPING = {mapping!r}


    class _EditableFinder:
        @classmethod
        def find_spec(cls, fullname, path=None, target=None):
            if fullname in MAPPING:
                return spec_from_file_location(fullname, MAPPING[fullname])
            return None


    def install():
        if not any(finder == _EditableFinder for finder in sys.meta_path):
            sys.meta_path.append(_EditableFinder)
"""


def test_editable_install_with_a_finder(tmp_path):
    """As setuptools writes it, started from a .pth file."""
    files = {"elsewhere/edited/__init__.py": TRIGGER, "elsewhere/edited/data.txt": "data"}
    write_files(tmp_path, files)
    mapping = {"edited": str(tmp_path / "elsewhere" / "edited" / "__init__.py")}
    finder = _dedent(EDITABLE_FINDER).format(mapping=mapping)
    write_files(
        tmp_path / "site",
        {
            "__editable___edited_1_0_finder.py": finder,
            "__editable__.edited-1.0.pth": (
                "import __editable___edited_1_0_finder; __editable___edited_1_0_finder.install()"
            ),
        },
    )
    script = 'import site; site.addsitedir("site")\n' + _dedent(LOOK.format("edited"))
    plain, hooked = both(tmp_path, script, PATCHES.format("edited"))
    assert hooked.value == plain.value
    assert plain.value["after"]["resources"] == "data"


def test_editable_install_with_a_path(tmp_path):
    write_files(
        tmp_path,
        {
            "elsewhere/edited/__init__.py": TRIGGER,
            "elsewhere/edited/data.txt": "data",
            "site/_edited.pth": str(tmp_path / "elsewhere"),
        },
    )
    script = 'import site; site.addsitedir("site")\n' + _dedent(LOOK.format("edited"))
    plain, hooked = both(tmp_path, script, PATCHES.format("edited"))
    assert hooked.value == plain.value


# A finder that puts something of its own between the import system and the real loader.
FINDER = """
    import importlib.abc, importlib.machinery, sys
    import observe

    {loader}

    class Finder:
        def find_spec(self, name, path=None, target=None):
            spec = importlib.machinery.PathFinder.find_spec(name, path, target)
            return make(self, spec) if name in ("trigger", "other") else None

    sys.meta_path.insert({position}, Finder())
"""

LOADERS = {
    # as _pytest.assertion.rewrite does: the finder is the loader of all its modules
    "shared with the finder": """
        class Shared:
            count = 0
            def create_module(self, spec):
                return None
            def exec_module(self, module):
                assert module.__spec__.loader is self, module.__spec__.loader
                self.count += 1
                with open(module.__file__, encoding="utf-8") as file:
                    exec(compile(file.read(), module.__file__, "exec"), vars(module))

        shared = Shared()

        def make(finder, spec):
            return importlib.util.spec_from_file_location(
                spec.name, spec.origin, loader=shared
            )
    """,
    "a class": """
        class Loader:
            @staticmethod
            def create_module(spec):
                return None
            @classmethod
            def exec_module(cls, module):
                assert module.__loader__ is cls
                with open(module.__spec__.origin, encoding="utf-8") as file:
                    exec(compile(file.read(), module.__spec__.origin, "exec"), vars(module))

        def make(finder, spec):
            return importlib.machinery.ModuleSpec(spec.name, Loader, origin=spec.origin)
    """,
    # what create_module leaves on the loader, exec_module must find there
    "stateful": """
        class Loader:
            created = None
            def __init__(self, path):
                self.path = path
            def create_module(self, spec):
                self.created = type(sys)(spec.name)
                return self.created
            def exec_module(self, module):
                # a reload creates none
                assert self.created is (None if hasattr(module, "LIMIT") else module)
                with open(self.path, encoding="utf-8") as file:
                    exec(compile(file.read(), self.path, "exec"), vars(module))

        def make(finder, spec):
            spec.loader = Loader(spec.origin)
            return spec
    """,
    "with slots": """
        class Loader:
            __slots__ = ("path",)
            def create_module(self, spec):
                return None
            def exec_module(self, module):
                with open(self.path, encoding="utf-8") as file:
                    exec(compile(file.read(), self.path, "exec"), vars(module))

        def make(finder, spec):
            spec.loader = Loader()
            spec.loader.path = spec.origin
            return spec
    """,
    "with __getattr__": """
        class Loader:
            def __init__(self, loader):
                self._loader = loader
            def __getattr__(self, name):
                return getattr(self._loader, name)

        def make(finder, spec):
            spec.loader = Loader(spec.loader)
            return spec
    """,
    "with __setattr__ and __new__": """
        class Loader:
            def __new__(cls, path):
                assert path
                return super().__new__(cls)
            def __init__(self, path):
                object.__setattr__(self, "path", path)
            def __setattr__(self, name, value):
                raise AttributeError(name)
            def create_module(self, spec):
                return None
            def exec_module(self, module):
                with open(self.path, encoding="utf-8") as file:
                    exec(compile(file.read(), self.path, "exec"), vars(module))

        def make(finder, spec):
            spec.loader = Loader(spec.origin)
            return spec
    """,
    "a proxy written in C": """
        import wrapt

        def make(finder, spec):
            spec.loader = wrapt.ObjectProxy(spec.loader)
            return spec
    """,
    # one spec for every time the module is asked for
    "of a remembered spec": """
        specs = {}

        def make(finder, spec):
            return specs.setdefault(spec.name, spec)
    """,
}


@pytest.mark.parametrize("kind", LOADERS)
def test_loader_of_a_foreign_finder(tmp_path, kind):
    write_files(tmp_path, {"trigger.py": TRIGGER, "other.py": TRIGGER, "data.txt": "data"})
    position = "1 if type(sys.meta_path[0]).__name__ == 'Finder' else 0"
    head = _dedent(FINDER).format(
        loader=_dedent(LOADERS[kind]).replace("\n", "\n"), position=position
    )
    script = head + _dedent("""
        for _ in range(1000):  # far more often than frames fit on the stack
            found = importlib.util.find_spec("trigger")
        before = found.loader.__class__.__qualname__
        import trigger, other
        seen = [observe.module(trigger), observe.module(other)]
        same = trigger.__loader__ is other.__loader__
        del sys.modules["trigger"]
        import trigger
        again = observe.module(trigger)
        importlib.reload(trigger)
        reloaded = observe.module(trigger)
        observe.show(before=before, seen=seen, same=same, again=again, reloaded=reloaded)
        if "mx_autopatch.engine.loader" in sys.modules:
            assert trigger.replaced(0) == trigger.guarded(1)[:1] + [0, 1] == ["new", 0, 1]
    """)
    plain, hooked = both(tmp_path, script, PATCHES.format("trigger"))
    assert hooked.value == plain.value


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="3.12 took load_module away from finders")
def test_loader_with_load_module_alone(tmp_path):
    write_files(tmp_path, {"trigger.py": TRIGGER})
    script = """
        import importlib.machinery, importlib.util, sys, warnings
        import observe

        warnings.simplefilter("ignore", ImportWarning)

        class Loader:
            def __init__(self, path):
                self.path = path
            def load_module(self, name):
                module = sys.modules.setdefault(name, type(sys)(name))
                module.__file__ = self.path
                module.__loader__ = self
                with open(self.path, encoding="utf-8") as file:
                    exec(compile(file.read(), self.path, "exec"), vars(module))
                return module

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name != "trigger":
                    return None
                spec = importlib.machinery.PathFinder.find_spec(name, path, target)
                return importlib.machinery.ModuleSpec(name, Loader(spec.origin), origin=spec.origin)

        sys.meta_path.insert(1 if type(sys.meta_path[0]).__name__ == "Finder" else 0, Finder())
        before = type(importlib.util.find_spec("trigger").loader).__qualname__
        import trigger
        first = observe.module(trigger)
        importlib.reload(trigger)
        observe.show(before=before, first=first, then=observe.module(trigger))
        if "mx_autopatch.engine.loader" in sys.modules:
            assert trigger.replaced(0) == ["new", 0, 1]
    """
    plain, hooked = both(tmp_path, script, PATCHES.format("trigger"))
    assert hooked.value == plain.value


# -- modules that are not what they seem ---------------------------------------------


def test_lazy_loader_stays_lazy(tmp_path):
    """importlib.util.LazyLoader, by the recipe of its documentation."""
    write_files(tmp_path, {"trigger.py": "print('executed')\n" + _dedent(TRIGGER)})
    script = """
        import importlib.util, sys
        import observe
        import json  # its modules are loaded after the lazy one was made, and rebound

        spec = importlib.util.find_spec("trigger")
        loader = spec.loader = importlib.util.LazyLoader(spec.loader)
        trigger = importlib.util.module_from_spec(spec)
        sys.modules["trigger"] = trigger
        loader.exec_module(trigger)
        lazy = object.__getattribute__(trigger, "__class__").__name__
        print("lazy")
        import other
        print(trigger.untouched())
        observe.show(lazy=lazy, module=observe.module(trigger))
        if "mx_autopatch.engine.loader" in sys.modules:
            assert trigger.replaced(0) == ["new", 0, 1]
    """
    write_files(tmp_path, {"other.py": "def f(): pass"})
    patches = PATCHES.format("trigger") + _dedent("""
        PATCHES += (Patch("trial.other", (Replace("other:f", method),)),)
    """).replace("\n", "\n    ")
    plain, hooked = both(tmp_path, script, patches)
    assert hooked.value == plain.value
    assert hooked.stdout == plain.stdout
    assert plain.stdout.splitlines()[:3] == ["lazy", "executed", "1"]


def test_looking_for_copies_leaves_lazy_modules_alone(tmp_path):
    write_files(
        tmp_path,
        {
            "lazy.py": "print('executed')",
            "trigger.py": "import makes_lazy\ndef f(): return 'original'\nimport copies\n",
            "copies.py": "from trigger import f\n",
            "makes_lazy.py": """
                import importlib.util, sys
                spec = importlib.util.find_spec("lazy")
                loader = spec.loader = importlib.util.LazyLoader(spec.loader)
                lazy = sys.modules["lazy"] = importlib.util.module_from_spec(spec)
                loader.exec_module(lazy)
            """,
        },
    )
    script = """
        import sys
        import observe, trigger, copies
        observe.show(lazy=type.__name__ and object.__getattribute__(
            sys.modules["lazy"], "__class__").__name__)
        if "mx_autopatch.engine.loader" in sys.modules:
            assert copies.f() == trigger.f() == "new"
    """
    patches = """
        from mx_autopatch.model import Patch, Replace
        def f(): return "new"
        PATCHES = (Patch("trial.f", (Replace("trigger:f", f),)),)
    """
    plain, hooked = both(tmp_path, script, patches)
    assert hooked.value == plain.value == {"lazy": "_LazyModule"}
    assert "executed" not in hooked.stdout


SELF_REPLACING = {
    "by a module": """
        import sys
        class Lazy(type(sys)):
            pass
        new = Lazy(__name__)
        vars(new).update(vars(sys.modules[__name__]))
        sys.modules[__name__] = new
    """,
    "by an object": """
        import sys
        class Namespace:
            def __init__(self, names):
                vars(self).update({n: v for n, v in names.items() if not n.startswith("__")})
        sys.modules[__name__] = Namespace(dict(globals()))
    """,
    "by an object without a dictionary": """
        import sys
        class Namespace:
            __slots__ = ("replaced",)
        new = Namespace()
        new.replaced = replaced
        sys.modules[__name__] = new
    """,
    "by its class": """
        import sys
        class Callable(type(sys)):
            def __call__(self):
                return "called"
        sys.modules[__name__].__class__ = Callable
    """,
}


@pytest.mark.parametrize("how", SELF_REPLACING)
def test_a_module_that_replaces_itself(tmp_path, how):
    copy = "import trigger, sys\nreplaced = sys.modules['trigger'].replaced\n"
    source = _dedent(TRIGGER) + _dedent(SELF_REPLACING[how])
    write_files(tmp_path, {"trigger.py": source, "copy_of_it.py": copy})
    script = """
        import sys
        import observe, trigger, copy_of_it
        names = ("__loader__", "__spec__", "__file__", "__name__", "__package__")
        values = [repr(getattr(trigger, name, "missing")) for name in names]
        observe.show(
            type=type(trigger).__name__,
            names=[value.partition(" at 0x")[0] for value in values],
            same=trigger is sys.modules["trigger"],
        )
        if "mx_autopatch.engine.loader" in sys.modules:
            assert copy_of_it.replaced(0) == trigger.replaced(0) == ["new", 0, 1]
    """
    patches = """
        from mx_autopatch.model import Patch, Replace
        def replaced(a, b=1): return ["new", a, b]
        PATCHES = (Patch("trial.f", (Replace("trigger:replaced", replaced),)),)
    """
    plain, hooked = both(tmp_path, script, patches)
    assert hooked.value == plain.value


@pytest.mark.parametrize("value", ["None", "42", "'text'"])
def test_odd_things_in_sys_modules_do_no_harm(tmp_path, value):
    """Applying looks through the modules imported since; not all of them are modules."""
    source = f"""
        import sys
        def replaced(a, b=1): return ["original", a, b]
        class Namespace: pass
        odd = Namespace()
        odd.copy = replaced
        sys.modules["odd"] = odd
        sys.modules["odd2"] = {value}
    """
    write_files(tmp_path, {"trigger.py": source})
    script = """
        import sys
        import observe, trigger
        observe.show(trigger=observe.module(trigger))
        if "mx_autopatch.engine.loader" in sys.modules:
            assert trigger.replaced(0) == ["new", 0, 1]
    """
    patches = """
        from mx_autopatch.model import Patch, Replace
        def replaced(a, b=1): return ["new", a, b]
        PATCHES = (Patch("trial.f", (Replace("trigger:replaced", replaced),)),)
    """
    plain, hooked = both(tmp_path, script, patches)
    assert hooked.value == plain.value


# -- what others do with modules -----------------------------------------------------


def test_distribution_metadata(tmp_path):
    write_files(
        tmp_path,
        {
            "trigger.py": TRIGGER,
            "trial-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: trial\nVersion: 1.5\n",
            "trial-1.5.dist-info/RECORD": "trigger.py,,\n",
            "trial-1.5.dist-info/top_level.txt": "trigger\n",
        },
    )
    script = """
        import importlib.metadata as metadata
        import observe, trigger
        dist = metadata.distribution("trial")
        observe.show(
            version=metadata.version("trial"),
            files=[str(file.locate()) for file in dist.files],
            file=trigger.__file__,
        )
    """
    plain, hooked = both(tmp_path, script, PATCHES.format("trigger"))
    assert hooked.value == plain.value


MAIN = """
    import sys
    if __name__ == "__main__":
        import observe
        main = sys.modules["__main__"]
        observe.show(
            loader=type(__loader__).__qualname__,
            same=__loader__ is __spec__.loader if __spec__ else None,
            spec=__spec__ and [__spec__.name, __spec__.origin, __spec__.parent, __spec__.cached],
            argv=sys.argv,
            path=sys.path[0],
            package=__package__,
            file=__file__,
            modules=sorted(n for n in sys.modules if n.startswith("pkg")),
            source=observe.attempt(lambda: observe.inspect.getsource(main)),
            value=value(),
        )
"""


@pytest.mark.parametrize(
    "command", [["-m", "pkg.trigger", "x", "-y"], ["-m", "pkg"], ["pkg/trigger.py", "x"], ["pkg"]]
)
def test_python_m_and_scripts(tmp_path, command):
    source = "def value():\n    return 'original'\n" + _dedent(MAIN)
    write_files(
        tmp_path,
        {
            "pkg/__init__.py": "def value():\n    return 'original'\n",
            "pkg/__main__.py": source,
            "pkg/trigger.py": source,
        },
    )
    patches = """
        from mx_autopatch.model import Patch, Replace
        def value(): return "new"
        PATCHES = (
            Patch("trial.pkg", (Replace("pkg:value", value),)),
            Patch("trial.main", (Replace("pkg.trigger:value", value),)),
            Patch("trial.main_too", (Replace("pkg.__main__:value", value),)),
        )
    """
    plain, hooked = both(tmp_path, "", patches, command=command, expect=None)
    assert hooked.value == plain.value
    # what runs as __main__ was not imported as pkg.trigger, so no patch of that fired
    assert plain.value["value"] == "original"
    applied = "APPLIED" if command[0] == "-m" else "PENDING"
    assert hooked.statuses() == {
        "pkg:value" if applied == "APPLIED" else "pkg": applied,
        "pkg.trigger": "PENDING",
        "pkg.__main__": "PENDING",
    }


def test_runpy(tmp_path):
    write_files(tmp_path, {"pkg/__init__.py": "", "pkg/trigger.py": "def value(): return 1\n"})
    script = """
        import runpy
        import observe
        seen = []
        for name in ("pkg.trigger", "__main__"):
            names = runpy.run_module("pkg.trigger", run_name=name, alter_sys=True)
            seen.append([type(names["__loader__"]).__name__, names["__name__"], names["value"]()])
        names = runpy.run_path("pkg/trigger.py")
        seen.append([type(names["__loader__"]).__name__, names["__name__"], names["value"]()])
        observe.show(seen=seen)
    """
    patches = """
        from mx_autopatch.model import Patch, Replace
        PATCHES = (Patch("trial.v", (Replace("pkg.trigger:value", lambda: 2),)),)
    """
    plain, hooked = both(tmp_path, script, patches, expect="PENDING")
    assert hooked.value == plain.value


def test_zip_application(tmp_path):
    folder = write_files(
        tmp_path / "app", {"trigger.py": TRIGGER, "__main__.py": LOOK.format("trigger")}
    )
    import zipapp

    zipapp.create_archive(folder, tmp_path / "app.pyz")
    plain, hooked = both(tmp_path, "", PATCHES.format("trigger"), command=["app.pyz"])
    assert hooked.value == plain.value
    assert plain.value["after"]["loader"]["type"] == "zipimport.zipimporter"


def test_warnings_are_attributed_to_the_importer(tmp_path):
    """``stacklevel=2`` in a module's code skips importlib's frames, and must skip ours."""
    source = "import warnings\nwarnings.warn('old', UserWarning, stacklevel=2)\n" + _dedent(TRIGGER)
    write_files(tmp_path, {"trigger.py": source, "importer.py": "import trigger\n"})
    script = """
        import warnings
        import observe
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import importer
        observe.show(caught=[[str(w.message), w.filename, w.lineno] for w in caught])
    """
    plain, hooked = both(tmp_path, script, PATCHES.format("trigger"))
    assert hooked.value == plain.value
    assert plain.value["caught"][0][1].endswith("importer.py")


def test_importers_above_a_module_see_no_file_of_ours(tmp_path):
    """A module that looks for who imports it: frames below the first that is no importlib's."""
    source = (
        "import sys\nframe = sys._getframe(1)\nwhile 'importlib' in frame.f_code.co_filename:\n"
    )
    source += "    frame = frame.f_back\nIMPORTER = frame.f_code.co_filename\ndel frame\n"
    write_files(
        tmp_path, {"trigger.py": source + _dedent(TRIGGER), "importer.py": "import trigger\n"}
    )
    script = """
        import observe
        import importer
        observe.show(file=importer.trigger.IMPORTER)
    """
    plain, hooked = both(tmp_path, script, PATCHES.format("trigger"))
    assert hooked.value == plain.value


# -- objects of a patched module -----------------------------------------------------

PICKLED = """
    import copy, pickle, sys
    import observe
    import trigger

    names = ("replaced", "guarded", "wrapped", "generated", "awaited")
    names += ("Thing", "Swapped", "Built", "Thing.static")
    pickles, copies, unchanged = {}, {}, {}
    for name in names:
        obj = trigger
        for part in name.split("."):
            obj = getattr(obj, part)
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            key = f"{name} {protocol}"
            pickles[key] = observe.attempt(lambda: pickle.dumps(obj, protocol).hex())
            copies[key] = observe.attempt(lambda: pickle.loads(pickle.dumps(obj, protocol)) is obj)
        copies[name] = observe.attempt(lambda: copy.copy(obj) is copy.deepcopy(obj) is obj)
        unchanged[name] = [obj.__module__, obj.__qualname__, obj.__name__, obj.__class__.__name__]
        unchanged[name] += [str(observe.inspect.signature(obj)), obj.__doc__]
    thing, built, swapped = trigger.Thing.make(), trigger.Built(2), trigger.Swapped()
    objects = dict(thing=thing, built=built, swapped=swapped, instance=trigger.instance)
    objects.update(method=thing.method)
    for name, obj in objects.items():
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            key = f"{name} {protocol}"
            pickles[key] = observe.attempt(lambda: pickle.dumps(obj, protocol).hex())
        copies[name] = observe.attempt(lambda: copy.deepcopy(obj).__class__ is obj.__class__)
        copies[name + " twice"] = observe.attempt(
            lambda: pickle.loads(pickle.dumps(obj)).__class__ is obj.__class__
        )
    classes = [isinstance(thing, trigger.Thing), isinstance(built, trigger.Built)]
    classes += [issubclass(type("Sub", (trigger.Built,), {}), trigger.Built)]
    observe.show(pickles=pickles, copies=copies, unchanged=unchanged, classes=classes)
    if "mx_autopatch.engine.loader" in sys.modules:
        assert trigger.replaced(0) == ["new", 0, 1]
        assert thing.method() == swapped.method() == "new"
        assert trigger.instance() == trigger.instance.name == "original"
"""


def test_pickles_and_copies(tmp_path):
    """The same bytes, so an unpatched process can read them and the reverse."""
    write_files(tmp_path, {"trigger.py": TRIGGER})
    plain, hooked = both(tmp_path, PICKLED, PATCHES.format("trigger"))
    for part in plain.value:
        assert hooked.value[part] == plain.value[part], part
    assert set(plain.value["copies"].values()) == {True}


def test_a_factory_made_replacement_and_a_defined_function_pickle(tmp_path):
    """They have no original to be named after, or one of another module's."""
    write_files(tmp_path, {"trigger.py": TRIGGER})
    patches = """
        from mx_autopatch.model import Patch, Replace

        def make(context):
            original = context.module.replaced
            def inner(a, b=1):
                return ["new", *original(a, b)]
            return inner

        PATCHES = (Patch("trial.made", (Replace("trigger:replaced", factory=make),)),)
    """
    script = """
        import pickle
        import observe, trigger
        data = pickle.dumps(trigger.replaced)
        observe.show(data=data.hex(), same=pickle.loads(data) is trigger.replaced)
    """
    plain, hooked = both(tmp_path, script, patches)
    assert hooked.value == plain.value


def test_what_is_imported_for_a_find_spec(tmp_path):
    """Asking whether a trigger is there executes nothing of it."""
    write_files(tmp_path, {"trigger.py": "raise SystemExit('executed')"})
    script = """
        import importlib.util, sys
        import observe
        found = [importlib.util.find_spec(n) is not None for n in ("trigger", "trigger", "absent")]
        observe.show(found=found, loaded="trigger" in sys.modules)
    """
    patches = (
        define("trigger") + "    PATCHES += (Patch('trial.no', (Define('absent:a', 1),)),)\n    "
    )
    plain, hooked = both(tmp_path, script, patches, expect="PENDING")
    assert hooked.value == plain.value == {"found": [True, True, False], "loaded": False}


def test_a_spec_can_be_used_by_hand(tmp_path):
    """module_from_spec and exec_module under another name, as plugin loaders do."""
    write_files(tmp_path, {"trigger.py": TRIGGER})
    script = """
        import copy, importlib.util, sys
        import observe
        spec = importlib.util.find_spec("trigger")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        by_hand = [type(module.__loader__).__name__, sorted(vars(module.__loader__))]
        assert "trigger" not in sys.modules
        copied = copy.copy(importlib.util.find_spec("trigger"))
        second = importlib.util.module_from_spec(copied)
        copied.loader.exec_module(second)
        third = importlib.util.find_spec("trigger")
        import trigger
        beside = importlib.util.module_from_spec(third)
        third.loader.exec_module(beside)
        seen = [observe.spec(m.__spec__) for m in (second, module, beside)]
        observe.show(by_hand=by_hand, seen=seen, then=observe.module(trigger))
        if "mx_autopatch.engine.loader" in sys.modules:
            for each in (module, second, beside, trigger):
                assert each.replaced(0) == ["new", 0, 1]
    """
    plain, hooked = both(tmp_path, script, PATCHES.format("trigger"))
    assert hooked.value == plain.value


def test_the_folder_of_the_interpreter_is_untouched(tmp_path):
    """Nothing is cached for a module that differs from what Python itself caches."""
    write_files(tmp_path, {"trigger.py": TRIGGER})
    both(tmp_path, LOOK.format("trigger"), PATCHES.format("trigger"))
    first = {p.name: p.read_bytes() for p in (tmp_path / "__pycache__").glob("trigger.*")}
    shutil.rmtree(tmp_path / "__pycache__")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    both(tmp_path, LOOK.format("trigger"), PATCHES.format("trigger"))
    assert {p.name: p.read_bytes() for p in (tmp_path / "__pycache__").glob("trigger.*")} == first
