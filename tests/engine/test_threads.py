"""Imports by several threads: no deadlock, and no module that slips by unpatched.

Each scenario runs in a process of its own, under a watchdog that ends it with the
stacks of all threads on stderr.
"""

from __future__ import annotations

import sys
import textwrap

import pytest
from helpers import both, environment, python, write_files

WATCHDOG = """
    import faulthandler, importlib, sys, threading
    faulthandler.dump_traceback_later(15, exit=True)
    sys.setswitchinterval(1e-5)
    HOOKED = "mx_autopatch" in sys.modules
    failures = []

    def together(*functions):
        barrier = threading.Barrier(len(functions))
        def run(function):
            try:
                barrier.wait()
                function()
            except BaseException as error:
                failures.append(f"{type(error).__name__}: {error}")
        threads = [threading.Thread(target=run, args=(f,)) for f in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
"""

NEW = """
    from mx_autopatch.model import Patch, Replace
    PATCHES = tuple(
        Patch(f"trial.{name}", (Replace(f"{name}:f", lambda: "new"),)) for name in NAMES
    )
"""


def script(text: str) -> str:
    return textwrap.dedent(WATCHDOG) + textwrap.dedent(text)


def patches(*names: str) -> str:
    return f"NAMES = {names!r}\n" + textwrap.dedent(NEW)


def test_interdependent_triggers_by_two_threads(tmp_path):
    """a imports b where it is executed, b imports a where its function is called."""
    write_files(
        tmp_path,
        {
            "first.py": """
                import second
                def f(): return "original"
                def g(): return second.f()
            """,
            "second.py": """
                def f(): return "original"
                def g():
                    import first
                    return first.f()
            """,
        },
    )
    text = """
        def one():
            import first
            values.append(first.f()); values.append(first.g())

        def two():
            import second
            values.append(second.f()); values.append(second.g())

        for round in range(200):
            values = []
            together(one, two)
            assert not failures, failures
            assert values == ["new" if HOOKED else "original"] * 4, (round, values)
            del sys.modules["first"], sys.modules["second"]
        import observe
        observe.show()
    """
    both(tmp_path, script(text), patches("first", "second"))


def test_circular_triggers_by_two_threads(tmp_path):
    """Both import each other where they are executed; Python itself breaks the tie.

    It does so by an exception in one of the threads, with us and without us; that thread
    then tries again, and nobody waits for ever.
    """
    write_files(
        tmp_path,
        {
            "first.py": "def f(): return 'original'\nimport second\n",
            "second.py": "def f(): return 'original'\nimport first\n",
        },
    )
    text = """
        def load(name):
            while True:
                try:
                    return importlib.import_module(name)
                except RuntimeError as error:
                    assert type(error).__name__ == "_DeadlockError"

        for round in range(200):
            together(lambda: load("first"), lambda: load("second"))
            assert not failures, failures
            # what first.second is, is not said here: the import of that one may have failed
            values = [sys.modules["first"].f(), sys.modules["second"].f()]
            assert values == ["new" if HOOKED else "original"] * 2, (round, values)
            del sys.modules["first"], sys.modules["second"]
        import observe
        observe.show()
    """
    both(tmp_path, script(text), patches("first", "second"))


def test_copies_made_by_another_thread(tmp_path):
    """A name copied while the trigger is still executed is rebound, whoever copied it."""
    write_files(
        tmp_path,
        {
            "trigger.py": "def f(): return 'original'\nimport copier\ng = 1\n",
            "copier.py": "from trigger import f\n",
            "slow.py": "import time\ntime.sleep(0.0001)\nfrom trigger import f\n",
        },
    )
    text = """
        def one():
            import trigger

        def two():
            import slow

        for round in range(100):
            together(one, two)
            assert not failures, failures
            values = [sys.modules[name].f() for name in ("trigger", "copier", "slow")]
            assert values == ["new" if HOOKED else "original"] * 3, (round, values)
            del sys.modules["trigger"], sys.modules["copier"], sys.modules["slow"]
        import observe
        observe.show()
    """
    both(tmp_path, script(text), patches("trigger"))


def test_eight_threads_import_eight_triggers(tmp_path):
    names = [f"trigger{number}" for number in range(8)]
    write_files(tmp_path, {f"{name}.py": "def f(): return 'original'\n" for name in names})
    text = f"""
        names = {names}
        for round in range(20):
            together(*[lambda name=name: importlib.import_module(name) for name in names])
            assert not failures, failures
            values = [sys.modules[name].f() for name in names]
            assert values == ["new" if HOOKED else "original"] * 8, (round, values)
            for name in names:
                del sys.modules[name]
        import observe
        observe.show()
    """
    both(tmp_path, script(text), patches(*names))


