"""The line of a program that is behind a call: past the frames of torch and of ours."""

from __future__ import annotations

import functools
import os
import re
import sys
import sysconfig
import threading
from collections.abc import Iterable
from types import FrameType
from typing import NamedTuple

import mx_autopatch

__all__ = ["Line", "Origin", "Places"]


class Line(NamedTuple):
    """A line that was being executed."""

    file: str
    line: int
    function: str


class Origin(NamedTuple):
    """Who asked for something."""

    #: The innermost line outside of torch; None if no Python code was on the way.
    line: Line | None
    #: The innermost line of the user's own code, if it is not ``line`` itself.
    called_from: Line | None
    #: The innermost line of our patches and operators, if ``line`` called them.
    through: Line | None
    #: Whether ``line`` is the user's own code.
    is_own: bool
    #: Whether a tensor was being printed.
    is_print: bool
    #: Whether autograd called, in a thread of its own; the lines are then where the
    #: backward pass was started.
    in_backward: bool = False


_SITES = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_SKIPPED = ("torch", "torch_npu", "torchvision", "functorch", "wrapt")


@functools.cache
def _source_file(file: str) -> str:
    """The file that code is from; what a Rewrite has made says so behind its name."""
    rewritten = re.match(r"(.+?) <.* rewritten by .*>\Z", file, re.DOTALL)
    return rewritten[1] if rewritten else file


class Places:
    """Tells the user's files from libraries, and those from torch and the like.

    Args:
        own: Folders of the user's code. What is installed below them is not the user's.
    """

    def __init__(self, own: Iterable[str]) -> None:
        self._own = tuple(os.path.join(os.path.abspath(folder), "") for folder in own)
        self._ours = os.path.join(os.path.dirname(os.path.abspath(mx_autopatch.__file__)), "")
        self._operating = tuple(
            os.path.join(self._ours, folder, "") for folder in ("mmcv_ext", "ops", "patches")
        )
        paths = sysconfig.get_paths()
        self._standard = tuple(
            os.path.join(os.path.realpath(paths[name]), "") for name in ("stdlib", "platstdlib")
        )
        self._kinds: dict[str, str] = {}
        self._main = threading.main_thread().ident

    def origin(self, start: FrameType | None) -> Origin:
        """Who called, from the frame ``start`` outwards."""
        found = self._walk(start)
        if found.line is not None or threading.get_ident() == self._main:
            return found
        # A thread of autograd's, which has no Python frames of its own.
        main = self._walk(sys._current_frames().get(self._main or 0))
        return main._replace(in_backward=main.line is not None)

    def _walk(self, frame: FrameType | None) -> Origin:
        line = through = None
        is_print = False
        while frame is not None:
            file = _source_file(frame.f_code.co_filename)
            kind = self._kinds.get(file) or self._kind(file)
            if kind == "printing":
                is_print = True
            elif kind != "skip":
                here = Line(file, frame.f_lineno, frame.f_code.co_name)
                if kind == "ours":
                    through = through or (here if line is None else None)
                elif kind == "own":
                    if line is None:
                        return Origin(here, None, through, True, is_print)
                    return Origin(line, here, through, False, is_print)
                else:
                    line = line or here
            frame = frame.f_back
        return Origin(line, None, through, False, is_print)

    def _kind(self, file: str) -> str:
        kind = self._kinds[file] = self._found_kind(file)
        return kind

    def _found_kind(self, file: str) -> str:
        if file.startswith("<"):
            return "skip"  # frozen importlib, generated code
        real = os.path.realpath(file)
        if real.endswith(os.path.join("torch", "_tensor_str.py")):
            return "printing"
        if real.startswith(self._ours):
            return "ours" if real.startswith(self._operating) else "skip"
        for site in _SITES:
            _, found, below = real.rpartition(site)
            if found:
                return "skip" if below.partition(os.sep)[0] in _SKIPPED else "library"
        if real.startswith(self._standard):
            return "skip"
        is_own = os.path.abspath(file).startswith(self._own) or real.startswith(self._own)
        return "own" if is_own else "library"
