"""Patches and the edits they are made of: data, no behaviour.

A patch file imports this module alone and offers ``PATCHES``, a tuple of
:class:`Patch`. What an edit *does* is the engine's business.

A target is written ``module:qualname``; the module half is the trigger, whose
execution fires the edit. Steps of the qualname are attributes (``Class.method``)
or entries of a mapping (``REGISTRY._module_dict[ResNet]``).
"""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Union

from mx_autopatch.errors import PatchError, TargetError

__all__ = [
    "Before",
    "Call",
    "Context",
    "Define",
    "During",
    "Edit",
    "NotNeeded",
    "Outcome",
    "Parent",
    "Patch",
    "Provide",
    "Redirect",
    "Register",
    "Replace",
    "Requirement",
    "Rewrite",
    "Status",
    "Stub",
    "Subclasses",
    "When",
    "Wrap",
    "parse_target",
]


class _Missing(enum.Enum):
    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "<missing>"


#: "Nothing given", where None is a value like any other.
MISSING = _Missing.MISSING


class Status(str, enum.Enum):
    """What became of one edit. Nothing is reported that has not happened."""

    PENDING = "PENDING"  # the trigger was never imported
    APPLIED = "APPLIED"
    LATE = "LATE"  # applied to a module that was loaded before; its copies were rebound
    DISABLED = "DISABLED"  # switched off by the configuration, or by default
    UNMET = "UNMET"  # a requirement does not hold, or there is nothing to do
    MISSING = "MISSING"  # the target has no such attribute
    CONFLICT = "CONFLICT"  # another patch holds the target
    FAILED = "FAILED"
    REVERTED = "REVERTED"

    def __str__(self) -> str:
        return self.value

    @property
    def in_force(self) -> bool:
        """Whether the edit has changed something that is still changed."""
        return self in (Status.APPLIED, Status.LATE)

    @property
    def is_fault(self) -> bool:
        """Whether somebody should look at it: strict mode raises on these."""
        return self in (Status.MISSING, Status.CONFLICT, Status.FAILED)


class NotNeeded(Exception):
    """Raised by a factory or a :class:`Call` to say that there is nothing to do here.

    The outcome is UNMET with the exception's text as its reason.
    """


@dataclass(frozen=True)
class Context:
    """What a factory or a :class:`Call` function is given."""

    #: The trigger's module object (for :class:`During`: about to be executed).
    module: Any
    #: The patch's options: its defaults, overlaid with ``patches.options.<name>``.
    options: Mapping[str, Any]
    #: The frozen configuration (see ``mx_autopatch.engine.config.Config``).
    config: Any


def is_pattern(name: str) -> bool:
    """Whether a trigger is ``*.name``: the module ``name`` of any package."""
    return isinstance(name, str) and name[:2] == "*."


def pattern_of(module: str) -> str:
    """The pattern that ``module`` is one of; empty for a module of no package."""
    package, _, name = module.rpartition(".")
    return f"*.{name}" if package else ""


#: The module half of a target that is relative to a class (see :class:`Subclasses`).
RELATIVE = "*"

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
_STEP = re.compile(
    r"""\.?(?P<attr>[^\W\d]\w*)      # attribute
      | \[(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\]
      | \[(?P<key>[^\[\]'"]+)\]""",
    re.VERBOSE,
)


def check_module(name: Any, what: str = "module") -> str:
    """Return ``name`` if it is a dotted module name, else raise TargetError."""
    if not isinstance(name, str) or not _MODULE.match(name):
        raise TargetError(f"{what} {name!r}: not a dotted module name such as 'mmcv.ops.nms'")
    return name


