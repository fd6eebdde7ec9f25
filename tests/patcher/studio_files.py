"""A package to patch, as files."""

from __future__ import annotations

STUDIO = {
    "studio/__init__.py": """
        def paint(x): return ("paint", x)
        class Easel:
            def hold(self, x): return ("hold", x)
            @staticmethod
            def fold(x): return ("fold", x)
    """,
    "studio/tools/__init__.py": "",
    "studio/tools/brush.py": """
        from studio import paint
        def dip(x): return ("dip", paint(x))
        class Registry:
            def __init__(self): self._module_dict = {}
            def register_module(self, name=None, module=None, force=False):
                if name in self._module_dict and not force: raise KeyError(name)
                self._module_dict[name] = module
        BRUSHES = Registry()
        class Flat: pass
        BRUSHES.register_module("Flat", Flat)
    """,
    "studio/tools/press.py": """
        from studio.tools.brush import BRUSHES
        class Press: pass
        BRUSHES.register_module("Press", Press)
    """,
}
