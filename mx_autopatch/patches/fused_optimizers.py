"""torch.optim's optimizers with the steps of torch_npu.optim's NpuFused ones.

Those lay all parameters, gradients and moments of a group into one tensor each, and compute
a step in a handful of kernels, whatever the number of parameters. What they ask of the
program in return is not asked here:

- that gradients stay the same tensors, so ``zero_grad(set_to_none=True)`` raises and
  ``model.zero_grad()`` leaves them stepping by old gradients. Here gradients are laid
  together when they are needed: at a clip, an unscale or a step;
- that every parameter has a gradient at the first step and ever after. Here a change makes
  for a new layout, or for torch's own step;
- that the optimizer lives as long as the parameters, whose memory it holds: else they are
  freed while in use. Here it lives as long as any tensor over it;
- that states have another form than torch's. Here torch's own first step makes them, and
  they stay its own: a state dict goes to torch.optim and back.

Wherever a step cannot be the fused one, it is torch's own, on the same tensors.

Imported with torch and torch_npu, when the first optimizer with parameters on an NPU is made.
"""

from __future__ import annotations

import copyreg
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from mx_autopatch.patches.fused_parts import (
    Part,
    StorageWeakRef,
    flatten,
    gradient_can,
    parameter_can,
    state_can,
    states_of,
    unflatten,
)

__all__ = ["fuse", "unfuse_all"]

#: Options that choose another implementation where they are given, and not False.
_OPTIONS = ("fused", "capturable", "differentiable", "maximize")
#: How often the parameters may be laid out anew before that is left.
_LAYOUTS = 4

_alive: weakref.WeakSet[Any] = weakref.WeakSet()


