# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""ddp_rank.py RANK STORE SCHEDULER: one of two ranks of ddp_test.py."""
import math
import sys

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import job
import penstock
from penstock.torch import PushPullState, push_pull_hook

PASSES, SPOILT = 6, 3


def gradients(model, x):
    model.zero_grad()
    model(x).square().mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def same_bits(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def make_ddp(**options):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(30, 700), nn.ReLU(), nn.Linear(700, 400), nn.Linear(400, 1))
    return DistributedDataParallel(model, bucket_cap_mb=1, **options)


def main(rank, store, scheduler):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank,
                                         world_size=2)
    plain, hooked, viewed = make_ddp(), make_ddp(), make_ddp(gradient_as_bucket_view=True)
    with penstock.Worker(scheduler=scheduler, rank=rank, **job.OPTIONS) as worker:
        states = [PushPullState(worker), PushPullState(worker, first_key=1 << 50)]
        for model, state in zip((hooked, viewed), states):
            model.register_comm_hook(state, push_pull_hook)
        for number in range(PASSES):
            x = torch.randn(16, 30, generator=torch.Generator().manual_seed(2 * number + rank))
            x *= 10.0 ** (number % 3)  # a large pass must leave nothing in a small one
            if number == SPOILT and rank == 1:
                x[0, 0] = math.inf
            expected, got = gradients(plain, x), gradients(hooked, x)
            torch.testing.assert_close(got, expected, rtol=2e-6, atol=1e-6 * float(
                expected.nan_to_num(0, 0, 0).abs().max()), equal_nan=True)
            assert same_bits(gradients(viewed, x), got)
        for state in states:
            state.close()
    print(f"equal: {PASSES} passes, one of them spoilt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
