"""A registry that says why a name is not in it, and what is there already.

Why: ``KeyError: 'X is not in the model registry'`` does not tell whether X is misspelt,
     belongs to another scope, sits in a module that nobody imported, or in one whose import
     failed (mmdetection#11762, mmyolo#966); "already registered" names one of the two places,
     and strikes when a file is reloaded or imported under two names (mmdetection#3249).
How: the exception keeps its type and its text. To the first kind is added: the registries
     that hold the name, the modules that would register it and what keeps them from being
     imported, the ``custom_imports`` line, near names, a second copy of the package on the
     path. All of it is read from this process and from sources when the error is there; a
     look-up that succeeds is not touched.
     The same class registered again is no error: the newer one counts if its module was
     reloaded, the first one if the file was imported under another name. A different class
     under a name that is taken fails as before, naming both places, unless the option
     ``override`` is true.
Upstream: mmengine.registry, mmengine 0.x.
Remove when: never; it costs nothing until something fails.
"""

from mx_autopatch.model import Call, Patch, Wrap
from mx_autopatch.patches.registry_errors import explaining, tolerant

_HOME = "mmengine.registry.registry"

PATCHES = (
    Patch(
        name="mmengine.registry_errors",
        edits=(
            Wrap(f"{_HOME}:Registry.build", explaining),
            Wrap("mmengine.registry.build_functions:build_from_cfg", explaining),
            Call(_HOME, tolerant),
        ),
        options={"override": False},
    ),
)
