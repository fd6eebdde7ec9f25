"""Where the soft NPU is known to differ from the CPU, and why. The parity run checks it."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["HOST_ARGUMENTS", "KNOWN", "LOOSER", "UNINITIALISED"]

#: Operators whose result nobody has written to.
UNINITIALISED = frozenset(
    ("empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided")
)

#: Operators whose arguments after the first torch wants on the CPU, whatever the device.
HOST_ARGUMENTS = frozenset(("tensor_split",))

#: Operators that torch composes otherwise on the CPU, where it has one kernel for the whole;
#: and by what factor the tolerance is larger for the other roundings.
LOOSER = {
    "nn.functional.scaled_dot_product_attention": 5,
    "nn.functional.linear_cross_entropy": 5,
}


class Known(NamedTuple):
    """A difference that is meant to be.

    Attributes:
        variants: Those of the check that show it.
        text: What its failures say.
        reason: Why it is right, or cannot be otherwise.
        operators: Those that show it, each of them.
        dtypes: Those that show it; all if none is named.
    """

    variants: tuple[str, ...]
    text: str
    reason: str
    operators: frozenset[str]
    dtypes: tuple[str, ...] = ()

    def explains(self, failure: Any) -> bool:
        return (
            failure.operator in self.operators
            and failure.variant in self.variants
            and (not self.dtypes or failure.dtype in self.dtypes)
            and self.text in failure.reason
        )


KNOWN = (
    Known(
        ("forward", "backward"),
        "Tensor-likes are not close",
        "the CPU rounds the sums of a float16 convolution on the way; here, as on an NPU, they "
        "are in float32",
        frozenset(
            (
                *("nn.functional.conv2d", "nn.functional.conv3d"),
                *(f"nn.functional.conv_transpose{n}d" for n in (1, 2, 3)),
            )
        ),
        ("float16",),
    ),
    Known(
        ("forward", "double backward", "out", "out resized"),
        "stride ",
        "torch_npu has no kernel for it, and its way over the CPU makes results contiguous",
        frozenset(
            (
                *("fft.ifft", "fft.ihfft", "geqrf", "linalg.cholesky", "linalg.cholesky_ex"),
                *("linalg.eig", "linalg.eigh", "linalg.householder_product", "linalg.inv"),
                *("linalg.inv_ex", "linalg.ldl_factor", "linalg.ldl_factor_ex"),
                *("linalg.ldl_solve", "linalg.lstsq", "linalg.lstsq.grad_oriented"),
                *("linalg.lu_factor", "linalg.lu_factor_ex", "linalg.lu_solve", "linalg.solve"),
                *("linalg.solve_ex", "linalg.solve_triangular", "linalg.tensorsolve", "lu_solve"),
                "ormqr",
            )
        ),
    ),
    Known(
        ("out", "out resized", "out strided"),
        "mode only supports CPU, CUDA and XPU device type",
        "torch itself refuses mode(out=) on any other device, before it asks for a kernel",
        frozenset(("mode",)),
    ),
    Known(
        ("forward", "backward", "double backward", "out", "out resized", "out strided"),
        "with arguments from the 'SparseCsrnpu' backend",
        "torch_npu has no sparse CSR tensors to compute with",
        frozenset(("sparse.mm.reduce", "sparse.sampled_addmm")),
    ),
    Known(
        ("out strided",),
        "Tensor-likes are not",
        "the CPU fills an output that is not contiguous as if it were: its results are wrong",
        frozenset(("narrow_copy",)),
    ),
    Known(
        ("backward",),
        "stride ",
        "torch has a kernel of its own for the CPU, whose gradients lie in memory otherwise",
        frozenset(("nn.functional.scaled_dot_product_attention",)),
    ),
    Known(
        ("in place",),
        "Tensor-likes are not",
        "the CPU resizes the input to the result's shape and reads what it has overwritten",
        frozenset(("addbmm",)),
    ),
)
