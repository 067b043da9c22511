# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's own suite of a c10d backend, as its package ships it, with world size 2.

  c10d_suite.py penstock --names c10d_suite.txt           the backend by its own name
  c10d_suite.py as-gloo --names c10d_suite_as_gloo.txt    what runs only if the name is gloo: ours
                                                          in the place of torch's ProcessGroupGloo
  c10d_suite.py gloo --record FILE                        gloo itself: how the lists were made

The listed tests must pass; a skip is a failure. The suite is unmodified:
torch.testing._internal.distributed.distributed_test. Exit status 77: it is not there.
"""
import argparse
import importlib.util
import os
import sys
import time
import types
import unittest

SKIPPED = 77
VERSION = "1.13"  # of the lists: the suite's tests change with every release
MODE = "C10D_SUITE_MODE"  # for the processes of the tests, which import this file again

if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("mode", choices=("penstock", "as-gloo", "gloo"))
    arguments.add_argument("--names", help="a file with the tests to run, one a line")
    arguments.add_argument("--record", help="a file to write outcomes to")
    arguments.add_argument("tests", nargs="*")
    options = arguments.parse_args()
    os.environ[MODE] = options.mode
    if importlib.util.find_spec("torch") is None:
        print("skipped: no torch; install python3-torch")
        sys.exit(SKIPPED)

# The suite reads these when it is imported.
os.environ["BACKEND"] = "penstock" if os.environ[MODE] == "penstock" else "gloo"
os.environ["WORLD_SIZE"] = "2"
os.environ.setdefault("TEMP_DIR", "/tmp")  # each test makes its own
os.environ.setdefault("OMP_NUM_THREADS", "1")

if "expecttest" not in sys.modules and importlib.util.find_spec("expecttest") is None:
    # The suite's base class derives from a class of this package; nothing else of it is used.
    stand_in = types.ModuleType("expecttest")
    stand_in.ACCEPT = False
    stand_in.TestCase = unittest.TestCase
    sys.modules["expecttest"] = stand_in

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch.nn.parallel import _replicated_tensor_ddp_utils
from torch.testing._internal.common_distributed import DistTestCases

# 1.13's replicated tensors do not import under Python 3.11; they have nothing to do with backends.
_replicated_tensor_ddp_utils._set_ddp_with_replicated_tensor = lambda value: None


def take_the_place_of_gloo():
    """The name is gloo in Python; in C++ it is not, where torch would cast to gloo's class."""
    from penstock.torch import c10d_group, c10d_job

    def create(store, rank, size, timeout):
        seconds = timeout.total_seconds()
        job = c10d_job.Job(store, rank, size, seconds, {})
        return c10d_group.ProcessGroup(job, b"", rank, list(range(size)), seconds)

    dist.distributed_c10d.ProcessGroupGloo = create
    # In debug mode torch wraps its own backends, and insists on the class it has just been denied.
    dist.distributed_c10d._create_process_group_wrapper = lambda wrapped_pg, **others: wrapped_pg


if os.environ[MODE] == "penstock":
    import penstock.torch.c10d  # noqa: F401  registers the backend
    for feature in ("plugin", "ddp", "subgroup"):
        DistTestCases.backend_feature[feature].add("penstock")
elif os.environ[MODE] == "as-gloo":
    take_the_place_of_gloo()

from torch.testing._internal.distributed import distributed_test as suite

if os.environ[MODE] == "as-gloo":
    # What a profile of gloo's operations holds, down to their inputs' shapes.
    suite.PROFILING_SUPPORTED_BACKENDS.clear()


def enter(environment, *given):
    os.environ.update(environment)  # the fork server's is older
    Suite._run(*given)


class Suite(suite.TestDistBackend, suite.DistributedTest._DistTestBase):
    def setUp(self):
        super().setUp()
        # Forked from a server that has imported torch and started nothing: no import per process.
        context = torch.multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["c10d_suite"])
        environment = {name: os.environ[name] for name in ("TEMP_DIR", "INIT_METHOD", "MASTER_ADDR")}

        def process(target, name, args):
            return context.Process(target=enter, name=name, args=(environment, *args))

        self._start_processes(process)


def run(name):
    result = unittest.TestResult()
    Suite(name).run(result)
    for _, words in result.failures + result.errors:
        return "fail", words
    for _, why in result.skipped:
        return "skip", why
    return "pass", ""


def main():
    if options.names and not torch.__version__.startswith(VERSION):
        print(f"skipped: torch is {torch.__version__}; the lists are of {VERSION}")
        return SKIPPED
    names = options.tests or unittest.TestLoader().getTestCaseNames(Suite)
    if options.names:
        with open(options.names) as lines:
            names = [line.strip() for line in lines if line.strip() and line[0] != "#"]
    Suite.setUpClass()
    here = os.path.dirname(os.path.abspath(__file__))
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, sys.path[1:])])
    outcomes = []
    for name in names:
        begin = time.monotonic()
        outcome, why = run(name)
        outcomes.append(outcome)
        line = f"{outcome} {name} {time.monotonic() - begin:.2f} s"
        print(line, why, flush=True)
        if options.record:
            with open(options.record, "a") as record:
                print(line, file=record)
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("pass", "skip", "fail"))
    print(f"{options.mode}: {counts}")
    return 0 if outcomes and set(outcomes) == {"pass"} else 1


if __name__ == "__main__":
    sys.exit(main())