def test_eight_threads_import_one_trigger(tmp_path):
    """Whoever gets the module gets it patched, and it is patched once."""
    write_files(tmp_path, {"trigger.py": "import time\ndef f(): return 0\ntime.sleep(0.001)\n"})
    text = """
        def get():
            import trigger
            values.append(trigger.f())

        for round in range(30):
            values = []
            together(*[get] * 8)
            assert not failures, failures
            assert values == [1 if HOOKED else 0] * 8, (round, values)
            del sys.modules["trigger"]
        import observe
        observe.show()
    """
    adding = """
        from mx_autopatch.model import Patch, Wrap
        def wrapper(wrapped, instance, args, kwargs):
            return wrapped() + 1
        PATCHES = (Patch("trial.f", (Wrap("trigger:f", wrapper),)),)
    """
    both(tmp_path, script(text), adding)


# -- the first import, which prepares the engine -------------------------------------


@pytest.mark.parametrize("plugin", ["module", "file"])
def test_the_preparation_raced_by_eight_threads(tmp_path, plugin):
    """Nothing but the standard library is loaded before, so all eight prepare at once."""
    names = [f"trigger{number}" for number in range(8)]
    source = "import wrapped\ndef f(): return 'original'\n"
    write_files(tmp_path, {f"{name}.py": source for name in names})
    more = """
        import time
        import executed
        executed.times += 1
        time.sleep(0.01)  # so that the others find the plugin half executed
        from mx_autopatch.model import Wrap
        def wrapper(wrapped, instance, args, kwargs):
            return wrapped() + 1
        PATCHES += (Patch("trial.w", (Wrap("wrapped:g", wrapper),)),)
    """
    write_files(
        tmp_path,
        {
            "wrapped.py": "def g(): return 0\n",
            "executed.py": "times = 0\n",
            "trial_patches.py": patches(*names) + textwrap.dedent(more),
            "script.py": script(f"""
                names = {names}
                together(*[lambda name=name: importlib.import_module(name) for name in names])
                assert not failures, failures
                values = [sys.modules[name].f() for name in names]
                assert values == ["new"] * 8, values
                assert sys.modules["wrapped"].g() == 1
                from mx_autopatch import report
                outcomes = [o for o in report() if o.patch.startswith("trial.")]
                assert len(outcomes) == 9, outcomes
                assert {{o.status.value for o in outcomes}} <= {{"APPLIED", "LATE"}}, outcomes
                assert not report().problems, report().problems
                import executed
                print(executed.times)
            """),
        },
    )
    kind = {
        "module": {"MX_AUTOPATCH_PLUGINS_MODULES": "trial_patches"},
        "file": {"MX_AUTOPATCH_PLUGINS_FILES": str(tmp_path / "trial_patches.py")},
    }
    env = environment([tmp_path], active=True, **kind[plugin])
    for _ in range(6):
        done = python("script.py", cwd=tmp_path, env=env)
        assert done.stderr == ""
        assert done.stdout == "1\n"


@pytest.mark.skipif(sys.version_info < (3, 10), reason="collections.Mapping is still there")
def test_eight_threads_miss_the_same_names(tmp_path):
    """The first name that collections lacks prepares, and every thread gets its name."""
    text = """
        import collections
        names = ["Mapping", "Iterable", "Sequence", "Callable"] * 2
        found = []
        together(*[lambda name=name: found.append(getattr(collections, name)) for name in names])
        assert not failures, failures
        assert len(found) == 8
        from mx_autopatch import report
        statuses = {o.status.value for o in report().of("python.collections_aliases")}
        assert statuses == {"APPLIED"}, statuses
    """
    write_files(tmp_path, {"script.py": script(text)})
    for _ in range(3):
        done = python("script.py", cwd=tmp_path, env=environment(active=True))
        assert done.stderr == ""


