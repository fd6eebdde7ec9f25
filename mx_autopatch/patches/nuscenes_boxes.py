"""Boxes of nuscenes-devkit, made and rotated faster, to the last bit.

The devkit checks each box for NaN by itself, and works out the matrix of a rotation anew for
each box that is rotated by it. Here the checks are made for all boxes of a sample at once, and
matrices are kept. What is computed for each box is computed by the same operations on the same
numbers.
"""

from __future__ import annotations

import functools
import math
import textwrap
from typing import TYPE_CHECKING, Any, Callable

from mx_autopatch.model import Rewrite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy import ndarray
    from torch import Tensor

__all__ = ["camera_loop", "lidar_loop", "on_any_device", "rotations_of"]


def lidar_boxes(
    cls: type,
    centres: ndarray[Any, Any],
    sizes: ndarray[Any, Any],
    yaws: ndarray[Any, Any],
    labels: ndarray[Any, Any],
    scores: ndarray[Any, Any],
    velocities: Tensor | None,
) -> list[Any]:
    """The devkit's boxes (of class ``cls``) of one sample, turned about z by ``yaws``.

    Args:
        centres, sizes: (n, 3), in the devkit's conventions.
        yaws, labels, scores: (n,)
        velocities: (n, 2), along x and y; None for none.
    """
    if velocities is None:
        moves: Sequence[Any] = [(0, 0, 0)] * len(centres)
    else:
        moves = [(x, y, 0.0) for x, y in velocities.tolist()]
    return _boxes(cls, centres, sizes, _about_z(yaws), labels, scores, moves)


def camera_boxes(
    cls: type,
    centres: ndarray[Any, Any],
    sizes: ndarray[Any, Any],
    yaws: ndarray[Any, Any],
    labels: ndarray[Any, Any],
    scores: ndarray[Any, Any],
    velocities: Tensor,
) -> list[Any]:
    """As :func:`lidar_boxes`, for boxes of a camera: turned a quarter about x thereafter.

    ``velocities`` are those along x and z.
    """
    import numpy as np
    import pyquaternion

    _, product = _matrices(pyquaternion.Quaternion(axis=[1, 0, 0], radians=np.pi / 2))
    turned = [np.dot(product, q) for q in _about_z(yaws)]
    moves = [(x, 0.0, z) for x, z in velocities.tolist()]
    return _boxes(cls, centres, sizes, turned, labels, scores, moves)


def _about_z(angles: ndarray[Any, Any]) -> list[Any]:
    """The elements of the quaternion that turns about z, for each angle."""
    import numpy as np

    turned = []
    for angle in angles.tolist():
        # As in pyquaternion: -0.0 becomes 0.0, and numpy's functions may differ in the last bit.
        half = (angle or 0.0) / 2.0
        sine = math.sin(half)
        turned.append(np.array([math.cos(half), 0.0 * sine, 0.0 * sine, sine]))
    return turned


def _boxes(
    cls: Any, centres: Any, sizes: Any, turned: Any, labels: Any, scores: Any, velocities: Any
) -> list[Any]:
    import numpy as np
    import pyquaternion

    if np.isnan(centres).any() or np.isnan(sizes).any() or np.isnan(scores).any():
        make, given = cls, (labels, scores)  # the devkit has its own words, or its own way
    else:
        make, given = _Copies(cls), (labels.tolist(), scores.tolist())
    new = pyquaternion.Quaternion
    boxes = []
    for centre, size, q, label, score, velocity in zip(centres, sizes, turned, *given, velocities):
        orientation = _quaternion(new, q)
        boxes.append(make(centre, size, orientation, label=label, score=score, velocity=velocity))
    return boxes


class _Copies:
    """Makes boxes after the first one, which the devkit makes: whatever else it gives them."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._first: dict[str, Any] = {}

    def __call__(
        self, centre: Any, size: Any, orientation: Any, label: Any, score: Any, velocity: Any
    ) -> Any:
        import numpy as np

        if not self._first:
            first = self._cls(
                centre, size, orientation, label=label, score=score, velocity=velocity
            )
            self._first = vars(first)
            return first
        box = object.__new__(self._cls)
        vars(box).update(
            self._first,
            center=np.array(centre),
            wlh=np.array(size),
            orientation=orientation,
            label=label,
            score=score,
            velocity=np.array(velocity),
        )
        return box


def _quaternion(cls: Any, elements: Any) -> Any:
    made = object.__new__(cls)
    made.q = elements
    return made


# -- rotating ------------------------------------------------------------------------


def _rotate(box: Any, quaternion: Any, cls: Any) -> None:
    """``box.rotate(quaternion)`` of the devkit's own box ``cls``."""
    import numpy as np

    if type(box) is not cls:
        box.rotate(quaternion)
        return
    matrix, product = _matrices(quaternion)
    box.center = np.dot(matrix, box.center)
    box.orientation = _quaternion(type(quaternion), np.dot(product, box.orientation.q))
    box.velocity = np.dot(matrix, box.velocity)