def parse_target(target: Any) -> tuple[str, tuple[tuple[bool, str | int], ...]]:
    """Split ``module:qualname`` into the module and its steps.

    Each step is ``(True, attribute)`` or ``(False, key)``. A key in quotes is a
    string, digits are an integer, anything else in brackets is a string.

    >>> parse_target("mmdet.registry:MODELS._module_dict[ResNet]")
    ('mmdet.registry', ((True, 'MODELS'), (True, '_module_dict'), (False, 'ResNet')))

    In place of the module ``*`` stands for a class that is still to be found: see
    :class:`Subclasses`.

    Raises:
        TargetError: the text does not follow the grammar; the message says where.
    """
    if not isinstance(target, str):
        raise TargetError(f"target {target!r}: expected a string 'module:qualname'")
    module, colon, qualname = target.partition(":")
    if not colon or not qualname:
        raise TargetError(f"target {target!r}: expected 'module:qualname', as in 'mmcv.ops:nms'")
    if module != RELATIVE:
        check_module(module, f"target {target!r}: module")
    steps: list[tuple[bool, str | int]] = []
    position = 0
    while position < len(qualname):
        match = _STEP.match(qualname, position)
        # The first step is a bare attribute; every later attribute follows a dot.
        dotted = qualname[position] == "."
        if match is None or (match["attr"] and dotted is not bool(steps)):
            raise TargetError(
                f"target {target!r}: cannot read {qualname[position:]!r}; "
                "write attributes as 'a.b' and entries as 'a[key]'"
            )
        if match["attr"]:
            steps.append((True, match["attr"]))
        elif match["quote"]:
            steps.append((False, match["quoted"]))
        else:
            key = match["key"]
            steps.append((False, int(key) if key.isdecimal() and key.isascii() else key))
        position = match.end()
    if not steps[0][0]:
        raise TargetError(f"target {target!r}: the qualname must begin with an attribute")
    return module, tuple(steps)


Factory = Callable[[Context], Any]


@dataclass(frozen=True)
class Edit:
    """One change. ``target`` is ``module:qualname``, or a module name where an edit says so."""

    target: str

    def __post_init__(self) -> None:
        parse_target(self.target)

    @property
    def kind(self) -> str:
        return type(self).__name__.lower()

    @property
    def trigger(self) -> str:
        """The module whose execution fires this edit."""
        return self.target.partition(":")[0]


def _exactly_one(edit: Edit, **given: Any) -> None:
    # None is a value to bind, but no function.
    functions = ("factory", "wrapper", "function")
    names = [
        name
        for name, value in given.items()
        if value is not MISSING and not (value is None and name in functions)
    ]
    if len(names) != 1:
        raise PatchError(
            f"{type(edit).__name__}({edit.target!r}): give exactly one of {', '.join(given)}; "
            f"given: {', '.join(names) or 'none'}"
        )


