#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Trains a small convolutional network on images of digits, with an optimizer on servers.

    digits.py --data tests/data/digits.csv --workers 2 --transport shm

Starts the scheduler and the servers in this process and every worker as a process of its own, each of
which reads its share of every batch. Prints the accuracy on rows that were held out, and the share
of the time that the workers waited in step(), for the network and for each other.
"""
import argparse
import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time

import numpy
import torch
from torch import nn

import penstock
from penstock.torch import DistributedOptimizer

BATCH, HELD_OUT, DEADLINE_S = 64, 360, 240


def read(path):
    """(images [n, 1, 8, 8] from 0 to 1, digits [n]), shuffled alike everywhere."""
    rows = numpy.loadtxt(path, delimiter=",", dtype="float32")
    rows = rows[numpy.random.default_rng(0).permutation(len(rows))]
    images = torch.from_numpy(rows[:, :64] / 16).reshape(-1, 1, 8, 8)
    return images, torch.from_numpy(rows[:, 64].astype("int64"))


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1),
                         nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
                         nn.Linear(64, 10))


def train(worker, options):
    """One worker's part; returns (accuracy, share of the time waited)."""
    torch.set_num_threads(1)
    images, digits = read(options.data)
    model = make_model()
    optimizer = DistributedOptimizer(model.named_parameters(), "adam", worker=worker, lr=2e-3)
    share = slice(worker.rank, None, worker.workers)
    rows = len(images) - HELD_OUT
    start = time.perf_counter()
    for epoch in range(options.epochs):
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(epoch))
        for first in range(0, rows - BATCH + 1, BATCH):
            mine = order[first:first + BATCH][share]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[mine]), digits[mine]).backward()
            optimizer.step()
    waited = optimizer.waited_s / (time.perf_counter() - start)
    with torch.no_grad():
        right = model(images[rows:]).argmax(1) == digits[rows:]
    return right.float().mean().item(), waited


def run_worker(options):
    with penstock.Worker(scheduler=options.scheduler, secret_file=options.secret_file,
                         transport=options.transport, pin=False) as worker:
        accuracy, waited = train(worker, options)
        print(f"{accuracy:.4f} {waited:.4f}")


def run_job(options):
    """Starts everything; returns what every worker printed."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        secret_file = os.path.join(folder, "job.secret")
        with open(os.open(secret_file, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(16))
        common = {"secret_file": secret_file, "transport": options.transport, "pin": False}
        scheduler = stack.enter_context(penstock.Scheduler(
            workers=options.workers, servers=options.servers, **common))
        for _ in range(options.servers):
            stack.enter_context(penstock.Server(scheduler=scheduler.address, **common))
        workers = []
        for _ in range(options.workers):
            workers.append(subprocess.Popen(
                [sys.executable, __file__, "--data", options.data, "--epochs", str(options.epochs),
                 "--transport", options.transport, "--scheduler", scheduler.address,
                 "--secret-file", secret_file], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                text=True))
            stack.callback(workers[-1].kill)
        printed = [worker.communicate(timeout=DEADLINE_S)[0] for worker in workers]
        if any(worker.returncode for worker in workers):
            raise SystemExit("a worker failed; what it said is above")
        # The library logs to standard output, too; the result is the last line.
        return [tuple(map(float, text.splitlines()[-1].split())) for text in printed]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="64 pixels from 0 to 16 and a digit a line")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--transport", default="auto")
    parser.add_argument("--scheduler", help=argparse.SUPPRESS)  # of a worker
    parser.add_argument("--secret-file", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scheduler:
        run_worker(options)
        return
    results = run_job(options)
    accuracies = sorted({accuracy for accuracy, _ in results})
    if len(accuracies) != 1:
        raise SystemExit(f"workers have different parameters: accuracies {accuracies}")
    waited = sum(share for _, share in results) / len(results)
    print(f"{options.workers} workers, {options.transport}: accuracy {accuracies[0]:.3f}, "
          f"{100 * waited:.0f} % of the time waited for the network")


if __name__ == "__main__":
    main()
