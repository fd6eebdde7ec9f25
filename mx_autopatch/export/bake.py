"""mmcv's operators inside the package, for an mmcv without a compiled extension.

mmcv.ops asks its extension for all names when it is imported, and calls a few. Those few
are copied from mx_autopatch with what they need, statement by statement; the package puts
them in place of ``mmcv._ext`` if mmcv has none.
"""

from __future__ import annotations

from mx_autopatch.export.closure import Closure, Symbol, closure
from mx_autopatch.export.emit import PACK, Emitter, Layout
from mx_autopatch.export.statements import statements_of
from mx_autopatch.mmcv_ext.names import NAMES
from mx_autopatch.registries.resolve import resolve
from mx_autopatch.registries.search import Registered
from mx_autopatch.registries.sources import Source
from mx_autopatch.registries.static import Model

__all__ = ["bake", "called_in_extension"]

_OURS = "mx_autopatch"
_HOME = f"{_OURS}.mmcv_ext"
_AUTOCAST = Symbol(f"{_OURS}.ops._autocast", "compute_outside_autocast")

_INSTALL = '''"""mmcv._ext, where mmcv has no compiled operators: those that this package needs."""

import importlib.util
import sys
import types

import mmcv
from torch._library.custom_ops import OPDEFS

{imports}
from {pack}.ops._autocast import compute_outside_autocast

FUNCTIONS = {{
{functions}}}

#: What mmcv.ops asks for when it is imported, and this package does not call.
OTHERS = (
{others})


def _missing(name):
    def function(*args, **kwargs):
        raise NotImplementedError(f"mmcv._ext.{{name}} is not part of this package")

    return function


def install():
    """Put the functions in place of mmcv._ext, unless it is there."""
    if importlib.util.find_spec("mmcv._ext") is not None:
        return
    module = types.ModuleType("mmcv._ext", __doc__)
    module.__dict__.update({{name: _missing(name) for name in OTHERS}}, **FUNCTIONS)
    sys.modules["mmcv._ext"] = mmcv._ext = module
    mine = [name.partition("::")[2] for name in list(OPDEFS) if name.startswith("{pack}::")]
    compute_outside_autocast(mine)
'''


def called_in_extension(found: Closure) -> list[str]:
    """The functions of ``mmcv._ext`` that the package may call, by way of mmcv.ops."""
    model = found.model
    roots = {
        Symbol(need.module, need.attribute)
        for needs in found.needs.values()
        for need in needs.values()
        if need.module.startswith("mmcv.ops") and need.attribute
    }
    roots |= {Symbol(m.module, m.name) for m in found.nested if m.module.startswith("mmcv.ops")}
    defined = set()
    for root in roots:
        source = model.sources.get(root.module)
        meaning = resolve(model.sources, source, root.name) if source is not None else None
        if meaning is not None and meaning.name:
            defined.add(Symbol(meaning.module, meaning.name))
    inner = closure(model, ["mmcv"], defined, Registered(model, []))
    chains = set()
    for module, taken in inner.statements.items():
        source = model.sources.get(module)
        # batched_nms finds the function that is to suppress by eval: any of its module.
        whole = source is not None and "eval(" in source.text
        statements = statements_of(source) if source and whole else taken.values()
        chains |= {chain for statement in statements for chain in statement.chains}
    return sorted({chain.split(".")[1] for chain in chains if chain.startswith("ext_module.")})


def bake(found: Closure) -> dict[str, str]:
    """The files of the operators that a package needs; none if it needs none."""
    names = called_in_extension(found)
    if not names:
        return {}
    model = found.model
    homes = {name: _home(model, name) for name in names}
    known = {name: home for name, home in homes.items() if home is not None}
    roots = [Symbol(home.name, name) for name, home in known.items()]
    inner = closure(model, [_OURS], [*roots, _AUTOCAST], Registered(model, []))
    sources = {name: model.sources.get(name) for name in inner.statements}
    layout = Layout({n: s for n, s in sources.items() if s is not None}, _OURS)
    emitter = Emitter(inner, layout)
    files = {
        layout[name].replace(".", "/") + ".py": _own_namespace(emitter.module(name))
        for name in sorted(inner.statements)
    }
    imports = [f"from {layout[home.name]} import {name}" for name, home in sorted(known.items())]
    files[f"{PACK}/mmcv_ext/install.py"] = _INSTALL.format(
        pack=PACK,
        imports="\n".join(imports),
        functions="".join(f'    "{name}": {name},\n' for name in sorted(known)),
        others="".join(f'    "{name}",\n' for name in sorted(NAMES) if name not in known),
    )
    return files


def _home(model: Model, name: str) -> Source | None:
    """The module of ours that has a function of the extension."""
    for source in model.sources.of(_HOME):
        if source.name != _HOME and name in source.names and not source.name.endswith(".names"):
            return source
    return None


def _own_namespace(text: str) -> str:
    """The operators in a namespace of the package's, beside mx_autopatch where both are."""
    for before, after in (("{}::", "{}::"), ("torch.ops.{}.", "torch.ops.{}."), ('"{}"', '"{}"')):
        text = text.replace(before.format(_OURS), after.format(PACK))
    return text
