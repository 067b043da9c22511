# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Training on two hosts whose cable is cut, throttled, delayed and spoiled by the kernel.

The hosts are network namespaces (netns.py). Whatever happens for less than the detection time, the
parameters end as the bits they have on one host; what lasts longer ends every process by name.
"""
import tempfile
import unittest

import job
import netns
import psbench

EPOCHS = 30
TRAINING = ("--epochs", EPOCHS, "--hidden", 256)
DETECT_MS = 8000  # longer than any disturbance that is to be survived, even on a busy machine
DATA = "tcp dport != { %d, %d } counter" % job.CONTROL_PORTS  # a rule that leaves control alone


class TwoHosts:
    transport = None
    prefix = ()

    @classmethod
    def setUpClass(cls):
        if reason := netns.missing():
            raise unittest.SkipTest(reason)
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        with netns.TwoHosts() as network:
            if reason := job.refusal(cls.transport, cls.hosts_of(network)):
                raise unittest.SkipTest(reason)
        cls.expected = job.train_here(cls.folder.name, *TRAINING)

    @classmethod
    def hosts_of(cls, network):
        return [job.Host([*network.on(host), *cls.prefix], network.addresses[host], ())
                for host in (0, 1)]

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.network = netns.TwoHosts()
        self.addCleanup(self.network.close)
        self.job = job.Job(folder.name, "--transport", self.transport, "--timeout", 20)
        self.addCleanup(self.job.kill)

    def offered(self, action, *arguments):
        """Does what not every kernel can, or skips."""
        try:
            return action(*arguments)
        except OSError as error:
            return self.skipTest(f"not offered here: {error}")

    def begin(self, detect_ms=DETECT_MS):
        self.job.options += ["--detect", str(detect_ms)]
        self.job.begin(self.hosts_of(self.network), *TRAINING)

    def reach_the_middle(self):
        self.job.wait_for_epoch(3)

    def ends_with_the_same_bits(self):
        for name, (code, last) in self.job.end(psbench.DEADLINE_S).items():
            self.assertEqual(code, psbench.GOOD, f"{name}: {last}\n{self.job.everything()}")
        self.assertEqual(self.job.saved(), self.expected)

    def test_undisturbed(self):
        self.begin()
        self.ends_with_the_same_bits()

    def test_a_cable_out_for_less_than_the_detection_time(self):
        self.begin()
        self.reach_the_middle()
        self.network.plug(False)
        self.job.stands_still_for(seconds=1)
        self.network.plug(True)
        self.ends_with_the_same_bits()

    def test_a_cable_out_for_longer_ends_everyone_by_name(self):
        self.begin(detect_ms=2000)
        self.reach_the_middle()
        self.network.plug(False)
        ends = self.job.end(within_s=30)
        for name, peer in (("scheduler", "worker"), ("server", "worker"),
                           ("worker 0", "server 0|scheduler"), ("worker 1", "server 0|scheduler")):
            code, last = ends[name]
            self.assertIn(code, (psbench.ENVIRONMENT, psbench.TIMEOUT), f"{name}: {last}")
            self.assertRegex(last, f"peer lost: .*({peer})")

    def test_a_slow_cable(self):
        self.offered(self.network.shape, "tbf", "rate", "200mbit", "burst", "32kb", "latency",
                     "20ms")
        self.begin()
        self.ends_with_the_same_bits()
        self.assertGreater(self.network.shaped(), 0)

    def test_a_long_cable(self):
        self.offered(self.network.shape, "netem", "delay", "2ms", "1ms")
        self.begin()
        self.ends_with_the_same_bits()

    def test_one_packet_of_a_hundred_lost(self):
        self.offered(self.network.filter, "numgen random mod 100 < 1 counter drop")
        self.begin()
        self.ends_with_the_same_bits()
        self.assertGreater(self.network.unfilter(), 0)

    def test_data_that_goes_nowhere_for_a_moment(self):
        self.begin()
        self.reach_the_middle()
        self.offered(self.network.filter, f"{DATA} drop")
        self.job.stands_still_for(seconds=1)
        self.assertGreater(self.network.unfilter(), 0)
        self.ends_with_the_same_bits()

    def test_data_connections_reset_and_refused_for_a_moment(self):
        self.begin()
        self.reach_the_middle()
        self.offered(self.network.filter, f"{DATA} reject with tcp reset")
        self.job.wait_for(lambda: self.job.lost() > 0, "a worker noticed")
        self.job.stands_still_for(seconds=0.3)  # the first attempts to reconnect fail as well
        self.assertGreater(self.network.unfilter(), 0)
        self.ends_with_the_same_bits()

    def test_data_connections_killed(self):
        self.begin()
        self.reach_the_middle()
        killed = self.offered(self.network.kill_connections, job.CONTROL_PORTS)
        if killed == 0:
            self.skipTest("not offered here: ss -K (CONFIG_INET_DIAG_DESTROY)")
        self.job.wait_for(lambda: self.job.lost() > 0, "a worker noticed")
        self.ends_with_the_same_bits()


class Tcp(TwoHosts, unittest.TestCase):
    transport = "tcp"


class Ucx(TwoHosts, unittest.TestCase):
    transport = "ucx"
    # UCX would notice that the two share a kernel: memory, and "lo" as a way from one to the other.
    prefix = ("env", "UCX_TLS=tcp", f"UCX_NET_DEVICES={netns.CARD}")


if __name__ == "__main__":
    unittest.main()
