"""One source file: the CUDA idioms in it, found in its syntax tree."""

from __future__ import annotations

import ast
import re
import tokenize
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mx_autopatch.scan.rules import NO_COUNTERPART, OPERATORS, RULES

__all__ = ["Finding", "read"]


@dataclass(frozen=True, order=True)
class Finding:
    """One place where the source says something that is meant for CUDA.

    Attributes:
        file, line: Where.
        rule: Which of the RULES it comes under.
        text: The source that it is about, in one line.
        patch: The patch that takes care of it; empty where none does.
        qualname: The function around it, as ``Class.method``; empty outside of any.
    """

    file: str
    line: int
    rule: str
    text: str
    patch: str
    qualname: str = ""

    @property
    def advice(self) -> str:
        return RULES[self.rule].advice


#: Methods that run in every iteration.
_HOT = re.compile(r"_?(forward|loss|predict|get_targets?|simple_test|assign|sample)|\w+_single\Z")
_DEVICE = re.compile(r"cuda(:\d+)?\Z")
_COMPILED = re.compile(r"\w+(_ext|_cuda|_C)\Z")

#: Packages, by the rule that an import of them comes under.
_PACKAGES = {
    "flash_attn": "flash-attn",
    "torch_scatter": "torch-scatter",
    "spconv": "spconv",
    "apex": "apex",
}
_EXTENSIONS = frozenset(
    {"CUDAExtension", *("cpp_extension.load", "cpp_extension.load_inline")}
    | {f"torch.utils.cpp_extension.{name}" for name in ("CUDAExtension", "load", "load_inline")}
)
_DOUBLE = frozenset({"torch.float64", "torch.double", "torch.DoubleTensor"})


def read(path: Path, name: str, gone: Mapping[str, str]) -> list[Finding]:
    """The findings in the file ``path``, in order.

    Args:
        name: How the findings call the file.
        gone: Dotted names that a library has dropped -> the patch that defines them again.

    Raises:
        SyntaxError: it is no Python that this interpreter knows.
        OSError: it cannot be read.
    """
    with tokenize.open(path) as file:
        text = file.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes, which are none of our business
        tree = ast.parse(text)
    reader = _Reader(path, name, text, gone)
    reader.visit(tree)
    return sorted(set(reader.found))


