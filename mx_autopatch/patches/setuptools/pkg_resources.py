"""The part of ``pkg_resources`` that model code uses.

Why: setuptools 82 dropped it, and mmengine's is_installed and get_installed_path, by
     which ``_base_ = "mmdet::..."`` is found, as well as mmcv 1.x and CLIP import it
     (mmcv#3325).
How: a module of that name, on importlib.metadata and importlib.resources, only where
     setuptools has none.
Upstream: the pkg_resources documentation of setuptools 80.
Remove when: mmengine asks importlib.metadata.
"""

from mx_autopatch.model import Patch, Provide

PATCHES = (
    Patch(
        name="setuptools.pkg_resources",
        edits=(Provide("pkg_resources", source="mx_autopatch.provided.pkg_resources"),),
    ),
)
