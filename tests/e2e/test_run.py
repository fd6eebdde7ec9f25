"""A script under ``python -m mx_autopatch`` cannot tell itself from one under python."""

from __future__ import annotations

import os
import py_compile
import shlex
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from processes import both, environ, python

posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

SCRIPTS = {
    "nothing": "",
    "output": "import sys\nprint('out')\nprint('err', file=sys.stderr)\n",
    "exit_number": "import sys\nsys.exit(3)\n",
    "exit_message": "import sys\nsys.exit('that is it')\n",
    "exit_none": "raise SystemExit\n",
    "exit_in_a_function": "def f():\n    raise SystemExit(4)\nf()\n",
    "exit_at_once": "import os\nos._exit(5)\n",
    "raise": "def f():\n    raise ValueError('no')\nf()\n",
    "raise_from": """
        try:
            1 / 0
        except ZeroDivisionError as error:
            raise KeyError('k') from error
        """,
    "raise_in_import": "import broken\n",
    "raise_keyboard_interrupt": "raise KeyboardInterrupt\n",
    "raise_own_interrupt": "class Mine(KeyboardInterrupt): pass\nraise Mine('x')\n",
    "raise_base_exception": "class Mine(BaseException): pass\nraise Mine\n",
    "syntax_error": "x = 1\ndef f(:\n",
    "indentation": "if True:\nx = 1\n",
    "future_of_ours_is_not_inherited": "def f(x: int): pass\nprint(f.__annotations__)\n",
    "warning": "import warnings\nwarnings.warn('careful', DeprecationWarning)\n",
    "syntax_warning": "x = 1\nprint(x is 1)\n",
    "excepthook": """
        import sys, traceback
        def hook(kind, value, trace):
            print(kind.__name__, value, traceback.extract_tb(trace), sys.excepthook is hook)
            print(value.__traceback__ is trace, sys.last_traceback is trace)
        sys.excepthook = hook
        raise ValueError('seen by the hook')
        """,
    "excepthook_raises": """
        import sys
        def hook(kind, value, trace):
            raise KeyError('in the hook')
        sys.excepthook = hook
        raise ValueError('outside')
        """,
    "excepthook_exits": """
        import sys
        sys.excepthook = lambda *args: sys.exit(7)
        raise ValueError
        """,
    "excepthook_untouched": "import sys\nprint(sys.excepthook is sys.__excepthook__)\n",
    "atexit": """
        import atexit
        atexit.register(print, 'first registered')
        atexit.register(print, 'second registered')
        print('end of script')
        """,
    "atexit_sees_main": """
        import atexit, sys
        class At:
            def __call__(self):
                main = sys.modules['__main__']
                print(sorted(n for n in vars(main) if n.startswith('__')), main.value)
        value = 3
        atexit.register(At())
        """,
    "atexit_after_an_exception": """
        import atexit, sys
        value = 3
        atexit.register(lambda: print(value, '__file__' in globals()))
        raise ValueError
        """,
    "atexit_after_exit": """
        import atexit, sys
        atexit.register(lambda: print('__file__' in globals()))
        sys.exit(2)
        """,
    "thread_outlives_main": """
        import threading, time
        def work():
            time.sleep(0.05)
            print('worked', name)
        name = 'x'
        threading.Thread(target=work).start()
        print('end of script')
        """,
    "thread_raises": """
        import threading
        def work():
            raise ValueError('in a thread')
        thread = threading.Thread(target=work, name='t')
        thread.start()
        thread.join()
        """,
    "names": """
        import sys, __main__
        shown = {k: v for k, v in vars(__main__).items() if k not in ('sys', '__main__')}
        shown['__builtins__'] = shown['__builtins__'].__name__
        loader = shown.pop('__loader__')
        print(shown, type(loader), loader.name, loader.path, type(__main__))
        print(__name__, __file__, __spec__, __package__, globals() is vars(__main__))
        """,
    "surroundings": """
        import json, sys
        print(json.dumps([sys.argv, sys.path, sys.flags, sys.warnoptions]))
        """,
    "modules_beside": "import beside, click\nprint(beside.__file__, click.__file__)\n",
    "pickle": """
        import pickle
        class Point:
            def __init__(self, x): self.x = x
        data = pickle.dumps(Point(3))
        print(data, pickle.loads(data).x)
        """,
    "inspect": """
        import inspect
        def f():
            return 1
        print(inspect.getsource(f), inspect.getmodule(f), inspect.getfile(f))
        """,
    "stdin": "print(input())\n",
    "doctest": "'''\n>>> 1 + 1\n2\n'''\nimport doctest\nprint(doctest.testmod())\n",
    "runs_itself_again": """
        import runpy, sys
        if __name__ == '__main__':
            print(runpy.run_path(__file__, run_name='again')['__name__'])
        """,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    files = {
        "beside.py": "",
        "click.py": "# not the click of site-packages\n",
        "broken.py": "raise RuntimeError('while it is imported')\n",
    }
    for name, source in files.items():
        (tmp_path / "sub" / name).write_text(source)
    return tmp_path


def script(folder: Path, source: str, name: str = "sub/script.py") -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(source).lstrip("\n"))
    return name


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_behaves_as_under_python(folder: Path, name: str) -> None:
    path = script(folder, SCRIPTS[name])
    plain, ours = both(path, "a", "--b=1", "-m", "--", "", cwd=folder, stdin="line\n")
    assert ours == plain


