# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""One process of c10d_process_test.py: c10d_rank.py <scenario> <rank> <ranks> <folder>."""
import gc
import hashlib
import os
import signal
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

import penstock.torch.c10d  # noqa: F401  registers the backend

TIMEOUT = timedelta(seconds=30)


def initialize(backend="penstock", again=""):
    dist.init_process_group(backend, init_method=f"file://{folder}/store{again}", rank=rank,
                            world_size=ranks, timeout=TIMEOUT)


def total(group=None):
    tensor = torch.tensor([float(rank + 1)])
    dist.all_reduce(tensor, group=group)
    return int(tensor)


def ddp():
    """Says the digest of the mean gradient of two ranks, and of what it must be."""
    initialize()
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(64, 300), torch.nn.Tanh(), torch.nn.Linear(300, 10))
    inputs = [torch.randn(16, 64) for _ in range(ranks)]
    gradients = []
    for given in inputs:
        model.zero_grad()
        model(given).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    expected = [one / 2 + two / 2 for one, two in zip(*gradients)]
    model.zero_grad()
    # Small buckets: several operations at once, while backward() goes on.
    wrapped = torch.nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.01)
    for _ in range(2):  # the buckets are built anew after the first
        wrapped.zero_grad()
        wrapped(inputs[rank]).square().mean().backward()
        print(digest(parameter.grad for parameter in model.parameters()), digest(expected))


def digest(tensors):
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


def killed():
    initialize()
    try:
        dist.barrier()  # which rank 1 may be through before rank 0 is
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        total()
    except RuntimeError as error:
        print(error)


def raises():
    initialize()
    dist.barrier()
    if rank == 1:
        raise ValueError("this rank gives up")
    try:
        total()
    except RuntimeError as error:
        print(error)


def again():
    for i in range(3):
        initialize(again=i)  # torch's file store, left and entered at once, loses keys
        print(total())
        dist.destroy_process_group()


def forks():
    """As torch's data loaders do."""
    initialize()
    child = os.fork()
    if child == 0:
        dist.destroy_process_group()
        gc.collect()
        sys.exit(5)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), total())


def early():
    """Rank 0, with the scheduler, is done long before the others."""
    initialize()
    dist.barrier()
    if rank == 0:
        return
    time.sleep(0.5)
    tensor = torch.tensor([float(rank)])
    if rank == 1:
        dist.send(tensor, 2)
    else:
        dist.recv(tensor, 1)
    print(int(tensor))


def parts():
    """Groups of a default group, and of one of another backend."""
    initialize()
    group = dist.new_group([2, 0])
    print(total(), total(group) if rank != 1 else 0)
    dist.destroy_process_group()
    initialize("gloo", again="gloo")
    group = dist.new_group([1, 2], backend="penstock")
    print(total(), total(group) if rank != 0 else 0)


scenario, rank, ranks, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
globals()[scenario]()
