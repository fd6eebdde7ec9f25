"""The names that numpy 1.24 and 2.0 took away.

Why: ``np.float``, ``np.bool`` and ``np.long`` stand in mmcv's pixel_group, mmdet's
     ytviseval and text transforms, cocoapi, OpenPCDet and most projects of that time
     (OpenPCDet#1359, cocoapi#569, mmdetection3d#2821).
How: each missing name is defined with the meaning numpy's own migration guides give
     it; a name that exists is left alone.
Upstream: numpy 1.20 deprecations (removed in 1.24), numpy 2.0 migration guide.
Remove when: no project in use says np.float.
"""

import builtins

from mx_autopatch.model import Context, Define, Patch

# Aliases of builtins; numpy 2 has given `bool` and `long` new meanings, which stay.
_BUILTINS = {
    "bool": "bool",
    "int": "int",
    "float": "float",
    "complex": "complex",
    "object": "object",
    "str": "str",
    "long": "int",
    "unicode": "str",
}

# Second names of what numpy still has under the first.
_RENAMED = {
    "bool8": "bool_",
    "float_": "float64",
    "singlecomplex": "complex64",
    "complex_": "complex128",
    "cfloat": "complex128",
    "longfloat": "longdouble",
    "longcomplex": "clongdouble",
    "clongfloat": "clongdouble",
    "string_": "bytes_",
    "unicode_": "str_",
    "object0": "object_",
    "int0": "intp",
    "uint0": "uintp",
    "Inf": "inf",
    "Infinity": "inf",
    "infty": "inf",
    "PINF": "inf",
    "NaN": "nan",
    "NAN": "nan",
    "alltrue": "all",
    "sometrue": "any",
    "product": "prod",
    "cumproduct": "cumprod",
    "round_": "round",
    "row_stack": "vstack",
    "trapz": "trapezoid",
    "in1d": "isin",
    "mat": "asmatrix",
}

_NUMBERS = {"NINF": float("-inf"), "PZERO": 0.0, "NZERO": -0.0}


def _renamed(old: str, new: str) -> Define:
    def present(context: Context) -> object:
        return getattr(context.module, new)

    return Define(f"numpy:{old}", factory=present)


PATCHES = (
    Patch(
        name="numpy.aliases",
        edits=(
            *(Define(f"numpy:{old}", getattr(builtins, new)) for old, new in _BUILTINS.items()),
            *(_renamed(old, new) for old, new in _RENAMED.items()),
            *(Define(f"numpy:{name}", value) for name, value in _NUMBERS.items()),
        ),
        requires=("numpy>=1.24",),
    ),
)