@posix
@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM", "SIGABRT"])
def test_a_signal_kills_it_as_under_python(folder: Path, signal: str) -> None:
    source = f"import os, signal, time\nos.kill(os.getpid(), signal.{signal})\ntime.sleep(9)\n"
    plain, ours = both(script(folder, source), cwd=folder)
    assert ours == plain
    assert ours.code < 0


@pytest.mark.parametrize("name", ["sub/../sub/script.py", "./sub/script.py", "link.py", "{full}"])
def test_the_script_may_be_written_in_many_ways(folder: Path, name: str) -> None:
    script(folder, SCRIPTS["names"] + SCRIPTS["surroundings"])
    (folder / "link.py").symlink_to(folder / "sub" / "script.py")
    plain, ours = both(name.format(full=folder / "sub" / "script.py"), cwd=folder)
    assert ours == plain
    assert ours.code == 0


def test_a_script_that_is_not_there(folder: Path) -> None:
    plain, ours = both("nowhere.py", cwd=folder)
    assert ours == plain
    assert ours.code == 2


@posix
@pytest.mark.parametrize("args", [("{}/sub/script.py",), ("x.py",), ("-m", "json.tool", "-h")])
def test_in_a_working_directory_that_was_deleted(folder: Path, args: tuple[str, ...]) -> None:
    script(folder, SCRIPTS["names"] + SCRIPTS["surroundings"])
    start = "mkdir gone && cd gone && rmdir ../gone && exec "
    command = [sys.executable, "-W", "error"]
    target = [arg.format(folder) for arg in args]
    plain, ours = (
        subprocess.run(
            ["sh", "-c", start + shlex.join([*command, *way, *target])],
            cwd=folder,
            env=environ(),
            capture_output=True,
            text=True,
        )
        for way in ((), ("-m", "mx_autopatch"))
    )
    assert (ours.returncode, ours.stdout, ours.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )


def test_a_script_without_suffix(folder: Path) -> None:
    plain, ours = both(script(folder, SCRIPTS["names"], "tool"), cwd=folder)
    assert ours == plain


def test_a_compiled_script(folder: Path) -> None:
    path = script(folder, SCRIPTS["names"])
    py_compile.compile(str(folder / path), cfile=str(folder / "sub" / "script.pyc"))
    plain, ours = both("sub/script.pyc", cwd=folder)
    assert ours == plain


ENDINGS = {
    "fine": "from beside import name\nprint(name)\n",
    "raises": "from beside import name\nraise ValueError(name)\n",
    "exits": "import sys\nsys.exit('gone')\n",
    "interrupted": "raise KeyboardInterrupt\n",
    "wrong": "def f(:\n",
}


