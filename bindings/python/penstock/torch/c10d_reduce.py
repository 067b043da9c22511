# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Reductions in rank order: the same bits on every rank, every time."""
import torch
from torch.distributed import ReduceOp


def _minimum(total, other):
    torch.minimum(total, other, out=total)


def _maximum(total, other):
    torch.maximum(total, other, out=total)


# ReduceOp does not hash like its members, so a list and no dict.
_OPERATIONS = [
    (ReduceOp.SUM, torch.Tensor.add_),
    (ReduceOp.AVG, torch.Tensor.add_),
    (ReduceOp.PRODUCT, torch.Tensor.mul_),
    (ReduceOp.MIN, _minimum),
    (ReduceOp.MAX, _maximum),
    (ReduceOp.BAND, torch.Tensor.bitwise_and_),
    (ReduceOp.BOR, torch.Tensor.bitwise_or_),
    (ReduceOp.BXOR, torch.Tensor.bitwise_xor_),
]


class Reduction:
    """reduceOp of an operation's options, for tensors of one dtype."""

    def __init__(self, reduce_op, dtype):
        self._mean = reduce_op == ReduceOp.AVG
        if self._mean and not (dtype.is_floating_point or dtype.is_complex):
            raise ValueError(f"AVG of {dtype} is not defined; reduce with SUM and divide")
        for known, combine in _OPERATIONS:
            if reduce_op == known:
                self._combine = combine
                return
        raise ValueError(f"{reduce_op} is not supported by penstock")

    def __call__(self, contributions):
        """The reduction of equally long tensors, given in rank order, as a tensor of its own."""
        total, count = None, 0
        for contribution in contributions:
            count += 1
            if total is None:
                total = contribution.clone()
            else:
                self._combine(total, contribution)
        return total.div_(count) if self._mean else total
