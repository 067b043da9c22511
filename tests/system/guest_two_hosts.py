# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Training between the two ends of the guest's `pair` network while its cable is spoiled and cut.

Runs inside the guest (scripts/softroce --net pair); the argument is the transport. Each end has a
device and an address of its own. What it survives, it survives with the bits that one host gives.
Exit status 77 where the transport cannot be had, with the reason in a line "SKIP: …".
"""
import os
import subprocess
import sys
import tempfile
import unittest

import job
import psbench

EPOCHS = 15
TRAINING = ("--epochs", EPOCHS, "--hidden", 64)
DETECT_MS = 15000  # longer than any disturbance here and what is made good after it
SKIPPED = 77


def cable(*words):
    done = subprocess.run(["cable", *words], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


def dropped():
    return int(cable("counters").split()[-1])


class Cable(unittest.TestCase):
    transport = None
    hosts = None
    expected = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.job = job.Job(folder.name, "--transport", self.transport, "--detect", DETECT_MS,
                           "--timeout", 60)
        self.addCleanup(self.job.kill)

    def spoil(self, *how):
        cable("spoil", *how)
        self.addCleanup(cable, "clear")

    def begin(self):
        self.job.begin(self.hosts, *TRAINING)

    def reach_the_middle(self):
        self.job.wait_for_epoch(2)

    def noticed_by_verbs(self):
        """A queue pair's retries are over in half a second, and it is in error; TCP just waits."""
        if self.transport == "verbs":
            self.job.wait_for(lambda: self.job.lost() > 0, "a queue pair failed")

    def ends_with_the_same_bits(self):
        for name, (code, last) in self.job.end(psbench.DEADLINE_S).items():
            self.assertEqual(code, psbench.GOOD, f"{name}: {last}\n{self.job.everything()}")
        self.assertEqual(self.job.saved(), self.expected)

    def test_one_packet_of_a_hundred_lost(self):
        self.spoil("loss", "1%")
        self.begin()
        self.ends_with_the_same_bits()
        self.assertGreater(dropped(), 0)

    def test_a_long_cable(self):
        self.spoil("delay", "500us")
        self.begin()
        self.ends_with_the_same_bits()

    def test_two_seconds_without_an_answer(self):
        self.begin()
        self.reach_the_middle()
        cable("spoil", "loss", "100%")
        self.job.stands_still_for(seconds=2)
        cable("clear")
        self.noticed_by_verbs()
        self.ends_with_the_same_bits()

    def test_the_cable_out_for_two_seconds(self):
        self.begin()
        self.reach_the_middle()
        cable("down")
        self.addCleanup(cable, "up")
        self.job.stands_still_for(seconds=2)
        cable("up")
        self.noticed_by_verbs()
        self.ends_with_the_same_bits()


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(SKIPPED)


def main():
    Cable.transport = sys.argv.pop(1)
    devices, addresses = (os.environ.get(name, "").split(",") for name in
                          ("PENSTOCK_RDMA_DEVICES", "PENSTOCK_RDMA_ADDRESSES"))
    if len(devices) < 2:
        skip("two ends and a cable exist only on the guest's network `pair`")
    Cable.hosts = [job.Host([], address, ("--rails", device))
                   for device, address in zip(devices, addresses)]
    if reason := job.refusal(Cable.transport, Cable.hosts):
        skip(reason)
    with tempfile.TemporaryDirectory() as folder:
        Cable.expected = job.train_here(folder, *TRAINING)
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
