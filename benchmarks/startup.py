"""What an installed mx_autopatch adds to the start of every interpreter.

Virtual environments with the same files in site-packages (ours, wrapt, autowrapt, what
they need, setuptools' _distutils_hack, and the metadata of everything that is installed
here, since reading entry points scans it) that differ in their .pth files only.
"""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from _common import HERE, Command, Options, Row, Target, compare, run_commands, save, scratch, table

PACKAGES = ("mx_autopatch", "wrapt", "autowrapt", "importlib_metadata", "packaging", "zipp")
INSTALLED = Path(sysconfig.get_path("purelib"))
OURS = HERE.parent / "sitecustomize_template" / "mx_autopatch"
AUTOWRAPT = INSTALLED / "autowrapt-init"
# torch requires setuptools, so ours is never the only .pth file where it is used.
SETUPTOOLS = "distutils-precedence.pth"
SETUPTOOLS_LINE = """\
import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; \
enabled and __import__('_distutils_hack').add_shim();
"""

# Targets in milliseconds mean a machine of some speed with nothing else to do: this is
# what `python -c pass` took on the one on which they were set.
QUIET = 11.2e-3

# name -> (whether setuptools' file is there, the file to be measured)
ENVIRONMENTS = {
    "usual": (True, None),
    "ours": (True, OURS),
    "autowrapt": (True, AUTOWRAPT),
    "none": (False, None),
    "ours_alone": (False, OURS),
}


def fill(folder: Path) -> None:
    """Make the virtual environments."""
    for name, (has_setuptools, startup_file) in ENVIRONMENTS.items():
        command = [sys.executable, "-m", "venv", "--without-pip", str(folder / name)]
        subprocess.run(command, check=True)
        site = next((folder / name / "lib").glob("python*/site-packages"))
        for package in PACKAGES:
            _copy(package, site)
        (site / "_distutils_hack").mkdir()
        (site / "_distutils_hack" / "__init__.py").write_text("def add_shim(): pass\n")
        for info in INSTALLED.glob("*.dist-info"):
            shutil.copytree(info, site / info.name)
        if has_setuptools:
            (site / SETUPTOOLS).write_text(SETUPTOOLS_LINE)
        for ending in (".pth", ".start"):  # Python 3.15 reads the second
            if startup_file is not None and startup_file.with_suffix(ending).exists():
                shutil.copy(startup_file.with_suffix(ending), site)
        (site / "empty_module.py").touch()
        compileall.compile_dir(site, quiet=2)


def _copy(package: str, site: Path) -> None:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed; python -m pip install -e '.[bench]'")
    leave_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(spec.origin).parent, site / package, ignore=leave_out)


def main() -> None:
    options = Options(__doc__, rounds=800, others=30)
    args = options.parse()
    on = {"MX_AUTOPATCH": "1"}

    with scratch(args, fill) as folder:

        def python(name: str, code: str, **env: str) -> Command:
            return Command(folder / name / "bin" / "python", code, env, folder)

        added = run_commands(
            {
                "python -c pass": python("usual", "pass"),
                "ours, MX_AUTOPATCH unset": python("ours", "pass"),
                "ours, MX_AUTOPATCH=1, no config": python("ours", "pass", **on),
                "autowrapt, nothing enabled": python("autowrapt", "pass"),
                "no .pth file at all": python("none", "pass"),
                "ours the only one, unset": python("ours_alone", "pass"),
            },
            args.rounds,
        )
        group = {"AUTOWRAPT_BOOTSTRAP": "autowrapt.examples"}
        scale = run_commands(
            {
                "no import": python("usual", "pass"),
                "autowrapt, one hook group": python("autowrapt", "pass", **group),
                "import re": python("usual", "import re"),
                "import importlib.metadata": python("usual", "import importlib.metadata"),
                "import wrapt": python("usual", "import wrapt"),
                "import an empty module": python("usual", "import empty_module"),
                "the same, MX_AUTOPATCH=1": python("ours", "import empty_module", **on),
            },
            args.others,
        )
    base, bare = "python -c pass", "no .pth file at all"
    rows = [
        Row(base),
        Row("ours, MX_AUTOPATCH unset", base, Target(0.2e-3, base)),
        Row("ours, MX_AUTOPATCH=1, no config", base, Target(3e-3, base)),
        Row("autowrapt, nothing enabled", base),
        Row(bare),
        Row("ours the only one, unset", bare),
    ]
    print(table("Start-up, in a virtual environment that has setuptools' .pth file", added, rows))
    print(f"On a machine that starts Python in {QUIET * 1e3:.1f} ms, by the ratios:")
    for label, against, target in rows:
        if against is not None and target is not None:
            ratio, error = compare(added, label, against, is_ratio=True)
            more, give = (ratio - 1) * QUIET * 1e3, error * QUIET * 1e3
            print(f"  {label}: {more:+.2f} ± {give:.2f} ms ({target})")
    rows = [
        Row("no import"),
        Row("autowrapt, one hook group", "no import"),
        Row("import re", "no import"),
        Row("import importlib.metadata", "no import"),
        Row("import wrapt", "no import"),
        Row("import an empty module"),
        Row("the same, MX_AUTOPATCH=1", "import an empty module"),
    ]
    print()
    print(table("For scale, and what the first import of a foreign module costs", scale, rows))
    save(args.output, added, scale)


if __name__ == "__main__":
    main()