def _callable(edit: Edit, name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise PatchError(f"{type(edit).__name__}({edit.target!r}): {name} must be callable")


@dataclass(frozen=True)
class Replace(Edit):
    """Bind ``replacement`` where the target stood.

    A replacement function takes the original's parameters under the same names,
    and is put into the same kind of descriptor (static method, class method,
    property). It is bound as it is and costs nothing per call; its ``__module__``
    and ``__qualname__`` become the original's while it is bound, so that a pickle
    made under the patch can be read without it.

    With a ``guard``, ``guard(*args, **kwargs)`` picks the replacement (true) or the
    original for each call. Only the guard decides: what the replacement raises
    reaches the caller. A guard that itself raises counts as false and is reported
    once.

    A class given for a class is applied in place, attribute by attribute, so that
    isinstance, super() and pickles keep working; a *subclass* of the original is
    bound in its place instead, since it calls its base.

    ``factory(context)`` may be given in place of ``replacement``, for what can only
    be made once the module is there.
    """

    replacement: Any = MISSING
    guard: Callable[..., bool] | None = None
    factory: Factory | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _exactly_one(self, replacement=self.replacement, factory=self.factory)
        _callable(self, "guard", self.guard)
        _callable(self, "factory", self.factory)


@dataclass(frozen=True)
class Wrap(Edit):
    """Call ``wrapper(wrapped, instance, args, kwargs)`` in place of the target.

    wrapt's convention: for a method ``wrapped`` is bound and ``instance`` is the
    object (the class for a class method), else ``instance`` is None. For a class the
    wrapper is called where the class is, and returns what ``wrapped(...)`` returned.

    In place of a wrapper a ``decorator`` may be given: ``decorator(function)`` makes what is
    bound of what stands there, out of its descriptor. With a ``guard`` each call goes to
    the one or to the other, as in :class:`Replace`.
    """

    wrapper: Any = None
    decorator: Callable[[Any], Any] | None = None
    guard: Callable[..., bool] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {"wrapper": self.wrapper, "decorator": self.decorator}
        _exactly_one(self, **{k: MISSING if v is None else v for k, v in given.items()})
        for name in ("wrapper", "decorator", "guard"):
            _callable(self, name, getattr(self, name))
        if self.guard is not None and self.decorator is None:
            raise PatchError(f"Wrap({self.target!r}): a guard goes with a decorator")


@dataclass(frozen=True)
class Rewrite(Edit):
    """Change statements or expressions inside the function ``target``, by its syntax tree.

    ``find`` and ``replace`` are Python source: an expression, or statements. In ``find``
    each ``$name`` stands for any expression (or, where Python wants a bare name, as after
    a dot, for any name), the same one wherever it is written again; ``replace`` writes
    what was found. Statements match a run of neighbours in one block, nested functions
    included. How it is laid out, and whether it is read or assigned to, is no matter::

        Rewrite(
            "mmdet.models.backbones.resnet:BasicBlock.forward",
            find="out += $x; out = self.relu(out)",   # or on two lines
            replace="out = add_relu(out, $x)",
            names={"add_relu": add_relu},
        )

    An empty ``replace`` takes statements out. ``names`` are given to the function beside
    its globals, for what ``replace`` calls; none may have a meaning in it already.

    ``find`` has to be there exactly ``count`` times (matches do not overlap; of nested ones
    the outer counts), else the outcome is MISSING and shows the most similar code.

    The function is compiled anew when it is patched, from its own source with those places
    changed: parameters, defaults, annotations, closure, ``super()``, globals, name and
    attributes are the original's, and its decorators are not run again: around what they
    have made, the same is made with the new function in it. Where the source is not there,
    is not that of the running code, or a decorator hides the function, the outcome is
    FAILED and says so.

    Line numbers are those of the original file. The file name of the new code has
    ``<qualname rewritten by patch>`` behind it, under which linecache holds the new
    source, so that tracebacks, ``inspect.getsource`` and TorchScript show what runs.
    Where ``replace`` needs more lines than what it replaces, the rest of them share the
    number of the last.
    """

    find: str = ""
    replace: str = ""
    count: int = 1
    names: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        what = f"Rewrite({self.target!r})"
        for name in ("find", "replace"):
            if not isinstance(getattr(self, name), str):
                raise PatchError(f"{what}: {name} must be source code, as a string")
        if not self.find.strip():
            raise PatchError(f"{what}: find must not be empty")
        if type(self.count) is not int or self.count < 1:
            raise PatchError(f"{what}: count must be a positive integer, not {self.count!r}")
        for name in self.names:
            if not (isinstance(name, str) and name.isidentifier()):
                raise PatchError(f"{what}: names: {name!r} is no name of a variable")


@dataclass(frozen=True)
class Define(Edit):
    """Give the target a value only if it has none."""

    value: Any = MISSING
    factory: Factory | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _exactly_one(self, value=self.value, factory=self.factory)
        _callable(self, "factory", self.factory)


@dataclass(frozen=True)
class Register(Edit):
    """Put a class or function into the mmcv/mmengine Registry that the target names.

    ``name`` defaults to the object's own; an entry that exists already is a
    CONFLICT unless ``force`` is true.
    """

    obj: Any = MISSING
    factory: Factory | None = None
    name: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _exactly_one(self, obj=self.obj, factory=self.factory)
        _callable(self, "factory", self.factory)


@dataclass(frozen=True)
class Provide(Edit):
    """A virtual module ``target``, only where no real one can be imported.

    Its content is the public namespace of the module ``source``, with that module's
    ``__getattr__`` and ``__dir__``. A real module that is found but fails to load
    (an extension built for another torch) is replaced too.

    ``*.name`` stands for the module ``name`` of any package, for what every project keeps
    a copy of in its own tree. The outcome names the module that it was found to be; a
    Provide of that very module comes first.
    """

    source: str = ""

    def __post_init__(self) -> None:
        one = is_pattern(self.target) and "." not in self.target[2:]
        check_module(self.target[2:] if one else self.target, "Provide: module")
        check_module(self.source, f"Provide({self.target!r}): source")


@dataclass(frozen=True)
class Redirect(Edit):
    """The module ``to`` answers for ``target``, submodules included.

    With ``if_missing`` only where ``target`` itself is not importable.
    """

    to: str = ""
    if_missing: bool = False

    def __post_init__(self) -> None:
        check_module(self.target, "Redirect: module")
        check_module(self.to, f"Redirect({self.target!r}): to")
        if self.to == self.target:
            raise PatchError(f"Redirect({self.target!r}): a module cannot answer for itself")


@dataclass(frozen=True)
class During(Edit):
    """While ``module`` executes, its own code reads ``target`` as ``value``.

    ``target`` is an attribute of a module (``mmcv:__version__``). Every other
    module, and every other thread, goes on reading the true value.
    """

    module: str = ""
    value: Any = MISSING
    factory: Factory | None = None

    def __post_init__(self) -> None:
        check_module(self.module, f"During({self.target!r}): module")
        if len(parse_target(self.target)[1]) != 1:
            raise TargetError(
                f"During: target {self.target!r}: expected an attribute of a module, "
                "as in 'mmcv:__version__'"
            )
        _exactly_one(self, value=self.value, factory=self.factory)
        _callable(self, "factory", self.factory)

    @property
    def trigger(self) -> str:
        return self.module


@dataclass(frozen=True)
class Call(Edit):
    """Call ``function(context)`` on the module ``target`` once it has executed.

    For what no other edit can say. What it assigned to the module, to the module's
    classes and to its registries is found by comparing before and after, and is
    taken back on revert. It may return a string, which becomes the outcome's reason,
    a function that takes back what it changed elsewhere, or the two as a pair. Of a
    reason of several lines the summary shows the first.

    With ``copies`` false, what other modules had copied of the objects that it replaced
    stays as it is.

    With ``below`` true, a submodule that the function asks a package for is imported on
    demand (``module.ops.nms``, where ``import module`` does not load ``module.ops``), and
    what it assigned to any submodule is found and taken back, too.
    """

    function: Any = None
    copies: bool = True
    below: bool = False

    def __post_init__(self) -> None:
        check_module(self.target, "Call: module")
        _exactly_one(self, function=self.function)
        _callable(self, "function", self.function)


@dataclass(frozen=True)
class Before(Edit):
    """Call ``function(context)`` when the module ``target`` is about to execute.

    For what must be there first, such as a library that the module links. It is called
    with the module still empty, and each time it executes; for a module that was loaded
    before us it is too late, and the outcome is UNMET. It may return a string, which
    becomes the outcome's reason, a function, called when the module has executed or has
    failed to, that takes back what was meant for that time alone, or the two as a pair.
    """

    function: Any = None

    def __post_init__(self) -> None:
        check_module(self.target, "Before: module")
        _exactly_one(self, function=self.function)
        _callable(self, "function", self.function)


@dataclass(frozen=True)
class Subclasses(Edit):
    """Apply ``edits`` to each class derived from the class ``target`` that ``match`` accepts.

    For what every project keeps a copy of, wherever that is: ``match(cls)`` is called once
    for each existing class that derives from the target, at whatever distance, and for each
    later one as its class statement ends (before its decorators run and its name is bound).
    What is true is a match; a string says why, and is told in the outcome. A ``match``
    that raises counts as false and is reported once.

    ``edits`` are Replace, Wrap, Define and Rewrite; their targets are members of the class,
    written ``*:member``. They are applied in place, all or none to a class, and a factory's
    ``context.module`` is the class. A class that inherits the patched member from another
    match is left at that.

    The outcome names every matched class and why it is one. A class to which the edits
    cannot be applied is named with the reason, and makes the outcome the fault that it is;
    its class statement is not disturbed. A class escapes whose ``__init_subclass__`` comes
    from a class that is not derived from the target and does not call ``super()``: it is
    named in the outcome too.
    """

    match: Any = None
    edits: tuple[Edit, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        what = f"Subclasses({self.target!r})"
        _exactly_one(self, match=MISSING if self.match is None else self.match)
        _callable(self, "match", self.match)
        object.__setattr__(self, "edits", tuple(self.edits))
        if not self.edits:
            raise PatchError(f"{what}: edits must hold at least one edit")
        for edit in self.edits:
            if not isinstance(edit, (Replace, Wrap, Define, Rewrite)):
                raise PatchError(f"{what}: {edit!r} is no Replace, Wrap, Define or Rewrite")
            module, steps = parse_target(edit.target)
            if module != RELATIVE or len(steps) != 1:
                raise TargetError(f"{what}: target {edit.target!r}: expected '*:member'")


@dataclass(frozen=True)
class When(Edit):
    """Carry ``edit`` out only if ``condition(context)`` is true when it would fire.

    Else the outcome is UNMET; a condition may return a string that says why. The patch's
    other edits are not held up. Its target is the edit's.
    """

    target: str = ""
    edit: Any = None
    condition: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.edit, (Replace, Wrap, Define, Register, Rewrite, Call)):
            raise PatchError(f"When: {self.edit!r} is no edit of a module that has executed")
        object.__setattr__(self, "target", self.edit.target)
        _exactly_one(self, condition=MISSING if self.condition is None else self.condition)
        _callable(self, "condition", self.condition)

    @property
    def kind(self) -> str:
        kind: str = self.edit.kind
        return kind


@dataclass(frozen=True)
class Stub(Edit):
    """The module ``target``, submodules included, can be imported, and is of no use.

    What is taken from it may be named, inherited from and passed on; using it raises
    StubError, which says ``reason``.
    """

    reason: str = ""

    def __post_init__(self) -> None:
        check_module(self.target, "Stub: module")


@dataclass(frozen=True)
class Parent(Edit):
    """The package ``target`` where there is none, for the import of ``child`` alone.

    A Redirect or a Provide of ``package.module`` needs the package to be importable, too.
    To whoever looks for the package itself it stays absent. Once the child has been
    imported, Python keeps it in ``sys.modules``: what it is asked for beside the child
    is an AttributeError, and no requirement takes it for installed.
    """

    child: str = ""

    def __post_init__(self) -> None:
        check_module(self.target, "Parent: module")
        if not check_module(self.child, "Parent: child").startswith(self.target + "."):
            raise PatchError(f"Parent({self.target!r}): {self.child!r} is not in that package")


#: A version condition ("mmcv>=1.3", "python>=3.10"), a capability ("device:npu",
#: "module:mx_driving"), or a function returning True or why not.
Requirement = Union[str, Callable[[], Union[bool, str]]]

_PATCH_NAME = re.compile(r"[^\W\d]\w*(\.\w+)*\Z")


@dataclass(frozen=True)
class Patch:
    """A named, documented unit of change, on or off as a whole.

    Args:
        name: ``scope.key`` (``mmcv.deform_conv2d``).
        edits: The changes. Those that share a trigger apply whole or not at all.
        requires: Conditions, decided once, when an edit would fire.
        default: Whether the patch is on without being asked for.
        priority: Smaller is earlier; of two patches that replace one target, the
            earlier has it and the later is a CONFLICT.
        options: Names and defaults of what ``patches.options.<name>`` may set.
        doc: Why and how; the patch file's docstring if empty.
    """

    name: str
    edits: tuple[Edit, ...]
    requires: tuple[Requirement, ...] = ()
    default: bool = True
    priority: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    doc: str = ""
    #: The module that made the patch. What it wrote itself is the patch's own.
    origin: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", sys._getframe(2).f_globals.get("__name__", ""))
        if not isinstance(self.name, str) or not _PATCH_NAME.match(self.name):
            raise PatchError(f"Patch name {self.name!r}: expected 'scope.key', as in 'mmcv.nms'")
        for name in ("edits", "requires"):
            value = getattr(self, name)
            if not isinstance(value, (tuple, list)):
                raise PatchError(f"Patch {self.name!r}: {name} must be a tuple, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        if not self.edits or not all(isinstance(edit, Edit) for edit in self.edits):
            raise PatchError(f"Patch {self.name!r}: edits must hold at least one edit, and no else")
        for edit in self.edits:
            if edit.trigger == RELATIVE:
                raise PatchError(
                    f"Patch {self.name!r}: target {edit.target!r}: '*' stands for a class only "
                    "in the edits of a Subclasses"
                )

    @property
    def triggers(self) -> tuple[str, ...]:
        """The modules that fire this patch, each once, in the order of the edits."""
        return tuple(dict.fromkeys(edit.trigger for edit in self.edits))


@dataclass(frozen=True)
class Outcome:
    """What became of one edit in this process."""

    patch: str
    kind: str
    target: str
    trigger: str
    status: Status
    reason: str = ""
    #: Copies elsewhere that were rebound, as ``module:name``.
    rebound: tuple[str, ...] = ()
    #: Copies that could not be reached, in words (closures, default arguments).
    unreachable: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The outcome as JSON types."""
        return {
            "patch": self.patch,
            "kind": self.kind,
            "target": self.target,
            "trigger": self.trigger,
            "status": self.status.value,
            "reason": self.reason,
            "rebound": list(self.rebound),
            "unreachable": list(self.unreachable),
        }
