"""What the finder and all patches add to ``import mmdet.apis``.

mmcv-lite 2.2 and mmdet 3.3 do not import without patches. So the process to compare with
does by hand what lets them: it puts mx_autopatch.mmcv_ext into sys.modules and shows mmdet
a version of mmcv that it accepts. It has no finder, and does none of the other patches'
work.

Two accidents hit either process, and cost more than what is to be measured: one full
garbage collection more or less before the import ends (0.15 s each), and a loop inside
torch that runs just where CPython's frame stack needs another 16 KiB chunk, which 3.11
and later allocate and free again on every call (up to 0.2 s). Which process they hit
changes with a few frames or objects. So there is a second table in which both processes
have the collector off and a frame stack that is large enough.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from _common import Command, Options, Row, Target, progress, run_together, save, table

PATCHED = "import mmdet.apis\n"

BY_HAND = """\
import sys, mmcv
from mx_autopatch import mmcv_ext
sys.modules["mmcv._ext"] = mmcv._ext = mmcv_ext
version, mmcv.__version__ = mmcv.__version__, "2.1.0"
import mmdet
mmcv.__version__ = version
import mmdet.apis
"""

# A frame that asks for 70,000 slots gets a chunk of 1 MiB, and leaves half of it free.
STEADY = """\
import gc
gc.disable()
def roomy(code):
    exec(code, {{}})
roomy.__code__ = roomy.__code__.replace(co_stacksize=70_000)
roomy({!r})
"""

ON = {"MX_AUTOPATCH": "1"}
# No configuration of ours is found from here upward.
FOLDER = Path(tempfile.gettempdir())


def explain() -> str:
    """The modules that only the patched process imports, and their share, by -X importtime."""
    totals: list[dict[str, int]] = []
    for code, env in ((STEADY.format(BY_HAND), {}), (STEADY.format(PATCHED), ON)):
        best: dict[str, int] = {}
        for attempt in range(3):
            progress(f"importtime, {attempt + 1} of 3")
            command = [sys.executable, "-X", "importtime", "-c", code]
            said = subprocess.run(
                command, check=True, cwd=FOLDER, env=env, stderr=subprocess.PIPE, text=True
            ).stderr
            for own, name in re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)", said):
                best[name] = min(int(own), best.get(name, int(own)))
        totals.append(best)
    progress("")
    by_hand, patched = totals
    extra = sorted((patched[name], name) for name in patched.keys() - by_hand.keys())
    lines = [f"{own / 1000:7.1f} ms  {name}" for own, name in reversed(extra) if own >= 500]
    total = sum(own for own, _ in extra) / 1000
    return "\n".join([f"{total:7.1f} ms  {len(extra)} modules that only we import", *lines])


def main() -> None:
    options = Options(__doc__, pairs=5)
    options.parser.add_argument(
        "--explain", action="store_true", help="also list what only the patched process imports"
    )
    args = options.parse()
    missing = [name for name in ("torch", "mmcv", "mmdet") if find_spec(name) is None]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}; pip install -e '.[openmmlab]'")
    python, base, ours = sys.executable, "by hand, no finder", "MX_AUTOPATCH=1"
    plain = run_together(
        {
            base: Command(python, BY_HAND, {}, FOLDER),
            ours: Command(python, PATCHED, ON, FOLDER),
        },
        args.pairs,
    )
    steady = run_together(
        {
            base: Command(python, STEADY.format(BY_HAND), {}, FOLDER),
            ours: Command(python, STEADY.format(PATCHED), ON, FOLDER),
        },
        args.pairs,
    )
    rows = [Row(base), Row(ours, base, Target(1.02, base, is_ratio=True))]
    print(table("CPU time of import mmdet.apis", plain, rows))
    print()
    print(table("The same with the collector off and room on the frame stack", steady, rows))
    steady = {f"{label}, steady": values for label, values in steady.items()}
    save(args.output, plain, steady)
    if args.explain:
        print(f"\n{explain()}")


if __name__ == "__main__":
    main()