@dataclass
class _Reader(ast.NodeVisitor):
    path: Path
    name: str
    text: str
    gone: Mapping[str, str]
    found: list[Finding] = field(default_factory=list)
    #: Local name -> the dotted name that an import gave it.
    imported: dict[str, str] = field(default_factory=dict)
    #: The classes and functions around the node that is looked at.
    around: list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef] = field(
        default_factory=list
    )
    loops: int = 0
    #: Names that a comparison was assigned to, in a method that runs in every iteration.
    masks: set[str] | None = None

    def __post_init__(self) -> None:
        self.lines = self.text.splitlines()
        self.uses_torch = re.search(r"^\s*(import|from) torch\b", self.text, re.MULTILINE)

    def add(self, node: ast.expr | ast.stmt, rule: str, patch: str | None = None) -> None:
        line = self.lines[node.lineno - 1].strip() if node.lineno <= len(self.lines) else ""
        by = RULES[rule].patch if patch is None else patch
        self.found.append(Finding(self.name, node.lineno, rule, line, by, self._qualname()))

    def _qualname(self) -> str:
        """The outermost function around the node: what is inside it has no name to patch."""
        names = []
        for node in self.around:
            names.append(node.name)
            if not isinstance(node, ast.ClassDef):
                return ".".join(names)
        return ""

    def dotted(self, node: ast.AST) -> str:
        """``torch.cuda.amp`` for what an import calls that, however it is written here."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            inner = self.dotted(node.value)
            return f"{inner}.{node.attr}" if inner else ""
        return ""

    # -- imports -------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.partition(".")[0]
            self.imported[alias.asname or top] = alias.name if alias.asname else top
            self._import(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            name = f"{module.rstrip('.')}.{alias.name}" if node.module else module + alias.name
            self.imported[alias.asname or alias.name] = name
            self._import(node, name)
            if name not in _DOUBLE:  # whose uses count
                self._named(node, name)

    def _import(self, node: ast.stmt, name: str) -> None:
        top, last = name.lstrip(".").partition(".")[0], name.rpartition(".")[2]
        if top in _PACKAGES and not name.startswith("."):
            self.add(node, _PACKAGES[top])
        elif last in OPERATORS and (name == last or last.endswith("_ext")):
            self.add(node, "own-operator", OPERATORS[last])
        elif name.startswith(".") and _COMPILED.match(last) and not self._is_source(name):
            self.add(node, "cuda-extension")

    def _is_source(self, name: str) -> bool:
        """Whether a relative import finds a Python file, or a name in the package itself."""
        steps = name.lstrip(".")
        folder = self.path.parents[len(name) - len(steps) - 1]
        path = folder.joinpath(*steps.split("."))
        if path.is_dir() or path.with_suffix(".py").exists():
            return True
        parent = path.parent.with_suffix(".py")
        return parent.exists() or ("." not in steps and not (folder / "__init__.py").exists())

    # -- names and values --------------------------------------------------------------

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self.dotted(node)
        if name and self._named(node, name):
            return  # what is left of it is part of the same
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        name = self.imported.get(node.id, "")
        if name in self.gone or name in _DOUBLE:
            self._named(node, name)

    def _named(self, node: ast.expr | ast.stmt, name: str) -> bool:
        if name in self.gone:
            self.add(node, "gone-name", self.gone[name])
        elif name in _DOUBLE:
            self.add(node, "float64")
        elif name.startswith("torch.cuda."):
            part = name.split(".")[2]
            rule = "cuda-only" if part in NO_COUNTERPART else "torch-cuda"
            self.add(node, "cuda-amp" if part == "amp" else rule)
        else:
            return False
        return True

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, str):
            return
        if _DEVICE.match(node.value):
            self.add(node, "cuda-string")
        elif node.value == "nccl":
            self.add(node, "nccl")

    def visit_Compare(self, node: ast.Compare) -> None:
        # Asking for a dtype computes nothing in it.
        for part in (node.left, *node.comparators):
            if self.dotted(part) not in _DOUBLE:
                self.visit(part)

    # -- calls -------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if self.dotted(function) in _EXTENSIONS:
            self.add(node, "cuda-extension")
        if isinstance(function, ast.Attribute) and self.dotted(function) != "torch.cuda":
            if function.attr == "cuda":
                self.add(node, "cuda-method")
            elif function.attr == "double" and not node.args and self.uses_torch:
                self.add(node, "float64")
            elif function.attr == "item" and not node.args and self.loops:
                self.add(node, "item-in-loop")
        options = {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
        if "--local_rank" in options and "--local-rank" not in options:
            self.add(node, "local-rank")
        self.generic_visit(node)

    # -- methods that run in every iteration -------------------------------------------

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.around.append(node)
        self.generic_visit(node)
        self.around.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        masks, loops = self.masks, self.loops
        in_class = bool(self.around) and isinstance(self.around[-1], ast.ClassDef)
        if in_class and self.uses_torch and _HOT.match(node.name):
            self.masks = set()
        self.loops = 0
        self.around.append(node)
        self.generic_visit(node)
        self.around.pop()
        self.masks, self.loops = masks, loops

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Assign(self, node: ast.Assign) -> None:
        if self.masks is not None:
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if self._is_mask(node.value):
                self.masks |= names
            else:
                self.masks -= names
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if self.masks is not None and self._is_mask(node.slice):
            self.add(node, "mask-index")
        self.generic_visit(node)

    def _is_mask(self, node: ast.expr) -> bool:
        """Whether a value is a mask for all that the function itself says."""
        if isinstance(node, ast.Compare):
            orders = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
            return all(isinstance(each, orders) for each in node.ops)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            return self._is_mask(node.left) and self._is_mask(node.right)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            return self._is_mask(node.operand)
        return isinstance(node, ast.Name) and node.id in (self.masks or ())

    def _loop(self, node: ast.AST) -> None:
        # What is constructed is done so once, and on the CPU.
        counts = bool(self.uses_torch) and not self._qualname().endswith("__init__")
        self.loops += counts
        self.generic_visit(node)
        self.loops -= counts

    visit_For = visit_While = visit_AsyncFor = _loop
    visit_ListComp = visit_GeneratorExp = visit_SetComp = visit_DictComp = _loop
