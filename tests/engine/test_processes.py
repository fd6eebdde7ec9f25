"""Child processes see the same patches, however they come about."""

from __future__ import annotations

import json
import os
import sys
import textwrap

import pytest
from helpers import INSTALLED, ROOT, environment, python, write_files

PATCHES = """
    from mx_autopatch.model import Patch, Replace, Wrap

    def wrapper(wrapped, instance, args, kwargs):
        return ["wrapped", *wrapped(*args, **kwargs)]

    PATCHES = (
        Patch("trial.f", (Replace("trigger:f", lambda x: ["new", x]),)),
        Patch("trial.w", (Wrap("trigger:w", wrapper),)),
        Patch("trial.s", (Replace("second:f", lambda: "new"),)),
        Patch("trial.c", (Replace("trigger:C.method", lambda self: "new"),)),
    )
"""

TRIGGER = """
    def f(x):
        return ["original", x]

    def w():
        return ["original"]

    class C:
        def method(self):
            return "original"
"""

WORK = """
    import sys

    def work(x):
        import trigger
        return [trigger.f(x), trigger.w(), trigger.C().method()]

    def statuses(_):
        import mx_autopatch
        work(0)
        return sorted((o.patch, o.status.value) for o in mx_autopatch.report()
                      if o.patch.startswith("trial."))
"""

EXPECTED = [[["new", number], ["wrapped", "original"], "new"] for number in range(4)]

METHODS = [
    method
    for method in ("fork", "spawn", "forkserver")
    if method in __import__("multiprocessing").get_all_start_methods()
]


def project(folder, main):
    """A project with its configuration beside its script."""
    return write_files(
        folder / "project",
        {
            "trigger.py": TRIGGER,
            "trial_patches.py": PATCHES,
            "second.py": "def f():\n    return 'original'\n",
            "work.py": WORK,
            "main.py": main,
            "autopatch.toml": """
                [plugins]
                files = ["trial_patches.py"]
                [modules]
                stub = ["stubbed"]
            """,
        },
    )


def run(folder, *arguments, **env):
    """Run a script of the project from somewhere else, and read its last line."""
    away = folder / "away"
    away.mkdir(exist_ok=True)
    active = environment(
        active=True, MX_AUTOPATCH_CONFIG=str(folder / "project" / "autopatch.toml"), **env
    )
    # Python 3.12 and later warn of a fork in a process that has threads; ours has none
    done = python(*arguments, cwd=away, env=active)
    assert done.stderr == "", done.stderr
    return json.loads(done.stdout.splitlines()[-1])


POOL = """
    import json, multiprocessing, sys
    import work

    def main(method, early):
        if early:
            work.work(0)
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            values = pool.map(work.work, range(4))
            states = pool.map(work.statuses, range(2))
            pool.close()
            pool.join()
        print(json.dumps([values, states]))

    if __name__ == "__main__":
        main(sys.argv[1], sys.argv[2] == "early")
"""


@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing(tmp_path, method, when):
    """The parent has imported the trigger before the workers start, or it has not."""
    folder = project(tmp_path, POOL)
    values, states = run(tmp_path, folder / "main.py", method, when)
    assert values == EXPECTED
    expected = [[f"trial.{name}", "APPLIED"] for name in "cfw"]
    expected.insert(2, ["trial.s", "PENDING"])
    assert states == [expected, expected]


@pytest.mark.parametrize("method", METHODS)
def test_configuration_beside_the_script(tmp_path, method):
    """Found from the script's folder; its workers, elsewhere and named -c, find the same."""
    folder = project(
        tmp_path,
        """
            import json, multiprocessing, sys

            def probe(_):
                import stubbed
                from mx_autopatch import bootstrap
                return [stubbed.__spec__.origin[:4], bootstrap.active().session.config.path]

            if __name__ == "__main__":
                context = multiprocessing.get_context(sys.argv[1])
                with context.Pool(1) as pool:
                    values = pool.map(probe, range(1))
                    pool.close()
                    pool.join()
                print(json.dumps(values))
        """,
    )
    (folder / "autopatch.toml").write_text('[modules]\nstub = ["stubbed"]\n')
    away = tmp_path / "away"
    away.mkdir()
    env = environment(active=True)
    done = python(folder / "main.py", method, cwd=away, env=env)
    assert done.stderr == ""
    assert json.loads(done.stdout) == [["stub", str(folder / "autopatch.toml")]]


def test_a_worker_unpickles_what_a_plugin_file_defines(tmp_path):
    """Its module exists under a name of ours alone, and in the worker too."""
    folder = project(
        tmp_path,
        """
            import json, multiprocessing, sys
            import trigger

            def module_of(function):
                return function.__module__

            if __name__ == "__main__":
                plugin = next(m for n, m in sys.modules.items() if n.startswith("mx_autopatch_pl"))
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    name = pool.apply(module_of, (plugin.wrapper,))
                    pool.close()
                    pool.join()
                print(json.dumps(name == plugin.__name__))
        """,
    )
    assert run(tmp_path, folder / "main.py") is True


