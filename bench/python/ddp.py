#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""A backward pass of DistributedDataParallel, its gradients averaged by the hook and by gloo.

    PYTHONPATH=BUILD/bindings/python ddp.py [--ranks 2] [--megabytes 32] [--passes 15]

Ranks are processes of this host; one server. The model is wide and the batch one row, so that a pass
is its communication; passes with gloo and with the hook alternate.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import penstock
from penstock.torch import PushPullState, push_pull_hook

OPTIONS = {"insecure": True, "pin": False}
WIDTH, WARM, DEADLINE_S = 1024, 3, 300


def make_ddp(options):
    layers = options.megabytes * (1 << 20) // (4 * WIDTH * WIDTH)
    torch.manual_seed(1)
    return DistributedDataParallel(
        nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers))))


def pass_ms(model, x):
    model.zero_grad()
    loss = model(x).sum()
    torch.distributed.barrier()
    start = time.perf_counter()
    loss.backward()
    return 1e3 * (time.perf_counter() - start)


def run_rank(options):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{options.store}",
                                         rank=options.rank, world_size=options.ranks)
    models = {"gloo": make_ddp(options), "hook": make_ddp(options)}
    times = {name: [] for name in models}
    with penstock.Worker(scheduler=options.scheduler, rank=options.rank,
                         transport=options.transport, **OPTIONS) as worker:
        state = PushPullState(worker)
        models["hook"].register_comm_hook(state, push_pull_hook)
        for _ in range(WARM + options.passes):
            for name, model in models.items():
                times[name].append(pass_ms(model, torch.ones(1, WIDTH)))
        state.close()
    print(" ".join(str(statistics.median(times[name][WARM:])) for name in ("gloo", "hook")))
    torch.distributed.destroy_process_group()


def run_job(options):
    """[(ms with gloo, ms with the hook)] of the ranks."""
    with tempfile.TemporaryDirectory() as folder, \
         penstock.Scheduler(workers=options.ranks, servers=1, transport=options.transport,
                            **OPTIONS) as scheduler, \
         penstock.Server(scheduler=scheduler.address, transport=options.transport, **OPTIONS):
        ranks = [subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--rank", str(rank), "--store",
             os.path.join(folder, "store"), "--scheduler", scheduler.address],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
                 for rank in range(options.ranks)]
        try:
            printed = [rank.communicate(timeout=DEADLINE_S)[0] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
        if any(rank.returncode for rank in ranks):
            raise SystemExit("a rank failed; what it said is above")
        # The library logs to standard output, too; the result is the last line.
        return [tuple(map(float, text.splitlines()[-1].split())) for text in printed]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--megabytes", type=int, default=32, help="of gradients, float32")
    parser.add_argument("--passes", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--transport", default="auto")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)  # of a rank
    parser.add_argument("--store", help=argparse.SUPPRESS)
    parser.add_argument("--scheduler", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scheduler:
        run_rank(options)
        return
    rows = []
    for _ in range(options.repeats):
        gloo, hook = map(max, zip(*run_job(options)))
        rows.append((gloo, hook, hook / gloo))
    print(f"{options.ranks} ranks, {options.megabytes} MiB of gradients, {options.transport}; ms a "
          f"backward pass: medians of {options.passes} passes, the slowest rank's, then median (least "
          f"to most) of {options.repeats} repeats")
    for name, values in zip(("gloo, ms", "hook, ms", "hook / gloo"), zip(*rows)):
        print(f"{name:12} {statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
