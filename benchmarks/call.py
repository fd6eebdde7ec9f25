"""What a call costs through each edit, beside the unpatched function and wrapt.

The patched functions and methods do next to nothing, so the difference is all the
patch's own; a real operator takes a thousand times as long.
"""

from __future__ import annotations

import sys
import timeit
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Callable

from _common import Options, Row, Target, run_workers, save, scratch, table

CALLS = 10_000

# A function and a method each, so that no edit meets another's.
LABELS = {
    "unpatched": "unpatched",
    "replaced": "Replace",
    "guarded_off": "Replace, guard says no",
    "guarded_on": "Replace, guard says yes",
    "guarded_rest": "Replace, guard takes *args, **kwargs",
    "by_hand": "an if, written by hand",
    "wrapped": "Wrap",
    "peer": "wrapt.FunctionWrapper",
}
KINDS = ("function", "method")


def fill(folder: Path) -> None:
    """Make the module that is patched."""
    function = "def {0}(x, scale=1):\n    return x\n"
    method = "    def {0}(self, x, scale=1):\n        return x\n"
    functions, methods = ("".join(map(text.format, LABELS)) for text in (function, method))
    (folder / "benchmark_target.py").write_text(f"{functions}class Thing:\n{methods}")
    (folder / "autopatch.toml").write_text("")


def _function(x: Any, scale: Any = 1) -> Any:
    return x


def _method(self: Any, x: Any, scale: Any = 1) -> Any:
    return x


def _wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


def _dispatching(original: Any, replacement: Any) -> Any:
    """A guard as one would write it into the source."""

    def dispatch(x: Any, scale: Any = 1) -> Any:
        return replacement(x, scale=scale) if x < 0 else original(x, scale=scale)

    return dispatch


def _method_dispatching(original: Any, replacement: Any) -> Any:
    def dispatch(self: Any, x: Any, scale: Any = 1) -> Any:
        return replacement(self, x, scale=scale) if x < 0 else original(self, x, scale=scale)

    return dispatch


def _edits() -> Any:
    from mx_autopatch import Replace, Wrap

    at = "benchmark_target:"
    return (
        Replace(at + "replaced", _function),
        Replace(at + "guarded_off", _function, guard=lambda x, scale=1: x < 0),
        Replace(at + "guarded_on", _function, guard=lambda x, scale=1: x > 0),
        Replace(at + "guarded_rest", _function, guard=lambda x, *args, **kwargs: x < 0),
        Wrap(at + "wrapped", _wrapper),
        Replace(at + "Thing.replaced", _method),
        Replace(at + "Thing.guarded_off", _method, guard=lambda self, x, scale=1: x < 0),
        Replace(at + "Thing.guarded_on", _method, guard=lambda self, x, scale=1: x > 0),
        Replace(at + "Thing.guarded_rest", _method, guard=lambda self, x, *args, **kwargs: x < 0),
        Wrap(at + "Thing.wrapped", _wrapper),
    )


def tasks(folder: Path) -> Mapping[str, Callable[[], float]]:
    """Many calls through each edit."""
    import wrapt

    from mx_autopatch import Patch, activate

    activate(
        str(folder / "autopatch.toml"),
        patches=(Patch("benchmark.call", _edits()),),
        overrides={"report.level": "silent", "strict": True},
    )
    sys.path.insert(0, str(folder))
    import benchmark_target as target

    assert target.replaced is _function, "a plain replacement is not bound as it is"
    target.by_hand = _dispatching(target.by_hand, _function)
    target.Thing.by_hand = _method_dispatching(target.Thing.by_hand, _method)
    wrapt.wrap_function_wrapper(target, "peer", _wrapper)
    wrapt.wrap_function_wrapper(target, "Thing.peer", _wrapper)
    names = {**vars(target), "thing": target.Thing()}
    calls = {}
    for name, label in LABELS.items():
        for kind, owner in zip(KINDS, ("", "thing.")):
            timer = timeit.Timer(f"{owner}{name}(1, scale=2)", globals=names)
            calls[f"{kind}: {label}"] = partial(_time, timer)
    return calls


def _time(timer: timeit.Timer) -> float:
    """Seconds a call, from the depth of the stack where that is least.

    CPython 3.11 keeps its frames in chunks: where one ends just between caller and called,
    each call makes a chunk and frees it, which is 0.1 us that have nothing to do with us.
    """
    return min(_deeper(timer, depth) for depth in (0, 10, 20)) / CALLS


def _deeper(timer: timeit.Timer, depth: int) -> float:
    return _deeper(timer, depth - 1) if depth else timer.timeit(CALLS)


def main() -> None:
    args = Options(__doc__, processes=6, rounds=60).parse()
    with scratch(args, fill) as folder:
        values = run_workers(args, lambda: tasks(folder))
    if values is None:
        return
    for kind in KINDS:
        labels = {name: f"{kind}: {label}" for name, label in LABELS.items()}
        base = labels["unpatched"]
        targets = {
            # The very object that was given, as asserted above: 2 % is for the clock.
            "replaced": Target(1.02, base, is_ratio=True),
            # One call more than by hand, that of the guard.
            "guarded_off": Target(1.6, labels["by_hand"], is_ratio=True),
            "wrapped": Target(1.0, labels["peer"], is_ratio=True),
        }
        rows = [Row(base)]
        rows += [Row(labels[name], base, targets.get(name)) for name in list(LABELS)[1:]]
        print(table(f"One call of a {kind}", values, rows))
        print()
    save(args.output, values)


if __name__ == "__main__":
    main()
