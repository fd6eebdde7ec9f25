"""Edits of whole modules: which answers for a name, and what runs round its execution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mx_autopatch.errors import PatchError, TargetError
from mx_autopatch.model.base import MISSING, Edit, Factory, check_callable, exactly_one
from mx_autopatch.model.edits import Define, Register, Replace, Rewrite, Wrap
from mx_autopatch.model.targets import check_module, is_pattern, parse_target


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
        exactly_one(self, value=self.value, factory=self.factory)
        check_callable(self, "factory", self.factory)

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
        exactly_one(self, function=self.function)
        check_callable(self, "function", self.function)


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
        exactly_one(self, function=self.function)
        check_callable(self, "function", self.function)


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
        exactly_one(self, condition=MISSING if self.condition is None else self.condition)
        check_callable(self, "condition", self.condition)

    @property
    def kind(self) -> str:
        kind: str = self.edit.kind
        return kind
