"""Reductions over groups, as torch_scatter 2.1 names them, on torch's own operators.

Contract: the documentation of torch_scatter 2.1. ``scatter`` takes groups in any order,
``segment_coo`` sorted ones, ``segment_csr`` ranges; ``gather_*`` are their inverses. Half
precision is added up in float32 and rounded once. Wrong arguments raise TypeError or
ValueError that names function and argument.

Where it differs from the compiled one: an infinite minimum or maximum is a result like
any other (there it becomes 0); of equal elements the first wins on every device;
the gradient of a product is right where a factor is 0. NaN never is a minimum or maximum,
as there.
"""

from ._composite import scatter_log_softmax, scatter_logsumexp, scatter_softmax, scatter_std
from ._scatter import (
    scatter,
    scatter_add,
    scatter_max,
    scatter_mean,
    scatter_min,
    scatter_mul,
    scatter_sum,
)
from ._segment_coo import (
    gather_coo,
    segment_add_coo,
    segment_coo,
    segment_max_coo,
    segment_mean_coo,
    segment_min_coo,
    segment_sum_coo,
)
from ._segment_csr import (
    gather_csr,
    segment_add_csr,
    segment_csr,
    segment_max_csr,
    segment_mean_csr,
    segment_min_csr,
    segment_sum_csr,
)

#: The release whose functions these are.
__version__ = "2.1.2"

__all__ = [
    "gather_coo",
    "gather_csr",
    "scatter",
    "scatter_add",
    "scatter_log_softmax",
    "scatter_logsumexp",
    "scatter_max",
    "scatter_mean",
    "scatter_min",
    "scatter_mul",
    "scatter_softmax",
    "scatter_std",
    "scatter_sum",
    "segment_add_coo",
    "segment_add_csr",
    "segment_coo",
    "segment_csr",
    "segment_max_coo",
    "segment_max_csr",
    "segment_mean_coo",
    "segment_mean_csr",
    "segment_min_coo",
    "segment_min_csr",
    "segment_sum_coo",
    "segment_sum_csr",
]
