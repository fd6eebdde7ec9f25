"""Starts mx_autopatch where it cannot be installed: put this folder on PYTHONPATH.

Runs the sitecustomize that it shadows, exactly once, and then the engine, if
MX_AUTOPATCH is set. Any number of copies may be on the path.
"""

import os
import sys


def _run_shadowed():
    """Execute the next sitecustomize on the path, under its own name."""
    from importlib.machinery import PathFinder

    here = os.path.realpath(os.path.dirname(os.path.abspath(__file__)))
    # A further copy of this file starts its own search where this one ends.
    seen = sys.__dict__.setdefault("_mx_autopatch_sitecustomize", [])
    seen.append(here)
    path = [folder for folder in sys.path if os.path.realpath(folder or os.curdir) not in seen]
    spec = PathFinder.find_spec("sitecustomize", path)
    if spec is None or spec.loader is None:
        return
    module = type(sys)(spec.name)
    module.__spec__, module.__loader__ = spec, spec.loader
    module.__file__, module.__cached__, module.__package__ = spec.origin, spec.cached, ""
    # The import system takes from sys.modules what a module put there in its own place.
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


try:
    _run_shadowed()
finally:
    if os.environ.get("MX_AUTOPATCH", "0") not in ("", "0"):
        try:
            from mx_autopatch.bootstrap import start
        except ImportError as error:
            sys.stderr.write(
                "mx_autopatch: not active: %s; put the folder that holds the package "
                "mx_autopatch on PYTHONPATH too\n" % error
            )
        else:
            start()
