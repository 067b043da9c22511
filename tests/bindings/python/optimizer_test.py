# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""DistributedOptimizer used as a torch.optim.Optimizer is, and what it refuses."""
import io
import threading
import unittest

import torch_missing  # noqa: F401
import torch
from torch import nn

import job
from penstock import errors
from penstock.torch import DistributedOptimizer


class Recorder:
    """A worker that writes down which rounds were started."""

    def __init__(self, worker):
        self.worker, self.started = worker, []

    def __getattr__(self, name):
        return getattr(self.worker, name)

    def push_pull(self, key, number):
        self.started.append(("push_pull", key))
        self.worker.push_pull(key, number)

    def pull(self, key, number):
        self.started.append(("pull", key))
        self.worker.pull(key, number)


_seeding = threading.Lock()  # workers are threads here, and torch's generator is the process's


def make_model():
    with _seeding:
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))


def batch(step):
    random = torch.Generator().manual_seed(step)
    return torch.randn(8, 6, generator=random)


def values(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Usage(unittest.TestCase):
    def equal(self, use, ours=None, theirs=None, tolerance=1e-6):
        """use(model, optimizer) gives the same with both; sgd with 0.1 unless given."""
        ours = ours or (lambda model, worker: DistributedOptimizer(
            model.parameters(), "sgd", worker=worker, lr=0.1))
        theirs = theirs or (lambda model: torch.optim.SGD(model.parameters(), lr=0.1))

        def train(worker):
            model = make_model()
            self.recorder = Recorder(worker)
            use(model, ours(model, self.recorder))
            return values(model)

        result, = job.run(train)
        model = make_model()
        before = values(model)
        use(model, theirs(model))
        torch.testing.assert_close(result, values(model), rtol=tolerance, atol=tolerance)
        self.assertFalse(torch.equal(before, result))

    def test_parameter_groups_have_their_own_numbers(self):
        def groups(model):
            return [{"params": model[0].parameters(), "lr": 0.02},
                    {"params": model[2].parameters(), "momentum": 0.5, "weight_decay": 0.1}]

        def use(model, optimizer):
            for step in range(5):
                optimizer.zero_grad()
                model(batch(step)).square().sum().backward()
                optimizer.step()

        self.equal(use, lambda model, worker: DistributedOptimizer(groups(model), worker=worker,
                                                                   lr=0.1),
                   lambda model: torch.optim.SGD(groups(model), lr=0.1))

    def test_a_group_may_come_later(self):
        def use(model, optimizer):
            optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.3})
            for step in range(3):
                optimizer.zero_grad()
                model(batch(step)).square().sum().backward()
                optimizer.step()

        self.equal(use, lambda model, worker: DistributedOptimizer(model[0].parameters(),
                                                                   worker=worker, lr=0.1),
                   lambda model: torch.optim.SGD(model[0].parameters(), lr=0.1))

    def test_step_takes_a_closure(self):
        losses = []

        def use(model, optimizer):
            def closure():
                optimizer.zero_grad()
                loss = model(batch(0)).square().sum()
                loss.backward()
                return loss
            losses.append([optimizer.step(closure).item() for _ in range(3)])

        self.equal(use)
        torch.testing.assert_close(losses[0], losses[1])

    def test_gradients_of_several_passes_are_added_up(self):
        def use(model, optimizer):
            for step in range(3):
                optimizer.zero_grad()
                for part in range(4):
                    model(batch(step * 4 + part)).square().sum().backward()
                optimizer.step()

        self.equal(use, lambda model, worker: DistributedOptimizer(
            model.parameters(), worker=worker, lr=0.01, backward_passes_per_step=4),
            lambda model: torch.optim.SGD(model.parameters(), lr=0.01))

    def test_gradients_may_be_clipped_before_they_leave(self):
        def use(model, optimizer):
            for step in range(3):
                optimizer.zero_grad()
                with getattr(optimizer, "no_sync", torch.enable_grad)():
                    model(batch(step)).square().sum().backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()

        self.equal(use)

    def test_gradients_may_be_dropped_by_the_model(self):
        def use(model, optimizer):
            for step in range(3):
                for parameter in model.parameters():
                    parameter.grad = None
                model(batch(step)).square().sum().backward()
                optimizer.step()

        self.equal(use)

    def test_gradients_that_were_not_zeroed_count_again(self):
        def use(model, optimizer):
            model(batch(0)).square().sum().backward()
            optimizer.step()
            optimizer.step()

        self.equal(use)

    def test_a_parameter_without_a_gradient_only_receives(self):
        def use(model, optimizer):
            optimizer.zero_grad()
            model[0](batch(0)).square().sum().backward()
            optimizer.step()

        self.equal(use)
        self.assertEqual(sorted(self.recorder.started),
                         [("pull", 2), ("pull", 3), ("push_pull", 0), ("push_pull", 1)])

    def test_gradients_leave_in_the_backward_pass_the_last_layer_first(self):
        def train(worker):
            model, recorder = make_model(), Recorder(worker)
            optimizer = DistributedOptimizer(model.parameters(), worker=recorder, lr=0.1)
            model[0].weight.register_hook(lambda _: seen.extend(recorder.started))
            model(batch(0)).square().sum().backward()
            self.assertEqual(len(recorder.started), 4)
            optimizer.step()

        seen = []
        job.run(train)
        self.assertLessEqual({("push_pull", 2), ("push_pull", 3)}, set(seen))
        self.assertNotIn(("push_pull", 0), seen)

    def test_gradients_leave_in_step_without_overlap(self):
        def use(model, optimizer):
            model(batch(0)).square().sum().backward()
            nn.utils.clip_grad_value_(model.parameters(), 0.01)
            optimizer.step()

        self.equal(use, lambda model, worker: DistributedOptimizer(
            model.parameters(), worker=worker, lr=0.1, overlap=False))

    def test_half_precision_has_masters_on_the_servers(self):
        def train(worker):
            parameter = nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
            optimizer = DistributedOptimizer([parameter], worker=worker, lr=2.0 ** -10)
            for _ in range(16):  # each step alone is below what bfloat16 resolves at 1
                optimizer.zero_grad()
                parameter.sum().backward()
                optimizer.step()
            return parameter.detach()

        result, = job.run(train)
        self.assertTrue(torch.equal(result, torch.full((64,), 1 - 2.0 ** -6, dtype=torch.bfloat16)))

    def test_schedules_run_on_the_servers(self):
        def use(model, optimizer):
            plain = isinstance(optimizer, torch.optim.SGD)
            scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3], 0.5) if plain else None
            for step in range(6):
                optimizer.zero_grad()
                model(batch(step)).square().sum().backward()
                optimizer.step()
                if plain:
                    scheduler.step()

        self.equal(use, lambda model, worker: DistributedOptimizer(
            model.parameters(), worker=worker, lr=0.1, schedule="piecewise", boundaries=[3],
            multipliers=[0.5]))


