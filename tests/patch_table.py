"""The README's table of patches: what each is for, and what becomes of it in every lane.

    python tests/patch_table.py              # measure every lane that is here, write the table
    python tests/patch_table.py --measure    # this interpreter's lane alone, as JSON

Measured is a process of the lane that imports every trigger of every patch, and, for patches
that are off by default, another one in which they are on: what the report says then. The
results are kept in ``patch_table.json``; the table stands between two markers in the README.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STORE = HERE / "patch_table.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- patches:begin -->", "<!-- patches:end -->"

#: Lane -> its heading, its interpreter, the device it runs on.
LANES = {
    "modern": ("modern", ".venv/bin/python", ""),
    "npu": ("soft NPU", ".venv-npu/bin/python", "soft"),
    "mmcv1": ("mmcv 1.x", ".venv-mmcv1/bin/python", "soft"),
}
PACKAGES = ("torch", "torch-npu", "mmcv", "mmcv-lite", "mmengine", "mmdet")
PACKAGES += ("mmsegmentation", "mmdet3d", "numpy")
ANEW = "run `make table`, which measures every lane and writes the README"
FAULTS = ("CONFLICT", "FAILED", "MISSING")

_SHOWN = 2  # targets of one patch

# -- measuring ---------------------------------------------------------------------


def lane() -> str:
    """The lane of this interpreter."""
    if (_version("mmcv") or "").startswith("1."):
        return "mmcv1"
    return "npu" if _version("torch-npu") else "modern"


def measure() -> dict[str, Any]:
    """What becomes of every patch in this interpreter's lane, in processes of their own.

    Returns:
        ``versions`` of the packages that decide it, and for each of the ``patches`` how many
        edits have which status. ABSENT are those whose trigger cannot be imported here.
    """
    from mx_autopatch import bootstrap

    catalog = bootstrap.catalog()
    every = names()
    default = [name for name in every if catalog.get(name).default]
    patches = _in_a_process(default)
    # The others beside those, which may have to make the device or a package importable.
    if len(default) < len(every):
        patches = {**_in_a_process(every), **patches}
    versions = {name: text for name in PACKAGES if (text := _version(name))}
    if "mmcv" in versions:  # it hides mmcv-lite, above which the lane mmcv1 is built
        versions.pop("mmcv-lite", None)
    return {
        "versions": versions,
        "patches": dict(sorted(patches.items())),
    }


def _in_a_process(names: list[str]) -> dict[str, Any]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MX_AUTOPATCH", "PYTHON"))}
    device = LANES[lane()][2]
    env.update({"MX_AUTOPATCH_DEVICE": device} if device else {})
    env.update(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    command = [sys.executable, str(HERE / "patch_table.py"), "--import", ",".join(names)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=HERE)
    if done.returncode:
        raise RuntimeError(f"importing every trigger failed:\n{done.stdout}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def import_triggers(names: list[str]) -> dict[str, Any]:
    """Import what these patches wait for, all in this process; what became of them."""
    from mx_autopatch import bootstrap

    warnings.simplefilter("ignore")
    bootstrap.activate(overrides={"patches.only": names, "report.level": "silent"})
    triggers = {t for name in names for t in bootstrap.catalog().get(name).triggers}
    absent = set()
    for trigger in sorted(triggers, key=lambda name: (name.partition(".")[0] != "torch", name)):
        if trigger.startswith("*."):
            continue
        try:
            import_module(trigger)
        except Exception:  # not installed, or not for the others that are
            absent.add(trigger)
    found: dict[str, Any] = {name: {"edits": Counter(), "faults": []} for name in names}
    for one in bootstrap.report():
        if one.patch not in found:
            continue
        missing = one.status.value == "PENDING" and one.trigger in absent
        found[one.patch]["edits"]["ABSENT" if missing else one.status.value] += 1
        if one.status.is_fault:
            found[one.patch]["faults"].append(f"{one.target}: {one.status}: {one.reason}")
    for each in found.values():
        each["edits"] = dict(sorted(each["edits"].items()))
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def differences() -> list[str]:
    """What is wrong with the patches in this lane, or is not as the table says."""
    measured = measure()["patches"]
    found = [fault for each in measured.values() for fault in each["faults"]]
    expected = stored()[lane()]["patches"]
    for name in sorted({*measured, *expected}):
        was, is_ = expected.get(name), measured.get(name)
        if was != is_:
            found.append(f"{name}: the table has {_outcome(was)}, measured is {_outcome(is_)}")
    return found


# -- the table ---------------------------------------------------------------------


def names() -> list[str]:
    """The names of all predefined patches, in the table's order."""
    from mx_autopatch.patches.index import INDEX

    return sorted(INDEX)