@pytest.mark.parametrize("how", ["folder", "zip"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_folder_or_zip(tmp_path: Path, how: str, ending: str) -> None:
    main = textwrap.dedent(SCRIPTS["surroundings"]) + NAMES_OF_A_MODULE + ENDINGS[ending]
    script(tmp_path, main, "app/__main__.py")
    script(tmp_path, "name = 'beside it'\n", "app/beside.py")
    if how == "zip":
        with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
            for path in (tmp_path / "app").iterdir():
                archive.write(path, path.name)
    for flags in ((), ("-I",)):
        plain, ours = both("app" if how == "folder" else "app.zip", "x", cwd=tmp_path, flags=flags)
        if flags and not _is_installed():
            continue
        assert ours == plain


def _is_installed() -> bool:
    """Whether the interpreter finds the package without PYTHONPATH."""
    return python("-c", "import mx_autopatch", cwd=Path("/"), flags=("-I",)).code == 0


def test_a_folder_without_main(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    plain, ours = both("empty", cwd=tmp_path)
    assert ours == plain
    assert ours.code == 1


NAMES_OF_A_MODULE = """
print(__name__, __file__, __package__, __spec__.name, type(__loader__), __builtins__.__name__)
print(sorted(n for n in globals() if n.startswith('__')))
"""


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("module", ["pack", "pack.tool", "pack.sub.deep"])
def test_a_module(tmp_path: Path, module: str, ending: str) -> None:
    relative = {"pack": ".", "pack.tool": ".", "pack.sub.deep": "..."}[module]
    main = NAMES_OF_A_MODULE + ENDINGS[ending].replace("from beside", f"from {relative}beside")
    for name in ("pack/__main__.py", "pack/tool.py", "pack/sub/deep.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        script(tmp_path, SCRIPTS["surroundings"] + main.replace("...b", "..b"), name)
    script(tmp_path, "", "pack/__init__.py")
    script(tmp_path, "", "pack/sub/__init__.py")
    script(tmp_path, "name = 'beside it'\n", "pack/beside.py")
    plain, ours = both("-m", module, "x", "-m", "--strict", cwd=tmp_path)
    assert ours == plain


def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    plain, ours = both("-m", "no_such_module", cwd=tmp_path)
    assert ours == plain


@pytest.mark.parametrize("flags", [("-O",), ("-u", "-B"), ("-X", "utf8", "-W", "ignore"), ("-q",)])
def test_flags_of_the_interpreter_stay(folder: Path, flags: tuple[str, ...]) -> None:
    plain, ours = both(script(folder, SCRIPTS["surroundings"]), cwd=folder, flags=flags)
    assert ours == plain


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P came with 3.11")
@pytest.mark.parametrize("args", [("sub/script.py",), ("-m", "json.tool", "-h")])
def test_under_safe_path_nothing_is_put_first(folder: Path, args: tuple[str, ...]) -> None:
    script(folder, SCRIPTS["surroundings"])
    plain, ours = both(*args, cwd=folder, flags=("-P",))
    assert ours == plain


@pytest.mark.skipif(not _is_installed(), reason="-I ignores PYTHONPATH")
@pytest.mark.parametrize("args", [("sub/script.py",), ("-m", "json.tool", "-h")])
def test_isolated(folder: Path, args: tuple[str, ...]) -> None:
    script(folder, SCRIPTS["surroundings"])
    plain, ours = both(*args, cwd=folder, flags=("-I",))
    assert ours == plain


def test_a_script_called_like_a_subcommand_is_run_with_its_path(folder: Path) -> None:
    script(folder, "print(1)", "list")
    plain, ours = both("./list", cwd=folder)
    assert ours == plain
    assert ours.out == "1\n"


def test_a_module_called_like_a_subcommand(folder: Path) -> None:
    script(folder, "print(1)", "report.py")
    assert both("-m", "report", cwd=folder)[1].out == "1\n"


def test_click_and_rich_are_not_left_in_the_script(folder: Path) -> None:
    path = script(folder, "import sys\nprint({'click', 'rich'} & set(sys.modules))\n")
    assert python("-m", "mx_autopatch", path, cwd=folder).out == "set()\n"


@pytest.mark.parametrize("args", [("sub/script.py",), ("list",), ("-m", "sub.script")])
def test_what_lies_in_the_working_directory_is_not_ours(
    folder: Path, args: tuple[str, ...]
) -> None:
    script(folder, "print('ran')\n")
    for name in ("click", "rich", "inspect", "gettext", "importlib_metadata"):
        (folder / f"{name}.py").write_text("raise RuntimeError('imported')\n")
    done = python("-m", "mx_autopatch", *args, cwd=folder)
    assert done.code == 0, done.err
    assert "ran" in done.out or "numpy.aliases" in done.out


def test_interactive_goes_on_in_the_script_s_main(folder: Path) -> None:
    path = script(folder, "value = 41\n")
    ours = python("-m", "mx_autopatch", path, cwd=folder, flags=("-i",), stdin="print(value + 1)\n")
    assert "42" in ours.out


def test_engine_active_already_starts_anew(folder: Path) -> None:
    source = """
        import sys
        from mx_autopatch import bootstrap
        print([type(f).__name__ for f in sys.meta_path].count('Finder'))
        print(bootstrap.active().session.config.sources['patches.disable'])
        """
    ours = python(
        *("-m", "mx_autopatch", "--disable", "mmcv.ext", script(folder, source)),
        cwd=folder,
        env=environ(MX_AUTOPATCH="1"),
    )
    assert ours.out == "1\ncommand line --disable\n", ours.err


@pytest.mark.skipif(os.name == "nt", reason="the script of a console is a file here")
def test_the_console_script_is_the_same(folder: Path) -> None:
    wrapper = "import sys\nfrom mx_autopatch.cli import main\nsys.exit(main())\n"
    (folder / "bin").mkdir()
    command = script(folder, wrapper, "bin/mx-autopatch")
    for source in (
        SCRIPTS["surroundings"],
        SCRIPTS["raise"],
        SCRIPTS["names"],
        "raise SystemExit(3)",
    ):
        path = script(folder, source)
        plain, ours = python(path, "x", cwd=folder), python(command, path, "x", cwd=folder)
        assert ours == plain