class Refusals(unittest.TestCase):
    def refuse(self, kind, words, use, model=make_model, **numbers):
        def train(worker):
            module = model()
            with self.assertRaisesRegex(kind, words):
                use(module, DistributedOptimizer(module.named_parameters(), worker=worker,
                                                 **{"lr": 0.1, **numbers}))
            finish(worker)

        def finish(worker):
            worker.close()  # rounds may be running: no leave()

        try:
            job.run(train)
        except errors.Error as error:  # the servers' end, which the close() above brought about
            self.assertRegex(str(error), "closed|lost|cancelled")

    def test_sparse_gradients(self):
        self.refuse(errors.Unsupported, "gradient of weight is sparse; servers have no sparse tables",
                    lambda model, _: model(torch.tensor([1, 2])).sum().backward(),
                    lambda: nn.Embedding(8, 4, sparse=True))

    def test_a_second_pass_before_the_step(self):
        def use(model, _):
            for _ in range(2):
                model(batch(0)).sum().backward()

        self.refuse(errors.InvalidArgument, "has left already.*backward_passes_per_step", use)

    def test_a_learning_rate_that_changes(self):
        def use(model, optimizer):
            optimizer.zero_grad()
            model(batch(0)).sum().backward()
            optimizer.param_groups[0]["lr"] = 0.05
            optimizer.step()

        self.refuse(errors.InvalidArgument, "learning_rate=0.05.* now.*learning_rate=0.1.*schedule=",
                    use)

    def test_a_scheduler_of_torch(self):
        def use(model, optimizer):
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
            for _ in range(2):
                optimizer.zero_grad()
                model(batch(0)).sum().backward()
                optimizer.step()
                scheduler.step()

        self.refuse(errors.InvalidArgument, "learning_rate=0.05.* now.*learning_rate=0.1.*schedule="
                    ".*as torch's schedulers do", use)

    def test_a_gradient_that_changes_on_its_way(self):
        def use(model, optimizer):
            model(batch(0)).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()

        self.refuse(errors.InvalidArgument, "0.weight was changed after it had left.*no_sync", use)

    def test_zeroing_on_the_way(self):
        def use(model, optimizer):
            model(batch(0)).sum().backward()
            optimizer.zero_grad()

        self.refuse(errors.InvalidArgument, "zero_grad.. while the gradient of 0.weight", use)

    def test_optimizers_and_numbers_nobody_knows(self):
        for numbers, words in (({"optimizer": "sgdd"}, "no optimizer is called 'sgdd'"),
                               ({"optimizer": "adam", "amsgrad": True}, "'amsgrad'"),
                               ({"optimizer": "adam", "betas": (0.9, 1.5)}, "beta2"),
                               ({"optimizer": "adam", "nesterov": True}, "needs optimizer=\"sgd\""),
                               ({"backward_passes_per_step": 0}, "at least 1")):
            with self.subTest(words):
                self.refuse(errors.InvalidArgument, words, lambda *_: None, **numbers)

    def test_parameters_that_cannot_be_lent(self):
        def holding(tensor):
            module = nn.Module()
            module.weight = nn.Parameter(tensor)
            return lambda: module

        for tensor, kind, words in (
                (torch.zeros(4, 3).t(), errors.InvalidArgument, "weight is not contiguous"),
                (torch.zeros(3, dtype=torch.float64), errors.Unsupported, "64 bits"),
                (torch.zeros(3, device="meta"), errors.Unsupported, "weight is on meta"),
                (torch.zeros(0), errors.InvalidArgument, "weight has no elements")):
            with self.subTest(words):
                self.refuse(kind, words, lambda *_: None, holding(tensor))