def render(stored: dict[str, Any]) -> str:
    """The table in Markdown, of the patches as they are and the outcomes as measured."""
    from mx_autopatch import bootstrap

    heads = [LANES[name][0] for name in LANES]
    lines = [
        "| patch | what for | changes | default | requires | " + " | ".join(heads) + " |",
        "|---" * (5 + len(heads)) + "|",
    ]
    for name in names():
        entry = bootstrap.catalog().get(name)
        patch = entry.load()
        cells = [
            f"`{name}`",
            _purpose(entry.documentation()),
            _changes(patch),
            "on" if patch.default else "off",
            ", ".join(map(_requirement, patch.requires)),
            *(_outcome(stored.get(lane, {}).get("patches", {}).get(name)) for lane in LANES),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", _LEGEND, ""]
    for lane in LANES:
        versions = stored.get(lane, {}).get("versions", {})
        said = ", ".join(f"{name} {text}" for name, text in versions.items())
        lines.append(f"- {LANES[lane][0]}: {said or 'not measured'}")
    return "\n".join(lines)


def _purpose(text: str) -> str:
    """The first sentence, or the first paragraph where that is none."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split()).replace("``", "`")
    return paragraph.partition(". ")[0].rstrip(".")


def _changes(patch: Any) -> str:
    texts = []
    for edit in patch.edits:
        members = [each.target.partition(":")[2] for each in getattr(edit, "edits", ())]
        text = f"`{edit.target}`"
        if members:
            text = f"{', '.join(f'`{m}`' for m in dict.fromkeys(members))} of classes from {text}"
        texts.append(text)
    texts = list(dict.fromkeys(texts))
    more = len(texts) - _SHOWN
    shown = texts if more <= 1 else texts[:_SHOWN]
    return ", ".join(shown) + (f" and {more} more" if more > 1 else "")


def _requirement(requirement: Any) -> str:
    if isinstance(requirement, str):
        return f"`{requirement}`"
    documented = (requirement.__doc__ or requirement.__name__).strip().split("\n")[0]
    return documented.rstrip(".").replace("``", "`")


_WORDS = {
    "APPLIED": "applied",
    "LATE": "applied late",
    "UNMET": "not needed",
    "PENDING": "waiting",
    "ABSENT": "not importable",
}


_LEGEND = """\
Measured with all patches together, every trigger imported: *not needed* is what has nothing
to do there or lacks a requirement, *waiting* what no import in the lane asks for, *not
importable* what is not installed in the lane, or not for the packages that are."""


def _outcome(measured: Any) -> str:
    """An outcome in words; where the edits' differ, with how many there are of each."""
    if not measured:
        return "not measured"
    edits: dict[str, int] = measured["edits"]
    counts = {word: edits[status] for status, word in _WORDS.items() if status in edits}
    counts.update({status: edits[status] for status in FAULTS if status in edits})
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def in_readme(text: str) -> str:
    """What stands between the markers."""
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def stored() -> dict[str, Any]:
    """The outcomes of every lane, as last measured."""
    found: dict[str, Any] = json.loads(STORE.read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--measure", action="store_true", help="this lane alone, as JSON")
    parser.add_argument("--import", dest="names", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.names:
        print("\n" + json.dumps(import_triggers(args.names.split(","))))
        return
    if args.measure:
        print("\n" + json.dumps(measure()))
        return
    found = stored() if STORE.exists() else {}
    for name, (_, interpreter, _) in LANES.items():
        if not (ROOT / interpreter).exists():
            print(f"{name}: {interpreter} is not there, so its outcomes stay as they were")
            continue
        command = [str(ROOT / interpreter), str(HERE / "patch_table.py"), "--measure"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        faults = [f for p in found[name]["patches"].values() for f in p["faults"]]
        print(f"{name}: {len(found[name]['patches'])} patches, {len(faults)} faults", *faults)
    write(found)


def write(found: dict[str, Any]) -> None:
    """Keep the outcomes, and put the table of them into the README."""
    STORE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{BEGIN}\n{render(found)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
