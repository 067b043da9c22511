# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""The same training by torch.optim and by the servers."""
import threading
import unittest

import torch_missing  # noqa: F401
import torch
from torch import nn

import job
from penstock.torch import DistributedOptimizer

STEPS, ROWS = 100, 24
RULES = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}),
    "nesterov": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 1e-3}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.05}),
}


_seeding = threading.Lock()  # workers are threads here, and torch's generator is the process's


def make_model():
    with _seeding:
        torch.manual_seed(7)
        return nn.Sequential(nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(),
                             nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3))


def batch(step, rank=0, workers=1):
    """The rows of one worker: every worker draws the whole batch and takes its share."""
    random = torch.Generator().manual_seed(step)
    x = torch.randn(ROWS, 36, generator=random)
    share = slice(rank * ROWS // workers, (rank + 1) * ROWS // workers)
    return x[share], x.sum(1, keepdim=True).sin().expand(-1, 3)[share]


def steps(model, optimizer, rank=0, workers=1):
    for step in range(STEPS):
        x, y = batch(step, rank, workers)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def difference(ours, theirs):
    """Of vectors, relative to the length of the second."""
    return (torch.linalg.vector_norm(ours.double() - theirs.double())
            / torch.linalg.vector_norm(theirs.double())).item()


class Trajectory(unittest.TestCase):
    def by_torch(self, rule):
        kind, numbers = RULES[rule]
        model = make_model()
        return steps(model, kind(model.parameters(), **numbers))

    def by_servers(self, rule, workers):
        name = rule if rule.startswith("adam") else "sgd"
        numbers = RULES[rule][1]

        def train(worker):
            model = models[worker.rank]
            optimizer = DistributedOptimizer(model.named_parameters(), name, worker=worker, **numbers)
            return steps(model, optimizer, worker.rank, worker.workers)

        models = [make_model() for _ in range(workers)]  # the seed is the process's
        return job.run(train, workers=workers, servers=2)

    def test_of_one_worker_equals_torch(self):
        for rule in RULES:
            with self.subTest(rule):
                ours, = self.by_servers(rule, 1)
                apart = difference(ours, self.by_torch(rule))
                print(f"{rule}: {apart:.2e} from torch after {STEPS} steps")
                self.assertLess(apart, 1e-6)
                start = torch.cat([p.detach().flatten() for p in make_model().parameters()])
                self.assertGreater(difference(ours, start), 1e-2, "it has not moved")

    def test_of_workers_on_shards_is_that_of_the_whole_batch(self):
        for rule, workers in (("sgd", 2), ("momentum", 3), ("adam", 2), ("adamw", 4)):
            with self.subTest(rule):
                ours = self.by_servers(rule, workers)
                for other in ours[1:]:
                    self.assertTrue(torch.equal(ours[0], other), "workers have different bits")
                apart = difference(ours[0], self.by_torch(rule))
                print(f"{rule}, {workers} workers: {apart:.2e} from torch on the whole batch")
                self.assertLess(apart, 2e-5)


if __name__ == "__main__":
    unittest.main()
