"""mmcv 1.x: a registry that says why a name is not in it, and what is there already.

Why: as for mmengine.registry_errors.
How: likewise; mmcv 1.x has no locations to import from, and no default scope.
Upstream: mmcv.utils.registry, mmcv 1.3 - 1.7.
Remove when: mmcv 1.x is out of use.
"""

from mx_autopatch.model import Call, Patch, Wrap
from mx_autopatch.patches.registry_errors import explaining, tolerant

PATCHES = (
    Patch(
        name="mmcv.registry_errors",
        edits=(
            Wrap("mmcv.utils.registry:Registry.build", explaining),
            Wrap("mmcv.utils.registry:build_from_cfg", explaining),
            Call("mmcv.utils.registry", tolerant),
        ),
        options={"override": False},
    ),
)
