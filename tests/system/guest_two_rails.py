# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Training over two rails of which one goes down and comes back, again and again.

Runs inside the guest (scripts/softroce --net none): two cards of its own with a soft-RoCE device
each, all roles on them. The bits must be those of one process without a network.
"""
import datetime
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import unittest

import job
import psbench

TRAINING = ("--epochs", 100, "--hidden", 256)
RAILS = ("0", "9")
OUTAGES = 4
WANTED_MS = 50
SKIPPED = 77


def ip(*words):
    subprocess.run(["ip", *words], check=True, timeout=30)


def make_rails():
    for n in RAILS:
        ip("link", "add", f"card{n}", "mtu", "4200", "type", "dummy")
        ip("address", "add", f"10.77.{n}.1/24", "dev", f"card{n}")
        ip("link", "set", f"card{n}", "up")
        subprocess.run(["rdma", "link", "add", f"rxe{n}", "type", "rxe", "netdev", f"card{n}"],
                       check=True, timeout=30)


def packets_sent(rail):
    counters = pathlib.Path(f"/sys/class/infiniband/rxe{rail}/ports/1/hw_counters")
    return int((counters / "sent_pkts").read_text())


class TwoRails(unittest.TestCase):
    expected = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.job = job.Job(folder.name, "--transport", "verbs", "--timeout", 60)
        self.addCleanup(self.job.kill)
        self.job.begin([job.Host([], "127.0.0.1", ())] * 2, *TRAINING)

    def both_rails_carry(self):
        before = [packets_sent(rail) for rail in RAILS]
        self.job.wait_for(lambda: all(packets_sent(rail) > was + 100
                                      for rail, was in zip(RAILS, before)), "both rails carry")

    def resumed_after_ms(self):
        """For each connection lost, until its lane had the next one."""
        times = []
        for rank in range(job.WORKERS):
            lost = None
            for line in self.job.printed(f"worker {rank}", "err").splitlines():
                found = re.match(r"\[(\S+ \S+?)\].*data connection to server \d+ (lost|is up)", line)
                if not found:
                    continue
                at = datetime.datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S.%f")
                if found[2] == "lost":
                    lost = lost or at
                elif lost:
                    times.append((at - lost).total_seconds() * 1000)
                    lost = None
        return times

    def test_one_rail_goes_down_and_comes_back(self):
        self.job.wait_for_epoch(1)
        for _ in range(OUTAGES):
            self.both_rails_carry()
            lost = self.job.lost()
            ip("link", "set", "card0", "down")
            self.addCleanup(ip, "link", "set", "card0", "up")
            self.job.wait_for(lambda: self.job.lost() >= lost + job.WORKERS, "both workers lost it")
            epoch = self.job.epoch()
            self.job.wait_for_epoch(epoch + 2)  # over the other
            ip("link", "set", "card0", "up")
        for name, (code, last) in self.job.end(psbench.DEADLINE_S).items():
            self.assertEqual(code, psbench.GOOD, f"{name}: {last}\n{self.job.everything()}")
        self.assertEqual(self.job.saved(), self.expected)
        times = self.resumed_after_ms()
        self.assertGreaterEqual(len(times), OUTAGES * job.WORKERS)
        print(f"resumed after {statistics.median(times):.0f} ms ({min(times):.0f} to "
              f"{max(times):.0f}, {len(times)} connections); {WANTED_MS} ms are wanted")


def main():
    make_rails()
    host = job.Host([], "127.0.0.1", ())
    if reason := job.refusal("verbs", [host, host]):
        print(f"SKIP: {reason}")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as folder:
        TwoRails.expected = job.train_here(folder, *TRAINING)
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