def test_a_trigger_in_execution_when_another_thread_activates(tmp_path):
    """It was found before there were patches to know of: left alone, and reported."""
    write_files(
        tmp_path,
        {
            "trigger.py": """
                import sys, threading
                from mx_autopatch import activate, report
                def early(): return "original"
                if not hasattr(sys, "activated"):
                    sys.activated = threading.Thread(target=activate)
                    sys.activated.start()
                    sys.activated.join()
                meanwhile = {o.reason for o in report() if o.patch.startswith("trial.")}
                def late(): return "original"
            """,
        },
    )
    text = """
        import trigger
        from mx_autopatch import report
        found = [o for o in report() if o.patch.startswith("trial.")]
        assert {o.status.value for o in found} == {"PENDING"}, found
        reason = "trigger was imported past our finder, by SourceFileLoader"
        assert {o.reason for o in found} == {reason}, found
        assert trigger.meanwhile == {"trigger has not executed yet"}
        assert trigger.early() == trigger.late() == "original"
        importlib.reload(trigger)
        assert trigger.early() == trigger.late() == "new"
    """
    plugin = """
        from mx_autopatch.model import Patch, Replace
        PATCHES = (
            Patch("trial.early", (Replace("trigger:early", lambda: "new"),)),
            Patch("trial.late", (Replace("trigger:late", lambda: "new"),)),
        )
    """
    write_files(tmp_path, {"trial_patches.py": plugin, "script.py": script(text)})
    env = environment([tmp_path], MX_AUTOPATCH_PLUGINS_MODULES="trial_patches")
    python("script.py", cwd=tmp_path, env=env)


def test_activation_while_threads_import(tmp_path):
    """activate, deactivate and imports at once: no deadlock, no half-patched module."""
    names = [f"trigger{number}" for number in range(4)]
    write_files(tmp_path, {f"{name}.py": "def f(): return 'original'\n" for name in names})
    write_files(tmp_path, {"trial_patches.py": patches(*names)})
    text = f"""
        import mx_autopatch
        names = {names}
        def cycle():
            for _ in range(6):
                mx_autopatch.activate()
                mx_autopatch.deactivate()
        def load(name):
            for _ in range(60):
                assert importlib.import_module(name).f() in ("original", "new")
                del sys.modules[name]
        together(cycle, *[lambda name=name: load(name) for name in names])
        assert not failures, failures
        mx_autopatch.activate()
        assert [importlib.import_module(name).f() for name in names] == ["new"] * 4
        mx_autopatch.deactivate()
        assert [importlib.import_module(name).f() for name in names] == ["original"] * 4
    """
    write_files(tmp_path, {"script.py": script(text)})
    env = environment([tmp_path], MX_AUTOPATCH_PLUGINS_MODULES="trial_patches")
    python("script.py", cwd=tmp_path, env=env)


# -- the global import lock, which importlib holds while it asks a finder ------------

SLOW = """
    import sys
    sys.started.set()
    assert sys.asked.wait(10)
    import this  # which takes the global lock, to find it
"""


def slow(name: str) -> str:
    """Starts another thread that is in the middle of importing ``name``."""
    return script(f"""
        sys.started, sys.asked = threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: importlib.import_module({name!r}))
        thread.start()
        assert sys.started.wait(10)
        import trigger
        thread.join()
        assert trigger.f() == ("new" if HOOKED else "original")
        import observe
        observe.show(loaded={name!r} in sys.modules and "this" in sys.modules)
    """)


def test_preparing_needs_a_module_that_another_thread_executes(tmp_path):
    """Names of the standard library, for only those are imported before the preparation."""
    write_files(
        tmp_path,
        {
            "antigravity.py": SLOW,
            "this.py": "",
            "trigger.py": "import sys\nsys.asked.set()\ndef f(): return 'original'\n",
        },
    )
    plugin = """
        import sys
        if hasattr(sys, "asked"):
            sys.asked.set()
        import antigravity
        from mx_autopatch.model import Patch, Replace
        PATCHES = (Patch("trial.f", (Replace("trigger:f", lambda: "new"),)),)
    """
    plain, hooked = both(tmp_path, slow("antigravity"), plugin)
    assert hooked.value == plain.value == {"loaded": True}


def test_finding_needs_a_module_that_another_thread_executes(tmp_path):
    """A requirement that is decided while the module is looked for imports something."""
    write_files(
        tmp_path,
        {
            "slow.py": SLOW,
            "this.py": "",
            "source.py": "def f(): return 'original'\n",
            "trigger.py": "import sys\nsys.asked.set()\ndef f(): return 'original'\n",
        },
    )
    plugin = """
        import sys
        from mx_autopatch.model import Patch, Provide, Replace

        def needs():
            sys.asked.set()
            import slow
            return True

        PATCHES = (
            Patch("trial.f", (Replace("trigger:f", lambda: "new"),)),
            Patch("trial.p", (Provide("trigger", source="source"),), requires=(needs,)),
        )
    """
    plain, hooked = both(tmp_path, slow("slow"), plugin, expect=None)
    assert hooked.value == plain.value == {"loaded": True}
    assert [o["status"] for o in hooked.outcomes] == ["UNMET", "APPLIED"]
