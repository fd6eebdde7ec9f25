"""Sparse convolution on NPUs.

Why: mmcv's extension has sparse convolution for CUDA only (``indice_conv_forward_impl:
     implementation for device npu:0 not found``), and its wheels have it nowhere else.
     ``fused_indice_conv`` does not run on any device (``filters.dtypes``).
How: for tensors of the device npu, mx_driving's SubMConv3d and SparseConv3d in place of a
     layer of mmcv's where it is installed and covers the layer. Pairs that mx_driving has
     found are calculated for mmcv when a later layer of the same ``indice_key`` asks for
     them. For other layers, as those of 2D, 4D, inverse and transposed convolution, and for
     pooling, mmcv's code runs, and calls mx_autopatch.ops.indice_conv and its kin: by
     mmcv.ext, or in a compiled extension by mmcv.ext_on_npu.
Upstream: mmcv/ops/{sparse_conv,sparse_ops}.py, mmcv 1.4.6 - 2.2.
Remove when: mmcv ships an extension for NPUs that has sparse convolution.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional, Union, overload

from mx_autopatch.model import Patch, Rewrite, Wrap

if TYPE_CHECKING:
    from torch import Tensor


class Pairs(Sequence[Any]):
    """What mmcv keeps under an ``indice_key``, calculated when it is first looked at.

    Args:
        calculate: gives mmcv's five things.
        of_mx_driving: the pairs of a submanifold convolution, in mx_driving's form.
    """

    def __init__(
        self, calculate: "Callable[[], tuple[Any, ...]]", of_mx_driving: "Optional[Tensor]" = None
    ) -> None:
        self._calculate, self._known = calculate, ()
        self.of_mx_driving = of_mx_driving

    def _all(self) -> "tuple[Any, ...]":
        self._known = self._known or self._calculate()
        return self._known

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> "tuple[Any, ...]": ...

    def __getitem__(self, index: "Union[int, slice]") -> Any:
        return self._all()[index]

    def __len__(self) -> int:
        return 5


def _forward(
    wrapped: Callable[..., Any], layer: Any, args: "tuple[Any, ...]", kwargs: "dict[str, Any]"
) -> Any:
    """mmcv's ``SparseConvolution.forward``, by mx_driving where it covers the layer."""
    result = _by_mx_driving(layer, *args, **kwargs)
    return wrapped(*args, **kwargs) if result is None else result


def _by_mx_driving(layer: Any, input: Any) -> Any:
    features = getattr(input, "features", None)
    known = None if features is None else input.find_indice_pair(layer.indice_key)
    fits = (
        features is not None
        and features.device.type == "npu"
        and layer.ndim == 3
        and not (layer.inverse or layer.transposed or layer.fused_bn or layer.conv1x1)
        and all(d == 1 for d in layer.dilation)
        # Pairs that are mmcv's have to be used, which mx_driving cannot.
        and (known is None or getattr(known, "of_mx_driving", None) is not None)
    )
    if not fits:
        return None
    return (_subm if layer.subm else _conv)(layer, input, known)


def _subm(layer: Any, input: Any, known: "Optional[Pairs]") -> Any:
    from mx_autopatch.ops.npu.sparse_conv import subm_conv3d

    scene = input.spatial_shape, input.batch_size
    before = None if known is None else known.of_mx_driving
    found = subm_conv3d(input.features, input.indices, layer.weight, *scene, before)
    if found is None:
        return None
    features, pairs = found
    if known is None:
        _keep(layer, input, pairs)
    return _result(layer, input, features, input.indices, input.spatial_shape)


def _conv(layer: Any, input: Any, known: "Optional[Pairs]") -> Any:
    from mmcv.ops.sparse_ops import get_conv_output_size

    from mx_autopatch.ops.npu.sparse_conv import sparse_conv3d

    if known is not None:  # of a submanifold convolution
        return None
    options = layer.stride, layer.padding
    scene = input.spatial_shape, input.batch_size
    found = sparse_conv3d(input.features, input.indices, layer.weight, *options, *scene)
    if found is None:
        return None
    _keep(layer, input, None)
    sizes = layer.kernel_size, *options, layer.dilation
    return _result(layer, input, *found, get_conv_output_size(input.spatial_shape, *sizes))


def _keep(layer: Any, input: Any, of_mx_driving: "Optional[Tensor]") -> None:
    if layer.indice_key is None:
        return
    indices, shape, batch = input.indices, input.spatial_shape, input.batch_size

    def calculate() -> "tuple[Any, ...]":
        from mmcv.ops.sparse_ops import get_indice_pairs

        sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation
        found = get_indice_pairs(
            indices, batch, shape, *sizes, layer.output_padding, layer.subm, layer.transposed
        )
        return found[0], indices, found[1], found[2], shape

    input.indice_dict[layer.indice_key] = Pairs(calculate, of_mx_driving)


def _result(
    layer: Any, input: Any, features: "Tensor", indices: "Tensor", spatial_shape: Sequence[int]
) -> Any:
    if layer.bias is not None:
        features = features + layer.bias
    output = type(input)(features, indices, spatial_shape, input.batch_size)
    output.indice_dict, output.grid = input.indice_dict, input.grid
    return output


PATCHES = (
    Patch(
        name="mmcv.sparse_conv3d",
        edits=(
            Wrap("mmcv.ops.sparse_conv:SparseConvolution.forward", _forward),
            Rewrite(
                "mmcv.ops.sparse_ops:fused_indice_conv",
                find="filters.dtypes",
                replace="filters.dtype",
            ),
        ),
        requires=("module:torch", "device:npu"),
    ),
)