def test_concurrent_futures_and_results_of_patched_types(tmp_path):
    folder = project(
        tmp_path,
        """
            import concurrent.futures, json, multiprocessing, sys
            import trigger

            def call(function, *args):
                return function(*args)

            if __name__ == "__main__":
                context = multiprocessing.get_context("spawn")
                with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                    values = [
                        pool.submit(trigger.f, 1).result(),
                        pool.submit(trigger.w).result(),
                        pool.submit(trigger.C).result().method(),
                        pool.submit(call, trigger.f, 2).result(),
                    ]
                print(json.dumps(values))
        """,
    )
    assert run(tmp_path, folder / "main.py") == [
        ["new", 1],
        ["wrapped", "original"],
        "new",
        ["new", 2],
    ]


def test_subprocesses(tmp_path):
    """Plain ones: the environment is theirs, whatever they run."""
    folder = project(
        tmp_path,
        """
            import json, os, subprocess, sys
            code = "import trigger, json; print(json.dumps(trigger.f(1)))"
            here = os.path.dirname(os.path.abspath(__file__))
            env = dict(os.environ)
            env["PYTHONPATH"] += os.pathsep + here
            values = []
            for arguments in (["-c", code], ["-"], ["-X", "importtime", "-c", code]):
                done = subprocess.run(
                    [sys.executable, *arguments], input=code, env=env, text=True,
                    capture_output=True, check=True,
                )
                values.append(json.loads(done.stdout))
            print(json.dumps(values))
        """,
    )
    assert run(tmp_path, folder / "main.py") == [["new", 1]] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_while_other_threads_import(tmp_path):
    """No lock of ours stays held in the child by a thread that is not there."""
    folder = project(
        tmp_path,
        """
            import importlib, json, os, signal, sys, threading, warnings
            import mx_autopatch, trigger
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
            mx_autopatch.report()
            stop = threading.Event()

            def load():
                while not stop.is_set():
                    del sys.modules["trigger"]
                    import trigger
                    trigger.f(0)

            threads = [threading.Thread(target=load)]
            for thread in threads:
                thread.start()
            codes = []
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    code = 1
                    try:
                        signal.alarm(10)
                        import second  # the import lock of trigger itself may be held
                        mx_autopatch.report()
                        code = 0 if second.f() == "new" else 2
                    finally:
                        os._exit(code)
                codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            stop.set()
            for thread in threads:
                thread.join()
            print(json.dumps(codes))
        """,
    )
    assert run(tmp_path, folder / "main.py") == [0] * 20


@pytest.mark.parametrize("method", METHODS)
def test_every_worker_writes_its_report(tmp_path, method):
    """Workers of multiprocessing end without the atexit functions of a plain process."""
    folder = project(
        tmp_path,
        """
            import json, multiprocessing, os, sys
            import work

            def end(x):
                work.work(x)
                return os.getpid()

            if __name__ == "__main__":
                work.work(0)
                context = multiprocessing.get_context(sys.argv[1])
                with context.Pool(1) as pool:
                    pid = pool.apply(end, (1,))
                    pool.close()
                    pool.join()
                process = context.Process(target=end, args=(1,))
                process.start()
                process.join()
                print(json.dumps([os.getpid(), pid, process.pid]))
        """,
    )
    path = tmp_path / "r" / "{pid}.json"
    pids = run(tmp_path, folder / "main.py", method, MX_AUTOPATCH_REPORT_PATH=str(path))
    for pid in pids:
        report = json.loads((tmp_path / "r" / f"{pid}.json").read_text())
        assert report["pid"] == pid
        found = {o["patch"]: o["status"] for o in report["outcomes"] if o["patch"] != "trial.s"}
        assert {v for k, v in found.items() if k.startswith("trial.")} == {"APPLIED"}


@pytest.mark.skipif(not INSTALLED, reason="mx_autopatch.pth is not in site-packages")
def test_the_pth_file_alone_starts_us(tmp_path):
    """Without PYTHONPATH and from any folder, also in isolated mode."""
    folder = project(tmp_path, "import sys\nprint(type(sys.meta_path[0]).__module__)\n")
    env = environment(active=True)
    del env["PYTHONPATH"]
    for flags in ([], ["-I"], ["-E"], ["-s"]):
        done = python(*flags, folder / "main.py", cwd=tmp_path, env=env)
        assert (done.stdout, done.stderr) == ("mx_autopatch.engine.finder\n", "")
    done = python("-S", folder / "main.py", cwd=tmp_path, env=env)
    assert "mx_autopatch" not in done.stdout


def test_sitecustomize_in_place_of_the_pth_file(tmp_path):
    """What people use who cannot install: a folder on PYTHONPATH."""
    folder = project(tmp_path, "import sys\nprint(type(sys.meta_path[0]).__module__)\n")
    env = environment([ROOT / "sitecustomize_template"], active=True)
    done = python(folder / "main.py", cwd=tmp_path, env=env)
    assert (done.stdout, done.stderr) == ("mx_autopatch.engine.finder\n", "")
    # the file is of Python's own start-up, so the result is the same without site-packages
    arguments = ["-c", textwrap.dedent("import sys; print(type(sys.meta_path[0]).__module__)")]
    del env["MX_AUTOPATCH"]
    done = python(*arguments, cwd=tmp_path, env=env)
    assert "mx_autopatch" not in done.stdout
    assert sys.executable
