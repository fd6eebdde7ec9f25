"""What can be configured: one row a key.

The attributes of ``Config``, the sections of the file, the names of the variables
and the template of ``init`` are all read off ``KEYS``. A new key is a new row (and
an annotation in ``Config``, for mypy); a new kind of value is a new pair of methods
in ``config_values``.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself would cost more than this whole module
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["KEYS", "PREFIX", "RESERVED", "FrozenDict", "Key", "Options", "StubRule"]

PREFIX = "MX_AUTOPATCH"

# Variables of the same prefix that are not keys: the gate, the explicit file, the
# file that a parent process found, the main script of a spawned worker, the patches of a
# parent's patcher, and what the soft NPU's runtime reads itself.
RESERVED = frozenset(
    f"{PREFIX}{rest}"
    for rest in (
        *("", "_CONFIG", "_DISCOVERED", "_MAIN", "_PATCHER"),
        *("_SOFT_DEVICES", "_SOFT_FORCE", "_SOFT_MEMORY"),
    )
)

# types.MappingProxyType, without importing types.
FrozenDict = type(type.__dict__)


class StubRule(tuple[str, str]):
    """A module to be stubbed, and what ``find_spec`` shall say of it."""

    # A tuple for its equality, hash and frozenness; namedtuple would import collections.
    __slots__ = ()

    def __new__(cls, name: str, probes: str = "present") -> StubRule:
        return super().__new__(cls, (name, probes))

    def __getnewargs__(self) -> tuple[str, str]:
        return self.name, self.probes

    @property
    def name(self) -> str:
        return self[0]

    @property
    def probes(self) -> str:
        """``present`` or ``absent``."""
        return self[1]

    def __repr__(self) -> str:
        return f"StubRule(name={self.name!r}, probes={self.probes!r})"


class Options:
    """The options of the patches, looked up by the name of the patch.

    TOML reads ``[patches.options.mmcv.version_gate]`` as nested tables and
    ``[patches.options."mmcv.version_gate"]`` as one. Which table is a patch and which
    is a value of one of its options cannot be told before all patches are known, so
    ``tables`` stays as written, and a look-up follows every way to split the name.
    """

    __slots__ = ("tables",)
    tables: Mapping[str, Any]

    def __init__(self, tables: Mapping[str, Any]) -> None:
        object.__setattr__(self, "tables", tables)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"the configuration is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"the configuration is frozen: cannot delete {name!r}")

    def get(self, name: str, default: Mapping[str, Any] = FrozenDict({})) -> Mapping[str, Any]:
        """The options of patch ``name``; those of both spellings, if both are there."""
        found = _tables_of(self.tables, name)
        if not found:
            return default
        return FrozenDict({key: value for table in found for key, value in table.items()})

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        if name not in self:
            raise KeyError(name)
        return self.get(name)

    def __contains__(self, name: str) -> bool:
        return bool(_tables_of(self.tables, name))

    def __bool__(self) -> bool:
        return bool(self.tables)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and self.tables == other.tables

    __hash__ = None  # type: ignore[assignment]  # as of any mapping

    def __repr__(self) -> str:
        return f"Options({dict(self.tables)!r})"


def _tables_of(tables: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Every table that ``name`` leads to, whichever of its dots separate tables."""
    here = tables.get(name)
    found: list[Mapping[str, Any]] = [here] if isinstance(here, FrozenDict) else []
    dot = name.find(".")
    while dot >= 0:
        inner = tables.get(name[:dot])
        if isinstance(inner, FrozenDict):
            found += _tables_of(inner, name[dot + 1 :])
        dot = name.find(".", dot + 1)
    return found


