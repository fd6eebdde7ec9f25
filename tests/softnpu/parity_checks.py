"""One sample of an operator on the CPU and on the soft NPU, in each of its variants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable

import torch
from parity_compare import Disagreement, compare, placed
from parity_known import HOST_ARGUMENTS, LOOSER, UNINITIALISED
from torch.utils._pytree import tree_flatten, tree_map

__all__ = ["SEED", "is_foreach", "variants"]

HOST, DEVICE = torch.device("cpu"), torch.device("npu:0")
SEED = 20


def variants(
    info: Any, dtype: torch.dtype, number: int, with_grad: bool
) -> Iterator[tuple[str, Callable[..., None]]]:
    """Name and function of the checks that apply to sample ``number`` of an operator."""
    yield "forward", check_forward
    if with_grad:
        yield "backward", check_backward
    if with_grad and info.supports_gradgrad and dtype == torch.float64 and number < 3:
        yield "double backward", check_double_backward
    if info.inplace_variant is not None:
        yield "in place", check_in_place
    if info.supports_out and not is_foreach(info):
        yield "out", check_out
        if number < 3:
            yield "out resized", check_out_resized
            yield "out strided", check_out_strided


def is_foreach(info: Any) -> bool:
    """Whether it takes lists of tensors; then ``supports_out`` is about something else."""
    return bool(info.name.startswith("_foreach_"))


def _agree(info: Any, sample: Any, recorder: Any, call: Callable[[Any, torch.device], Any]) -> None:
    """Compare what ``call`` returns with the sample on the CPU and on the soft NPU.

    Where both refuse it, with an error of the same type, they agree. Where more than one
    kernel draws random numbers, only the first draws those of the CPU: then the values need
    only be the same again from the same seed.
    """
    host, ours = (_outcome(info, sample, device, call) for device in (HOST, DEVICE))
    if isinstance(host, Exception) or isinstance(ours, Exception):
        if type(host) is not type(ours):
            raise Disagreement(f"the CPU: {_short(host)}; the soft NPU: {_short(ours)}")
        return
    is_random = recorder.draws > 1
    values = not is_random and info.name not in UNINITIALISED
    compare(host, ours, values=values, factor=LOOSER.get(info.name, 1))
    if is_random:
        again = _outcome(info, sample, DEVICE, call)
        if not all(map(_same, _tensors(ours), _tensors(again))):
            raise Disagreement("draws other numbers from the same seed")


def _outcome(
    info: Any, sample: Any, device: torch.device, call: Callable[[Any, torch.device], Any]
) -> Any:
    """What ``call`` returns on ``device``, or the exception that it raises."""
    here = placed((sample.input, sample.args, sample.kwargs), device)
    if info.name in HOST_ARGUMENTS:
        here = (here[0], *placed((sample.args, sample.kwargs), HOST))
    torch.manual_seed(SEED)
    try:
        return call(here, device)
    except Exception as error:
        return error


def _same(one: torch.Tensor, two: torch.Tensor) -> bool:
    return torch.equal(one.nan_to_num(), two.nan_to_num())


def _short(value: Any) -> str:
    if isinstance(value, Exception):
        return f"{type(value).__name__}: {str(value).splitlines()[0] if str(value) else ''}"[:200]
    return "computed it"


def check_forward(info: Any, sample: Any, recorder: Any) -> None:
    def call(here: Any, device: torch.device) -> Any:
        with torch.no_grad():
            result = info(here[0], *here[1], **here[2])
        return result, _is_view(result, here)

    _agree(info, sample, recorder, call)


def _is_view(result: Any, here: Any) -> list[bool]:
    """Of each result, whether it shares the memory of an argument."""
    given = {x.untyped_storage().data_ptr() for x in _tensors(here) if x.layout == torch.strided}
    return [
        x.numel() > 0 and x.untyped_storage().data_ptr() in given
        for x in _tensors(result)
        if x.layout == torch.strided
    ]


def _differentiable(sample: Any, result: Any) -> list[torch.Tensor]:
    if sample.output_process_fn_grad is not None:
        result = sample.output_process_fn_grad(result)
    leaves = tree_flatten(result)[0]
    return [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]


def _gradients(
    outputs: list[torch.Tensor], inputs: list[torch.Tensor], again: bool = False
) -> list[torch.Tensor | None]:
    torch.manual_seed(SEED + 1)
    cotangents = [torch.randn(x.shape, dtype=x.dtype).to(x.device) for x in outputs]
    return list(
        torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True, create_graph=again)
    )


def _leaves(here: Any) -> list[torch.Tensor]:
    return [x for x in tree_flatten(here)[0] if isinstance(x, torch.Tensor) and x.requires_grad]


def check_backward(info: Any, sample: Any, recorder: Any) -> None:
    def call(here: Any, device: torch.device) -> Any:
        result = info(here[0], *here[1], **here[2])
        outputs, inputs = _differentiable(sample, result), _leaves(here)
        return _gradients(outputs, inputs) if outputs and inputs else []

    _agree(info, sample, recorder, call)


def check_double_backward(info: Any, sample: Any, recorder: Any) -> None:
    def call(here: Any, device: torch.device) -> Any:
        result = info(here[0], *here[1], **here[2])
        outputs, inputs = _differentiable(sample, result), _leaves(here)
        first = _gradients(outputs, inputs, again=True) if outputs and inputs else []
        outputs = [x for x in first if x is not None and x.requires_grad]
        return _gradients(outputs, inputs) if outputs else []

    _agree(info, sample, recorder, call)


def check_in_place(info: Any, sample: Any, recorder: Any) -> None:
    def call(here: Any, device: torch.device) -> Any:
        with torch.no_grad():
            result = info.inplace_variant(here[0], *here[1], **here[2])
        return result, here[0], [x is y for x, y in zip(_tensors(result), _tensors(here[0]))]

    _agree(info, sample, recorder, call)


def _tensors(value: Any) -> list[torch.Tensor]:
    return [x for x in tree_flatten(value)[0] if isinstance(x, torch.Tensor)]


def _check_into(info: Any, sample: Any, recorder: Any, make: Callable[..., Any]) -> None:
    def call(here: Any, device: torch.device) -> Any:
        with torch.no_grad():
            torch.manual_seed(SEED)
            wanted = info(here[0], *here[1], **here[2])
            if not _tensors(wanted):
                return []
            out = tree_map(lambda x: make(x, device) if isinstance(x, torch.Tensor) else x, wanted)
            recorder.draws = 0
            torch.manual_seed(SEED)
            result = info(here[0], *here[1], **here[2], out=out)
        return result, out, [x is y for x, y in zip(_tensors(result), _tensors(out))]

    _agree(info, sample, recorder, call)


def check_out(info: Any, sample: Any, recorder: Any) -> None:
    _check_into(info, sample, recorder, lambda x, device: torch.zeros_like(x.cpu()).to(device))


def check_out_resized(info: Any, sample: Any, recorder: Any) -> None:
    _check_into(
        info, sample, recorder, lambda x, device: torch.empty(0, dtype=x.dtype, device=device)
    )


def check_out_strided(info: Any, sample: Any, recorder: Any) -> None:
    def make(x: torch.Tensor, device: torch.device) -> torch.Tensor:
        return torch.zeros((*x.shape, 3), dtype=x.dtype).to(device)[..., 1]

    _check_into(info, sample, recorder, make)
