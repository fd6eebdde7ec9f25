"""Starts mx_autopatch where it cannot be installed: put this folder on PYTHONPATH.

Runs the sitecustomize that it hides, exactly once, and then the engine, if MX_AUTOPATCH
is set. Any number of copies may be on the path.
"""

import os
import sys

_HERE = os.path.realpath(os.path.dirname(os.path.abspath(__file__)))


def _run_hidden():
    """Execute the next sitecustomize on the path, under its own name."""
    from importlib.machinery import PathFinder

    # A further copy of this file starts its own search where this one ends.
    seen = sys.__dict__.setdefault("_mx_autopatch_sitecustomize", [])
    seen.append(_HERE)
    path = [folder for folder in sys.path if os.path.realpath(folder or os.curdir) not in seen]
    spec = PathFinder.find_spec("sitecustomize", path)
    if spec is None or spec.loader is None:
        return
    # By hand, since importlib.util would cost every start of python its own imports.
    module = type(sys)(spec.name)
    module.__spec__, module.__loader__, module.__package__ = spec, spec.loader, spec.parent
    module.__file__, module.__cached__ = spec.origin, spec.cached
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    # The import system takes from sys.modules what a module put there in its own place.
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


def _start():
    try:
        import mx_autopatch  # noqa: F401 - is it there?
    except ImportError:
        # Not copied but used where it lies: the package is beside, or round it. Last on
        # the path, where it comes before nobody.
        above = os.path.dirname(_HERE)
        for home in (above, os.path.dirname(above)):
            if os.path.isfile(os.path.join(home, "mx_autopatch", "bootstrap.py")):
                sys.path.append(home)
                break
    try:
        from mx_autopatch.bootstrap import start
    except ImportError as error:
        sys.stderr.write(
            "mx_autopatch: not active: " + str(error) + "; put the folder that holds the package "
            "mx_autopatch on PYTHONPATH too\n"
        )
    else:
        start()


try:
    _run_hidden()
finally:
    # PYTHONPATH reaches every Python that the program starts, also those too old for us.
    if os.environ.get("MX_AUTOPATCH", "0") not in ("", "0") and sys.version_info >= (3, 9):
        _start()