class Key:
    """One key: its dotted name, kind, default, documentation and spellings elsewhere."""

    __slots__ = ("attribute", "choices", "default", "doc", "kind", "name", "option", "variables")

    def __init__(
        self,
        name: str,
        kind: str,
        default: object,
        doc: str,
        *,
        attribute: str,
        option: str | None = None,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.doc = doc
        self.attribute = attribute
        self.option = option
        self.choices = choices
        long = f"{PREFIX}_{name.replace('.', '_').upper()}"
        short = f"{PREFIX}_{option[2:].replace('-', '_').upper()}" if option else long
        self.variables = (long,) if short == long else (long, short)

    def __repr__(self) -> str:
        return f"Key({self.name!r})"


# Keys without a section first: TOML reads what follows a [section] as part of it.
KEYS = (
    Key(
        "strict",
        "flag",
        False,
        "Whether a problem (in here, or while patching) stops the program.",
        attribute="strict",
        option="--strict",
    ),
    Key(
        "device",
        "choice",
        "auto",
        "The device to patch for. soft: an NPU rehearsed on the CPU, by torch_npu on a\n"
        "stand-in for CANN; contract: no device, but torch_npu's operator schemas.",
        attribute="device",
        option="--device",
        choices=("auto", "cpu", "cuda", "npu", "soft", "contract"),
    ),
    Key(
        "brake",
        "count",
        None,
        "End the program, with status 0, after this many training steps of this run; 0:\n"
        "before the first. A step is an iteration of mmengine's or mmcv's runner, in a plain\n"
        "loop a step of the optimizer. With a profile, it ends once that is written, too.\n"
        "Empty: never.",
        attribute="brake",
        option="--brake",
    ),
    Key(
        "patches.enable",
        "names",
        (),
        "Patches to turn on that are off by default: names or globs ('mmcv.*').",
        attribute="enable",
        option="--enable",
    ),
    Key(
        "patches.disable",
        "names",
        (),
        "Patches to turn off: names or globs. Beats enable and only, but an exact name\n"
        "beats a glob.",
        attribute="disable",
        option="--disable",
    ),
    Key(
        "patches.only",
        "names",
        (),
        "Turn on nothing but these: names or globs. Empty: no such limit.",
        attribute="only",
        option="--only",
    ),
    Key(
        "patches.options",
        "options",
        Options(FrozenDict({})),
        "Options of single patches, one table a patch:\n"
        '  [patches.options."mmcv.version_gate"]\n'
        "In the environment: a TOML inline table, {mmcv.version_gate = {key = 1}}.",
        attribute="options",
    ),
    Key(
        "modules.stub",
        "stubs",
        (),
        "Modules to stand in for when they are not installed: names, or\n"
        '  {name = "open3d", probes = "absent"}\n'
        "where probes says whether find_spec finds them (default: present).\n"
        "In the environment: open3d=absent,nuscenes.",
        attribute="stub",
    ),
    Key(
        "modules.redirect",
        "redirects",
        FrozenDict({}),
        "Modules to import under another name, old = new:\n"
        '  {"mmcv.runner" = "mmengine.runner"}\n'
        "In the environment: mmcv.runner=mmengine.runner,old=new.",
        attribute="redirect",
    ),
    Key(
        "mmcv.version",
        "version",
        None,
        "The version that mmcv shall claim to have. Empty: its own.",
        attribute="mmcv_version",
    ),
    Key(
        "profile.path",
        "path",
        None,
        "A folder for traces of training steps, one of each rank; {pid} and {rank} are filled\n"
        "in. They open in TensorBoard, Perfetto and chrome://tracing, those of an NPU in\n"
        "MindStudio Insight, too. Empty: nothing is profiled.",
        attribute="profile_path",
        option="--profile",
    ),
    Key(
        "profile.level",
        "count",
        0,
        "0: what the device does; 1: what the CPU does, too; 2: with call stacks.",
        attribute="profile_level",
        choices=("0", "1", "2"),
    ),
    Key(
        "profile.wait",
        "count",
        1,
        "Steps at the beginning of each cycle in which nothing is recorded.",
        attribute="profile_wait",
    ),
    Key(
        "profile.warmup",
        "count",
        1,
        "Steps after that in which the profiler runs, but keeps nothing.",
        attribute="profile_warmup",
    ),
    Key(
        "profile.active",
        "positive",
        1,
        "Steps after that which are recorded, into one trace.",
        attribute="profile_active",
    ),
    Key(
        "profile.repeat",
        "count",
        1,
        "How many such cycles there are; 0: as many as there are steps for.",
        attribute="profile_repeat",
    ),
    Key(
        "profile.skip_first",
        "count",
        18,
        "Steps before the first cycle. The defaults record step 21, counted from 1.",
        attribute="profile_skip_first",
    ),
    Key(
        "profile.with_memory",
        "flag",
        False,
        "Whether to record what is allocated and freed.",
        attribute="profile_with_memory",
    ),
    Key(
        "profile.export",
        "choice",
        "tensorboard",
        "tensorboard: as its plugin, or MindStudio's, looks for them; chrome: one JSON file.",
        attribute="profile_export",
        choices=("tensorboard", "chrome"),
    ),
    Key(
        "plugins.files",
        "files",
        (),
        "Python files with more patches, relative to this file. Their code runs only if\n"
        "this file is trusted: mx-autopatch trust FILE.\n"
        "In the environment: separated as in PATH.",
        attribute="plugin_files",
    ),
    Key(
        "plugins.modules",
        "modules",
        (),
        "Importable modules with more patches; trusted as the files are.",
        attribute="plugin_modules",
    ),
    Key(
        "report.path",
        "path",
        None,
        "Where to write the report of each process; {pid} and {rank} are filled in.\n"
        "Empty: nowhere.",
        attribute="report_path",
        option="--report",
    ),
    Key(
        "report.level",
        "choice",
        "summary",
        "What to say on stderr when the process ends.",
        attribute="report_level",
        choices=("silent", "summary", "detail"),
    ),
)
