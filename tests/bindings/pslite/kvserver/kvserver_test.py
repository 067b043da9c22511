# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Jobs of penstock-kvserver and two workers that speak MXNet's dialect and check every value."""
import os
import subprocess
import unittest

PENSTOCK = os.environ["PENSTOCK"]
SERVER = os.environ["KVSERVER"]
WORKER = os.environ["DIALECT_WORKER"]
GOOD, FAILED = 0, 1
ROLES = 'if [ "$DMLC_ROLE" = worker ]; then exec "$1" "$3"; else exec "$2"; fi'


def job(scenario, servers=2):
    return subprocess.run(
        [PENSTOCK, "launch", "--local", "--workers", "2", "--servers", str(servers), "--timeout",
         "60", "--", "sh", "-c", ROLES, "job", WORKER, SERVER, scenario],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)


class Dialect(unittest.TestCase):
    def passes(self, scenario, servers=2):
        done = job(scenario, servers)
        self.assertEqual(done.returncode, GOOD, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count("good"), 2, done.stdout + done.stderr)
        return done

    def test_sums_replace_values_without_an_optimizer(self):
        self.passes("sync")

    def test_one_server_and_three(self):
        self.passes("sync", 1)
        self.passes("sync", 3)

    def test_pushes_are_answered_with_their_round_and_pulls_at_once(self):
        self.passes("deferred")

    def test_optimizers_in_words(self):
        self.passes("optimizers")

    def test_asynchronous_pushes_step_one_by_one(self):
        self.passes("async")

    def test_row_sparse_keys(self):
        self.passes("rows")

    def test_two_bits_and_one(self):
        self.passes("compressed")

    def test_multi_precision(self):
        self.passes("half")

    def test_commands_are_answered_and_refusals_are_said(self):
        done = self.passes("commands")
        self.assertIn("no profiler", done.stderr)

    def test_a_pickled_optimizer_is_refused_and_so_are_pushes_after_it(self):
        done = job("pickled")
        self.assertEqual(done.returncode, FAILED, done.stdout + done.stderr)
        self.assertIn("came pickled", done.stderr)
        self.assertIn("after an optimizer that was refused", done.stderr)

    def test_a_push_that_does_not_fit_ends_the_server_in_words(self):
        done = job("wrong_size", 1)
        self.assertEqual(done.returncode, FAILED, done.stdout + done.stderr)
        self.assertIn("5 elements of type 0 are pushed for key 1, which has 4", done.stderr)


class Program(unittest.TestCase):
    def run_as(self, *words, **settings):
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith("DMLC_")}
        return subprocess.run([SERVER, *words], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=30, check=False, env={**environment, **settings})

    def test_is_no_worker(self):
        done = self.run_as(DMLC_ROLE="worker")
        self.assertEqual(done.returncode, 64)
        self.assertIn('DMLC_ROLE is "worker"', done.stderr)

    def test_takes_no_options(self):
        self.assertEqual(self.run_as("--help").returncode, 0)
        self.assertEqual(self.run_as("--port").returncode, 64)


if __name__ == "__main__":
    unittest.main()
