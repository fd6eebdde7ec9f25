"""What a finder on sys.meta_path costs the import of a module that it does not care about.

Empty modules are imported with no hook, with ours (steady state, all patches enabled) and
with wrapt's (one hook registered), and the finders' own miss is timed without the import.
"""

from __future__ import annotations

import compileall
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

from _common import Options, Row, Target, run_workers, save, scratch, table

MODULES = [f"benchmark_empty_{number}" for number in range(300)]
CALLS = 20_000


def fill(folder: Path) -> None:
    """Make the modules, and a configuration that has a rule for whole packages."""
    (folder / "modules").mkdir()
    for name in MODULES:
        (folder / "modules" / f"{name}.py").touch()
    compileall.compile_dir(folder / "modules", quiet=2)
    (folder / "autopatch.toml").write_text("")
    (folder / "stub.toml").write_text('[modules]\nstub = ["benchmark_absent"]\n')


def tasks(folder: Path) -> Mapping[str, Callable[[], float]]:
    """One import of every module, or many misses, under each hook."""
    sys.path.insert(0, str(folder / "modules"))
    ours, with_stub = _our_finder(folder / "autopatch.toml"), _our_finder(folder / "stub.toml")
    wrapts = _wrapt_finder()
    return {
        "import, no hook": lambda: _imports(None),
        "import, ours": lambda: _imports(ours),
        "import, ours with a stub rule": lambda: _imports(with_stub),
        "import, wrapt": lambda: _imports(wrapts),
        "miss, ours": lambda: _misses(ours),
        "miss, ours with a stub rule": lambda: _misses(with_stub),
        "miss, wrapt": lambda: _misses(wrapts),
    }


def _our_finder(config: Path) -> Any:
    from mx_autopatch import bootstrap

    enable = {"patches.enable": sorted(bootstrap.catalog())}
    bootstrap.activate(str(config), overrides=enable)
    finder = bootstrap.active()
    assert finder is not None
    sys.meta_path.remove(finder)
    return finder


def _wrapt_finder() -> Any:
    import wrapt

    wrapt.register_post_import_hook(lambda module: None, "benchmark_never_imported")
    return sys.meta_path.pop(0)


@contextmanager
def _first(finder: Any) -> Iterator[None]:
    if finder is not None:
        sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if finder is not None:
            sys.meta_path.remove(finder)


def _imports(finder: Any) -> float:
    for name in MODULES:
        sys.modules.pop(name, None)
    with _first(finder):
        start = time.perf_counter()
        for name in MODULES:
            __import__(name)
        elapsed = time.perf_counter() - start
    return elapsed / len(MODULES)


def _misses(finder: Any) -> float:
    # The import system, too, looks find_spec up for each import.
    start = time.perf_counter()
    for _ in range(CALLS):
        finder.find_spec("benchmark_empty_1", None, None)
    return (time.perf_counter() - start) / CALLS


def main() -> None:
    args = Options(__doc__, processes=6, rounds=40).parse()
    with scratch(args, fill) as folder:
        values = run_workers(args, lambda: tasks(folder))
    if values is None:
        return
    rows = [
        Row("import, no hook"),
        Row(
            "import, ours",
            "import, no hook",
            Target(1.0, "import, wrapt", is_ratio=True),
        ),
        Row("import, ours with a stub rule", "import, no hook"),
        Row("import, wrapt", "import, no hook"),
        Row("miss, wrapt"),
        Row("miss, ours", "miss, wrapt", Target(1.0, "miss, wrapt", is_ratio=True)),
        Row("miss, ours with a stub rule", "miss, wrapt"),
    ]
    print(table("One import of an empty module, and one miss of a finder", values, rows))
    save(args.output, values)


if __name__ == "__main__":
    main()