def _matrices(quaternion: Any) -> tuple[Any, Any]:
    """The rotation's matrix, and that of the product ``quaternion * other``."""
    return _kept_matrices(quaternion.q.tobytes())


@functools.lru_cache(maxsize=64)  # of a frame: its sensors, and where it is in the world
def _kept_matrices(elements: bytes) -> tuple[Any, Any]:
    import numpy as np
    from pyquaternion import Quaternion

    quaternion = Quaternion(array=np.frombuffer(elements))
    matrix = quaternion.rotation_matrix  # makes a unit of it, too
    w, x, y, z = quaternion.q
    return matrix, np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])


def _from_matrix(matrix: Any) -> Any:
    """``pyquaternion.Quaternion(matrix=matrix, rtol=1e-05, atol=1e-07)``, made once."""
    return _kept_quaternion(matrix.tobytes(), matrix.dtype.str, matrix.shape)


@functools.lru_cache(maxsize=64)
def _kept_quaternion(content: bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    import numpy as np
    from pyquaternion import Quaternion

    matrix = np.frombuffer(content, dtype).reshape(shape)
    return Quaternion(matrix=matrix, rtol=1e-05, atol=1e-07)


# -- edits ---------------------------------------------------------------------------


def lidar_loop(function: str, with_velocity: bool = False) -> Rewrite:
    """The edit of the loop that makes boxes in a lidar's coordinates.

    Args:
        function: its target.
        with_velocity: whether the function has a parameter of this name.
    """
    body = "velocity = (*$boxes.tensor[i, 7:9], 0.0)"
    velocities = "$boxes.tensor[:, 7:9]"
    if with_velocity:
        body = f"if with_velocity: {body}\nelse: velocity = (0, 0, 0)"
        velocities += " if with_velocity else None"
    body = f"quat = pyquaternion.Quaternion(axis=[0, 0, 1], radians=$yaws[i])\n{body}"
    return _loop(function, body, lidar_boxes, velocities)


def camera_loop(function: str) -> Rewrite:
    """The edit of the loop that makes boxes in a camera's coordinates."""
    body = """
        q1 = pyquaternion.Quaternion(axis=[0, 0, 1], radians=$yaws[i])
        q2 = pyquaternion.Quaternion(axis=[1, 0, 0], radians=np.pi / 2)
        quat = q2 * q1
        velocity = ($boxes.tensor[i, 7], 0.0, $boxes.tensor[i, 8])
    """
    return _loop(function, body, camera_boxes, "$boxes.tensor[:, 7:9]")


def _loop(function: str, body: str, make: Callable[..., Any], velocities: str) -> Rewrite:
    given = "labels[i], score=scores[i], velocity=velocity"
    lines = f"""{textwrap.dedent(body).strip()}
box = NuScenesBox($centres[i], $sizes[i], quat, label={given})
box_list.append(box)"""
    name = make.__name__
    return Rewrite(
        function,
        find="for i in range(len($boxes)):\n" + textwrap.indent(lines, "    "),
        replace=f"box_list += {name}(NuScenesBox, $centres, $sizes, $yaws, labels, scores, "
        f"{velocities})",
        names={name: make},
    )


def rotations_of(function: str, matrices: bool = False) -> tuple[Rewrite, ...]:
    """Edits of a function that rotates each box twice.

    Args:
        function: its target.
        matrices: whether it works out each rotation from a matrix.
    """
    rotate = Rewrite(
        function,
        find="box.rotate($quaternion)",
        replace="rotate(box, $quaternion, NuScenesBox)",
        count=2,
        names={"rotate": _rotate},
    )
    quaternion = Rewrite(
        function,
        find="pyquaternion.Quaternion(matrix=$matrix, rtol=1e-05, atol=1e-07)",
        replace="from_matrix($matrix)",
        count=2,
        names={"from_matrix": _from_matrix},
    )
    return (rotate, quaternion) if matrices else (rotate,)


def on_any_device(function: str) -> Rewrite:
    """The edit of a function that sends three tensors to CUDA: only where there is one."""
    return Rewrite(
        function,
        find="$tensor.cuda()",
        replace="to_device($tensor)",
        count=3,
        names={"to_device": _to_device},
    )


def _to_device(tensor: Tensor) -> Tensor:
    import torch

    return tensor.cuda() if torch.cuda.is_available() else tensor
