# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Jobs with --encrypt on two hosts (netns.py), and what somebody on the cable sees of them."""
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import job
import netns
import psbench

MODEL_BYTES = 256 << 10
WORK = ("--sizes", MODEL_BYTES, "--rounds", 3)
# What lies in the workers' gradients (bench/psbench/pattern.h): three values again and again.
PATTERNS = [struct.pack("<24f", *((start + 5 * i) % 15 - 7 for i in range(24)))
            for start in range(15)]


class Encryption(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if reason := netns.missing():
            raise unittest.SkipTest(reason)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.network = netns.TwoHosts()
        self.addCleanup(self.network.close)
        self.hosts = [job.Host(self.network.on(host), self.network.addresses[host], ())
                      for host in (0, 1)]

    def begin(self, *options, server=(), worker=()):
        """A job of one worker that pushes the pattern; `server` and `worker` are theirs alone."""
        made = job.Job(self.folder, "--timeout", 20, *options)
        self.addCleanup(made.kill)
        address = f"{self.hosts[0].address}:{job.SCHEDULER_PORT}"
        join = ("--scheduler", address)
        made.start("scheduler", self.hosts[0], "--listen", address)
        made.wait_for(lambda: "listens on" in made.printed("scheduler"), "the scheduler listens")
        made.start("server", self.hosts[0], *join, "--listen",
                   f"{self.hosts[0].address}:{job.SERVER_PORT}", *server)
        made.start("worker", self.hosts[1], *join, "--listen", f"{self.hosts[1].address}:0", *WORK,
                   *worker)
        return made

    def expect_good(self, made):
        for name, (code, last) in made.end(psbench.DEADLINE_S).items():
            self.assertEqual(code, psbench.GOOD, f"{name}: {last}\n{made.everything()}")

    def wire_of(self, *options):
        """What passed the cable during a job."""
        tap = pathlib.Path(__file__).with_name("wiretap.py")
        heard = self.folder / "heard"
        with subprocess.Popen([*self.network.on(0), sys.executable, str(tap), netns.CARD,
                               str(heard)], stdout=subprocess.PIPE, text=True) as listener:
            try:
                self.assertEqual(listener.stdout.readline(), "listening\n")
                made = self.begin(*options)
                self.expect_good(made)
            finally:
                listener.kill()
        wire = heard.read_bytes()
        self.assertGreater(len(wire), MODEL_BYTES)
        return wire, made.printed("worker", "err")

    @staticmethod
    def in_clear(wire):
        return any(pattern in wire for pattern in PATTERNS)

    def test_nobody_on_the_wire_sees_a_gradient(self):
        wire, _ = self.wire_of("--transport", "tcp", "--encrypt")
        self.assertFalse(self.in_clear(wire))

    def test_nor_where_the_kernel_encrypts(self):
        wire, _ = self.wire_of("--transport", "tcp", "--encrypt", "--ktls")
        self.assertFalse(self.in_clear(wire))

    def test_without_it_everybody_does(self):
        wire, _ = self.wire_of("--transport", "tcp")
        self.assertTrue(self.in_clear(wire))

    def test_auto_takes_what_encrypts_and_says_why(self):
        wire, said = self.wire_of("--transport", "auto", "--encrypt")
        self.assertFalse(self.in_clear(wire))
        self.assertRegex(said, r"data by tcp to tcp:tls:.*encrypted, TLS 1\.3.*"
                               r"not verbs: .*does not encrypt")

    def test_trains_to_the_bits_of_an_unencrypted_run(self):
        training = ("--epochs", 3)
        expected = job.train_here(self.folder, *training)
        made = job.Job(self.folder, "--timeout", 20, "--transport", "tcp", "--encrypt")
        self.addCleanup(made.kill)
        made.begin(self.hosts, *training)
        self.expect_good(made)
        self.assertEqual(made.saved(), expected)

    def test_one_side_alone_is_told_and_nobody_hangs(self):
        for side, says in (("server", "the peer encrypts data and this process does not"),
                           ("worker", "this process encrypts data and the peer does not")):
            for transport in ("tcp", "auto"):
                with self.subTest(side=side, transport=transport):
                    made = self.begin("--transport", transport, **{side: ("--encrypt",)})
                    ends = made.end(within_s=60)
                    self.assertEqual(ends["worker"][0], psbench.ENVIRONMENT)
                    self.assertIn(says, ends["worker"][1])
                    self.assertIn("--encrypt", ends["worker"][1])
                    for name in ("server", "scheduler"):
                        self.assertNotEqual(ends[name][0], psbench.GOOD)


if __name__ == "__main__":
    unittest.main()
