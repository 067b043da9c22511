# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""A job whose processes are started by hand, as on a cluster."""
import os
import re
import socket
import subprocess
import tempfile
import unittest

import psbench


class Roles(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.secret = self.make_secret("secret")
        self.processes = []
        self.addCleanup(self.put_away)

    def make_secret(self, name):
        path = os.path.join(self.folder.name, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write(os.urandom(16).hex())
        return path

    def put_away(self):
        for process in self.processes:
            process.kill()
            process.communicate()

    def start(self, role, *arguments, secret=None):
        process = psbench.start("role", role, "--secret-file", secret or self.secret, "--timeout",
                                30, "--model", "dlrm-mlp", "--rounds", 3, *map(str, arguments))
        self.processes.append(process)
        return process

    def scheduler(self, *arguments):
        process = self.start("scheduler", *arguments)
        return process, re.search(r"listens on (\S+)", process.stdout.readline()).group(1)

    def end(self, process):
        out, err = process.communicate(timeout=psbench.DEADLINE_S)
        return process.returncode, out, err

    def test_a_job_of_four_processes_runs_to_its_end(self):
        scheduler, address = self.scheduler("--workers", 2)
        server = self.start("server", "--scheduler", address)
        workers = [self.start("worker", "--scheduler", address, "--rank", rank) for rank in (0, 1)]
        for process in [*workers, server, scheduler]:
            code, _, err = self.end(process)
            self.assertEqual(code, psbench.GOOD, err)

    def run_job(self, *work):
        """Scheduler, server and two workers that do `work`; returns how the workers ended."""
        scheduler, address = self.scheduler("--workers", 2)
        server = self.start("server", "--scheduler", address)
        workers = [self.start("worker", "--scheduler", address, "--rank", rank, *work)
                   for rank in (0, 1)]
        ends = [self.end(process) for process in workers]
        for process in (server, scheduler):
            self.assertEqual(self.end(process)[0], psbench.GOOD)
        return ends

    def test_every_round_is_audited(self):
        for code, _, err in self.run_job("--sizes", "300K", "--audit"):
            self.assertEqual(code, psbench.GOOD, err)

    def test_trains_to_the_bits_of_a_local_run(self):
        training = ("--data", psbench.DIGITS, "--epochs", 2, "--optimizer", "adam", "--save")
        local, roles = (os.path.join(self.folder.name, name) for name in ("local", "roles"))
        done = psbench.run("train", "--local", "1x2", *training, local)
        self.assertEqual(done.returncode, psbench.GOOD, done.stderr)
        for code, _, err in self.run_job(*training, roles):
            self.assertEqual(code, psbench.GOOD, err)
        with open(local, "rb") as expected, open(roles, "rb") as got:
            self.assertEqual(got.read(), expected.read())

    def test_wrong_work_is_refused_before_joining(self):
        for work, sentence in ((("--sizes", "4K,8K"), "one size"),
                               (("--audit", "--optimizer", "adam"), "needs sgd"),
                               (("--data", "/nonexistent.csv"), "/nonexistent.csv")):
            code, _, err = self.end(self.start("worker", "--scheduler", "127.0.0.1:1", *work))
            self.assertIn(code, (psbench.USAGE, psbench.ENVIRONMENT))
            self.assertIn(sentence, err)

    def test_a_rank_is_started_once(self):
        _, address = self.scheduler("--workers", 2)
        first = self.start("worker", "--scheduler", address, "--rank", 0)
        second = self.start("worker", "--scheduler", address, "--rank", 0)
        ended = psbench.wait_for(lambda: [p for p in (first, second) if p.poll() is not None],
                                 "one of two workers of one rank to be refused")
        code, _, err = self.end(ended[0])
        self.assertEqual(code, psbench.ENVIRONMENT)
        self.assertIn("worker rank 0 is taken", err)

    def test_another_secret_is_refused(self):
        _, address = self.scheduler()
        code, _, err = self.end(self.start("worker", "--scheduler", address,
                                           secret=self.make_secret("other")))
        self.assertEqual(code, psbench.ENVIRONMENT)
        self.assertIn("the job secret", err)

    def test_without_a_secret_nothing_starts(self):
        environment = {k: v for k, v in os.environ.items() if k != "PENSTOCK_SECRET_FILE"}
        ended = subprocess.run([psbench.PROGRAM, "role", "scheduler"], env=environment,
                               stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               timeout=psbench.DEADLINE_S, check=False)
        self.assertEqual(ended.returncode, psbench.USAGE)
        self.assertIn("PENSTOCK_SECRET_FILE", ended.stderr)

    def test_a_scheduler_that_is_not_there_is_named(self):
        process = psbench.start("role", "worker", "--secret-file", self.secret, "--timeout", 1,
                                "--detect", 200, "--scheduler", "127.0.0.1:1")
        self.processes.append(process)
        code, _, err = self.end(process)
        self.assertEqual(code, psbench.ENVIRONMENT)
        self.assertIn("127.0.0.1:1", err)

    def test_processes_may_start_before_their_scheduler(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % free.getsockname()[1]
        others = [self.start(role, "--scheduler", address) for role in ("worker", "server")]
        for other in others:
            self.assertIn("no scheduler listens yet", other.stderr.readline())
        scheduler = self.start("scheduler", "--listen", address)
        for process in [*others, scheduler]:
            code, _, err = self.end(process)
            self.assertEqual(code, psbench.GOOD, err)

    def test_a_job_that_is_never_complete_names_who_is_missing(self):
        process = psbench.start("role", "scheduler", "--secret-file", self.secret, "--timeout", 1,
                                "--workers", 3)
        self.processes.append(process)
        code, _, err = self.end(process)
        self.assertEqual(code, psbench.TIMEOUT)
        self.assertIn("3 of 3 workers", err)


if __name__ == "__main__":
    unittest.main()