class State(unittest.TestCase):
    def train(self, optimizer_name, saved=None, steps=4, first=0, **numbers):
        def train(worker):
            model = make_model()
            optimizer = DistributedOptimizer(model.parameters(), optimizer_name, worker=worker,
                                             lr=0.1, **numbers)
            if saved is not None:
                optimizer.load_state_dict(saved)
            for step in range(first, first + steps):
                optimizer.zero_grad()
                model(batch(step)).square().sum().backward()
                optimizer.step()
            return optimizer.state_dict()

        return job.run(train, workers=2)[0]

    def test_training_goes_on_where_it_was_saved(self):
        for name, numbers in (("sgd", {}), ("sgd", {"momentum": 0.9}), ("adamw", {}),
                              ("adam", {"schedule": "cosine", "period": 10}),
                              ("adamw", {"state_dtype": "bf16"})):
            with self.subTest(name, **numbers):
                file = io.BytesIO()
                torch.save(self.train(name, **numbers), file)
                file.seek(0)
                saved = torch.load(file)
                self.assertEqual(saved["param_groups"][0]["lr"], 0.1)
                self.assertEqual([state["step"] for state in saved["state"].values()], [4] * 4)
                resumed = self.train(name, saved, first=4, **numbers)
                straight = self.train(name, steps=8, **numbers)
                for ours, theirs in zip(resumed["parameters"], straight["parameters"]):
                    self.assertTrue(torch.equal(ours, theirs))
                self.assertEqual(resumed["state"][0]["step"], 8)

    def test_state_that_cannot_be_read_is_refused_in_words(self):
        with self.assertRaisesRegex(errors.Error, "adafactor's means|is lost"):
            self.train("adafactor", steps=1)

    def test_of_another_optimizer_is_refused(self):
        saved = self.train("sgd", steps=0)
        with self.assertRaisesRegex(errors.Error, "the saved optimizer was \"sgd:|is lost"):
            self.train("sgd", saved, weight_decay=0.5)


if __name__ == "__main__":
    unittest.main()
