# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Collective operations as messages. Each function is one operation on one rank.

Tensors that are not contiguous are sent from and received through a contiguous copy.
"""
import contextlib

import torch

from .c10d_exchange import nbytes
from .c10d_reduce import Reduction

# Below this it is faster to send everything to everyone than to split the sum.
_SPLIT_BYTES = 16 << 10


@contextlib.contextmanager
def _received(tensors):
    """Contiguous tensors to receive into, written to the given ones at the end."""
    places = [tensor if tensor.is_contiguous() else torch.empty_like(
        tensor, memory_format=torch.contiguous_format) for tensor in tensors]
    yield places
    for tensor, place in zip(tensors, places):
        if place is not tensor:
            tensor.copy_(place)


def _without(tensors, rank):
    return [None if i == rank else tensor for i, tensor in enumerate(tensors)]


def _contributions(x, own, step=0):
    """What every rank has at this place, in rank order, as flat tensors."""
    expected = {rank: x.expect(rank, step) for rank in x.others()}
    for rank in range(x.size):
        yield own if rank == x.rank else x.flat(expected.pop(rank), own)


# ---- one to all, all to one


def broadcast(x, tensor, root):
    """A binomial tree: the ranks that have it double at each step."""
    position = (x.rank - root) % x.size
    with _received([tensor]) as (place,):
        distance = 1
        while distance < x.size:
            if distance <= position < 2 * distance:
                x.receive_into((position - distance + root) % x.size, place)
            distance *= 2
        data = place if position else tensor.contiguous()
        distance = 1
        while distance < x.size:
            if position < distance and position + distance < x.size:
                x.send((position + distance + root) % x.size, data)
            distance *= 2
        x.sent()


def reduce(x, tensor, operation, root):
    own = tensor.contiguous().view(-1)
    if x.rank != root:
        x.send(root, own)
        return
    total = Reduction(operation, tensor.dtype)(_contributions(x, own))
    tensor.copy_(total.view(tensor.shape))


def gather(x, places, tensor, root):
    if x.rank != root:
        x.send(root, tensor.contiguous())
        return
    with _received(places) as into:
        x.receive_into_all(_without(into, root))
    places[root].copy_(tensor)


def scatter(x, tensor, pieces, root):
    if x.rank == root:
        for rank in x.others():
            x.send(rank, pieces[rank].contiguous())
        tensor.copy_(pieces[root])
        return
    with _received([tensor]) as (place,):
        x.receive_into(root, place)


# ---- all to all


def all_reduce(x, tensors, operation):
    if any(tensor.layout != torch.strided for tensor in tensors):
        for tensor in tensors:
            _all_reduce_sparse(x, tensor, operation)
        return
    # One message for all tensors of one dtype.
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        if len(alike) == 1 and alike[0].is_contiguous():
            _all_reduce_flat(x, alike[0].view(-1), operation)
            continue
        flat = torch.cat([tensor.reshape(-1) for tensor in alike])
        _all_reduce_flat(x, flat, operation)
        parts = flat.split([tensor.numel() for tensor in alike])
        for tensor, part in zip(alike, parts):
            tensor.copy_(part.view(tensor.shape))


def _all_reduce_flat(x, flat, operation):
    reduction = Reduction(operation, flat.dtype)
    if nbytes(flat) < _SPLIT_BYTES or flat.numel() < x.size:
        for rank in x.others():
            x.send(rank, flat)
        total = reduction(_contributions(x, flat))
        x.sent()  # the others have read it
        flat.copy_(total)
        return
    # Each rank reduces its own chunk; then everybody gets every chunk.
    chunks = flat.tensor_split(x.size)
    for rank in x.others():
        x.send(rank, chunks[rank])
    total = reduction(_contributions(x, chunks[x.rank]))
    x.sent()
    for rank in x.others():
        x.send(rank, total, step=1)
    x.receive_into_all(_without(chunks, x.rank), step=1)
    chunks[x.rank].copy_(total)


def _all_reduce_sparse(x, tensor, operation):
    if operation != torch.distributed.ReduceOp.SUM:
        raise ValueError("sparse tensors are reduced with SUM only")
    own = tensor.coalesce()
    indices, values = own.indices(), own.values()
    counts = [torch.empty(1, dtype=torch.int64) for _ in range(x.size)]
    all_gather(x, counts, torch.tensor([values.shape[0]]))
    all_indices = [indices.new_empty(indices.shape[0], int(count)) for count in counts]
    all_values = [values.new_empty(int(count), *values.shape[1:]) for count in counts]
    all_gather(x, all_indices, indices.contiguous(), step=1)
    all_gather(x, all_values, values.contiguous(), step=2)
    total = torch.sparse_coo_tensor(torch.cat(all_indices, 1), torch.cat(all_values), tensor.shape)
    tensor.copy_(total.coalesce())


def all_gather(x, places, tensor, step=0):
    own = tensor.contiguous()
    for rank in x.others():
        x.send(rank, own, step)
    with _received(places) as into:
        x.receive_into_all(_without(into, x.rank), step)
    places[x.rank].copy_(own)
    x.sent()


def all_gather_base(x, output, tensor):
    if output.numel() != x.size * tensor.numel():
        raise ValueError(f"all_gather: the output must have {x.size * tensor.numel()} elements")
    with _received([output]) as (place,):
        all_gather(x, place.view(-1).chunk(x.size), tensor.reshape(-1))


def all_gather_coalesced(x, outputs, inputs):
    for step, tensor in enumerate(inputs):
        all_gather(x, [places[step] for places in outputs], tensor, step)


def reduce_scatter(x, tensor, pieces, operation):
    for rank in x.others():
        x.send(rank, pieces[rank].contiguous())
    own = pieces[x.rank].contiguous().view(-1)
    total = Reduction(operation, tensor.dtype)(_contributions(x, own))
    x.sent()
    tensor.copy_(total.view(tensor.shape))


def reduce_scatter_base(x, output, tensor, operation):
    if tensor.numel() != x.size * output.numel():
        raise ValueError(f"reduce_scatter: the input must have {x.size * output.numel()} elements")
    reduce_scatter(x, output.view(-1), tensor.contiguous().view(-1).chunk(x.size), operation)


def all_to_all(x, outputs, inputs):
    for rank in x.others():
        x.send(rank, inputs[rank].contiguous())
    own = inputs[x.rank].clone()
    with _received(outputs) as into:
        x.receive_into_all(_without(into, x.rank))
    outputs[x.rank].copy_(own)
    x.sent()


def all_to_all_base(x, output, tensor, output_sizes, input_sizes):
    """Sizes are along the first dimension; none: equal parts."""
    def parts(whole, sizes):
        if not sizes and whole.shape[0] % x.size != 0:
            raise ValueError("all_to_all: the first dimension does not divide by the ranks")
        return whole.split(list(sizes) or whole.shape[0] // x.size) if whole.numel() else (
            [whole] * x.size)

    with _received([output]) as (place,):
        all_to_all(x, parts(place, output_sizes), parts(tensor.contiguous(), input_sizes))


# ---- barriers

_NOTHING = torch.empty(0, dtype=torch.uint8)


def barrier(x):
    """Dissemination: after step k each rank knows of the 2^(k+1) ranks before it."""
    distance, step = 1, 0
    while distance < x.size:
        x.send((x.rank + distance) % x.size, _NOTHING, step)
        x.receive_into((x.rank - distance) % x.size, _NOTHING, step)
        distance, step = 2 * distance, step + 1


def monitored_barrier(x, milliseconds, wait_all_ranks):
    """Rank 0 hears of everyone, then lets everyone go; it names those that did not come."""
    if x.rank != 0:
        try:
            x.send(0, _NOTHING)
            x.receive_into(0, _NOTHING, step=1)
        except RuntimeError as error:
            raise RuntimeError(
                f"Rank {x.rank} successfully reached monitoredBarrier, but received errors while "
                f"waiting for send/recv from rank 0: {error}"
            ) from error
        return
    missing = []
    for rank in x.others():
        try:
            x.receive_into(rank, _NOTHING)
        except RuntimeError as error:
            why = error
            missing.append(str(rank))
            if not wait_all_ranks:
                break
    if missing:
        ranks = ("Rank " if len(missing) == 1 else "Ranks ") + ", ".join(missing)
        raise RuntimeError(
            f"{ranks} failed to pass monitoredBarrier in {milliseconds} ms"
        ) from why
    for rank in x.others():
        x.send(rank, _NOTHING, step=1)
    x.sent()
