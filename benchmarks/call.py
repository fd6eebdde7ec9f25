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

CALLS = 20_000

# One function and one method for each label, so that no edit meets another's.
NAMES = ("unpatched", "replaced", "guarded_off", "guarded_on", "by_hand", "wrapped", "peer")


def fill(folder: Path) -> None:
    """Make the module that is patched."""
    function = "def {0}(x, scale=1):\n    return x\n"
    method = "    def {0}(self, x, scale=1):\n        return x\n"
    functions, methods = ("".join(map(text.format, NAMES)) for text in (function, method))
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
        Wrap(at + "wrapped", _wrapper),
        Replace(at + "Thing.replaced", _method),
        Replace(at + "Thing.guarded_off", _method, guard=lambda self, x, scale=1: x < 0),
        Replace(at + "Thing.guarded_on", _method, guard=lambda self, x, scale=1: x > 0),
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
    functions = {name: f"{name}(1, scale=2)" for name in NAMES}
    methods = {f"method {name}": f"thing.{name}(1, scale=2)" for name in NAMES}
    names = {**vars(target), "thing": target.Thing()}
    timers = {k: timeit.Timer(v, globals=names) for k, v in {**functions, **methods}.items()}
    return {label: partial(_time, timer) for label, timer in timers.items()}


def _time(timer: timeit.Timer) -> float:
    return timer.timeit(CALLS) / CALLS


def main() -> None:
    args = Options(__doc__, processes=6, rounds=60).parse()
    with scratch(args, fill) as folder:
        values = run_workers(args, lambda: tasks(folder))
    if values is None:
        return
    for kind, before in (("function", ""), ("method", "method ")):
        base, peer = f"{before}unpatched", f"{before}peer"
        rows = [
            Row(base),
            # The very object that was given, as asserted above: 2 % is for the clock.
            Row(f"{before}replaced", base, Target(1.02, base, is_ratio=True)),
            Row(f"{before}guarded_off", base),
            Row(f"{before}guarded_on", base),
            Row(f"{before}by_hand", base),
            Row(f"{before}wrapped", base, Target(1.0, peer, is_ratio=True)),
            Row(peer, base),
        ]
        print(table(f"One call of a {kind} (peer: wrapt; by_hand: an if)", values, rows))
        print()
    save(args.output, values)


if __name__ == "__main__":
    main()
