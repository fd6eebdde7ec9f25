"""``mx_driving.patcher`` where mx_driving is not installed.

Why: hundreds of migrations import ``Patch``, ``PatcherBuilder``, ``default_patcher`` and the
     predefined patches from there; mx_driving itself can be imported with CANN and
     torch_npu alone.
How: mx_autopatch.patcher, which has the same names, answers for it, submodules included. Of
     ``mx_driving`` there is then only the place that ``mx_driving.patcher`` needs: who looks
     for mx_driving or for its kernels finds that they are not there.
Upstream: mx_driving.patcher of DrivingSDK 26.2, its documentation of 1.0 and 2.0.
Remove when: mx_driving's patcher is a package of its own.
"""

from mx_autopatch.model import Parent, Patch, Redirect

PATCHES = (
    Patch(
        name="mx_driving.patcher",
        edits=(
            Parent("mx_driving", child="mx_driving.patcher"),
            Redirect("mx_driving.patcher", to="mx_autopatch.patcher", if_missing=True),
        ),
    ),
)
