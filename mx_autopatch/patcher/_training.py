"""What a patcher and a builder say of the training: profile, early stop, tensor formats."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

from mx_autopatch import profiling
from mx_autopatch.model import Call, Context, NotNeeded
from mx_autopatch.patcher._units import Unit

_DEFAULTS = {"skip_first": 20, "wait": 1, "warmup": 1, "active": 1, "repeat": 1}

_Self = TypeVar("_Self", bound="Training")


class Training:
    """The settings that :class:`Patcher` and its builder have in common."""

    _profile: dict[str, Any] | None = None
    _brake: int | None = None

    def with_profiling(
        self: _Self,
        path: str,
        level: int = 0,
        skip_first: int = 20,
        wait: int = 1,
        warmup: int = 1,
        active: int = 1,
        repeat: int = 1,
    ) -> _Self:
        """Record a profile of training steps into the folder ``path``.

        Args:
            level: 0: the device. 1: and the CPU. 2: and call stacks.
            skip_first, wait, warmup, active, repeat: The schedule, as of torch.profiler. All
                at their defaults they mean what ``profile.*`` of the configuration means by
                default, which is step 21.

        Raises:
            ValueError: no such level.
        """
        if level not in (0, 1, 2):
            raise ValueError(f"with_profiling: level={level!r}: expected 0, 1 or 2")
        steps = dict(zip(_DEFAULTS, (skip_first, wait, warmup, active, repeat)))
        self._profile = {"path": path, "level": level, **({} if steps == _DEFAULTS else steps)}
        return self

    def with_brake(self: _Self, brake_step: int) -> _Self:
        """End the training, in order, after that many steps."""
        self._brake = brake_step
        return self

    def brake_at(self: _Self, brake_step: int) -> _Self:
        """End the training, in order, after that many steps."""
        return self.with_brake(brake_step)

    def _configure_training(self) -> None:
        if self._profile is not None or self._brake is not None:
            profiling.configure(profile=self._profile, brake=self._brake)

    def _forget_training(self) -> None:
        if self._profile is not None or self._brake is not None:
            profiling.configure(profile=None, brake=None)


def internal_format(allow: bool) -> Unit:
    """The setting of the NPU's own tensor formats, made when torch is there and has an NPU.

    After torch.transfer_to_npu, which turns them off.
    """

    def configure(context: Context) -> Any:
        torch_npu: Any = sys.modules.get("torch_npu")
        if torch_npu is None:
            raise NotNeeded("there is no torch_npu")
        # torch.npu.config can be written, but not read.
        before = torch_npu._C._npu_getOption("ALLOW_INTERNAL_FORMAT")
        torch_npu.npu.config.allow_internal_format = allow

        def back() -> None:
            # Never set is None, which is as good as enabled.
            torch_npu.npu.config.allow_internal_format = before != b"disable"

        return f"torch.npu.config.allow_internal_format = {allow}", back

    return Unit(
        label="allow_internal_format",
        where="torch",
        identity=("internal format", allow),
        edits=(Call("torch", configure),),
        priority=100,
        quiet=True,
        reference=(units_of_format, {"allow": allow}),
    )


def units_of_format(allow: bool) -> list[Unit]:
    """The unit of this setting, made in another process."""
    return [internal_format(allow)]