def fuse(optimizer: Any) -> bool:
    """Let ``optimizer``, just made by Adam, AdamW or SGD, take fused steps where it can.

    Its class becomes one that is derived from both torch's and torch_npu's.

    Returns:
        Whether it may: not so with parameters elsewhere than on one NPU, or with options
        that torch_npu's optimizers do not have.
    """
    base: Any = type(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    places = {p.device for p in parameters}
    if len(places) != 1 or next(iter(places)).type != "npu":
        return False
    if not all(_is_plain(group, base) for group in optimizer.param_groups):
        return False
    optimizer.__class__ = _fused_class(base)
    optimizer._begin()
    _alive.add(optimizer)
    return True


def unfuse_all() -> None:
    """Give all optimizers torch's own class back; what they know stays."""
    for optimizer in list(_alive):
        optimizer.__class__ = type(optimizer)._base
        _alive.discard(optimizer)


def _is_plain(group: dict[str, Any], base: Any) -> bool:
    if group.get("foreach") is not None or any(group.get(name) for name in _OPTIONS):
        return False
    if group.get("decoupled_weight_decay") and base is torch.optim.Adam:
        return False
    numbers = (group["lr"], *group.get("betas", ()))
    return not any(isinstance(number, Tensor) for number in numbers)


@functools.cache
def _fused_class(base: Any) -> Any:
    from torch_npu import optim

    fused = getattr(optim, f"NpuFused{base.__name__}")
    members = {"_base": base, "__module__": base.__module__, "__doc__": base.__doc__}
    return type(base.__name__, (_Fused, fused, base), members)


class _Fused:
    """What takes torch_npu's way of keeping tensors together from its optimizers."""

    _base: type[torch.optim.Optimizer]
    # What is declared here is set by torch, or read by torch_npu.
    param_groups: list[dict[str, Any]]
    state: dict[Any, Any]
    _group_step: Callable[[int], None]
    _clip_grad_norm_fused_: Callable[..., Tensor]
    __getstate__: Callable[[], Any]

    def _begin(self) -> None:
        self._parts: list[Part] | None = None
        self._layouts = 0
        #: Of each part: its gradients in one tensor, and each of them as a view of that.
        self._gradients: list[tuple[Tensor, list[Tensor]]] = []
        #: The storages of gradients laid together last, by address; a weak reference keeps
        #: the address from being given to another.
        self._flats: dict[int, Any] = {}
        self._momentum_buffer_already_in_state = True
        # torch times steps, and calls their hooks, by a wrapper round the class's method.
        self._patch_step_function()  # type: ignore[attr-defined]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Of torch's own class, which can be read where this one does not exist.
        reconstructor: Any = vars(copyreg)["_reconstructor"]
        return reconstructor, (self._base, object, None), self.__getstate__()

    # -- the step --------------------------------------------------------------

    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not isinstance(self, _Fused):
            # A scheduler has kept this method of an optimizer that is torch's own again.
            _own_step(type(self))(self)
            return loss
        with torch.no_grad():
            if self._together():
                for group in sorted({part.group for part in self._parts or ()}):
                    self._group_step(group)
            else:
                self._parts = None  # which that step does not keep up to date
                _own_step(self._base)(self)
            self._forget_gradients()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        torch.optim.Optimizer.zero_grad(self, set_to_none)  # type: ignore[arg-type]
        if set_to_none:
            self._forget_gradients()

    def _forget_gradients(self) -> None:
        """Hold no gradients that the parameters do not hold."""
        self._gradients = []
        self.combined_grads_indexed_by_group: Any = None

    def clip_grad_norm_fused_(self, max_norm: float, norm_type: float = 2) -> Tensor:
        """As torch.nn.utils.clip_grad_norm_ of all parameters; returns the norm before."""
        with torch.no_grad():
            if not self._together():
                return torch.nn.utils.clip_grad_norm_(list(self._everyone()), max_norm, norm_type)
            flats = [flat for flat, _ in self._gradients]
            # torch_npu's masks hide the padding of private formats, which are not laid out.
            return self._clip_grad_norm_fused_(flats, [1.0] * len(flats), max_norm, norm_type)

    # -- what torch_npu's scaler of gradients reads ----------------------------

    @property
    def is_fused_optimizer(self) -> bool:
        """Missing, by hasattr, where the next step will be torch's own."""
        if not self._together():
            raise AttributeError("is_fused_optimizer")
        return True

    @property
    def is_params_grads_combined(self) -> bool:
        return self._together()

    def _maybe_init_combined_params_and_grads(self) -> None:
        self._together()

    @property
    def grads_all_group_combined(self) -> list[Tensor]:
        return [flat for flat, _ in self._gradients]

    # -- keeping together ------------------------------------------------------

    def _everyone(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _together(self) -> bool:
        """Lay out what is not; whether the next step can be the fused one."""
        having = [
            (i, p)
            for i, group in enumerate(self.param_groups)
            for p in group["params"]
            if p.grad is not None
        ]
        if self._are_current(having):
            return True
        if not having or not all(_is_plain(group, self._base) for group in self.param_groups):
            return False
        if not all(gradient_can(p, self._flats) for _, p in having):
            return False
        if not self._hold(having) and not self._lay_out(having):
            return False
        self._gather()
        return True

    def _are_current(self, having: list[tuple[int, Any]]) -> bool:
        views = [view for _, each in self._gradients for view in each]
        return (
            len(views) == len(having) > 0
            and {id(p.grad) for _, p in having} == set(map(id, views))
            and self._hold(having)
        )

    def _hold(self, having: list[tuple[int, Any]]) -> bool:
        parts = self._parts or ()
        held = {(part.group, id(p)) for part in parts for p in part.parameters}
        return held == {(number, id(p)) for number, p in having} and all(
            part.names == states_of(self.param_groups[part.group]) and part.holds(self.state)
            for part in parts
        )

    def _lay_out(self, having: list[tuple[int, Any]]) -> bool:
        self._parts = None
        if self._layouts >= _LAYOUTS:
            return False
        parts: dict[Any, Part] = {}
        for number, p in having:
            names = states_of(self.param_groups[number])
            state = self.state.get(p, {})
            if not parameter_can(p) or not all(state_can(state.get(n), p) for n in names):
                return False  # or torch's own step has not made its state yet
            step = int(state.get("step", 0))
            part = parts.setdefault((number, p.device, p.dtype, step), Part(number, names))
            part.step = step
            part.parameters.append(p)
        self._layouts += 1
        for part in parts.values():
            part.lay_out(self.state)
        self._parts = list(parts.values())
        return True

    def _gather(self) -> None:
        """Lay the gradients together, and give the lists that torch_npu's steps go by."""
        parts = self._parts or []
        self._gradients = []
        for part in parts:
            flat = flatten([p.grad for p in part.parameters])
            views = list(unflatten(flat, part.parameters))
            for p, view in zip(part.parameters, views):
                p.grad = view
            self._gradients.append((flat, views))
        references = (StorageWeakRef(flat.untyped_storage()) for flat, _ in self._gradients)
        self._flats = {reference.cdata: reference for reference in references}
        lists: list[list[list[Any]]] = [[[] for _ in self.param_groups] for _ in range(3)]
        for part, (flat, _) in zip(parts, self._gradients):
            for each, tensor in zip(lists, (part.flat, flat, part.states)):
                each[part.group].append(tensor)
        self.combined_params_indexed_by_group = lists[0]
        self.combined_grads_indexed_by_group = lists[1]
        self.combined_param_states_indexed_by_group = lists[2]


def _own_step(base: type[Any]) -> Callable[..., Any]:
    """torch's step without the wrapper that calls hooks, since that of ours calls them."""
    step = base.step
    while getattr(step, "hooked", False):
        step = step.__wrapped__
    return step  # type: ignore[no-any-return]
