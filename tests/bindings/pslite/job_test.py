# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Whole jobs of the programs in this folder. PENSTOCK_PS_REPEAT: how often each runs (once)."""
import os
import re
import unittest
import unittest.mock

import launch

PROGRAMS = os.environ["PSLITE_PROGRAMS"]
REPEAT = int(os.environ.get("PENSTOCK_PS_REPEAT", "1"))
DEADLINE_S = int(os.environ.get("PSLITE_DEADLINE", "60"))
ABORTED = -6
SIZES = ((1, 1), (2, 2), (4, 3))  # workers, servers
if os.environ.get("PSLITE_SMALL"):  # eight processes under a sanitizer take minutes
    SIZES = SIZES[:2]
UCX = [{"DMLC_ENABLE_UCX": 1}] if os.environ.get("PSLITE_UCX") else []
DROPS = {"PS_DROP_MSG": 10, "PS_RESEND": 1, "PS_VERBOSE": 1}


def roles(workers, servers):
    return ["server"] * servers + ["worker"] * workers


class Jobs(unittest.TestCase):
    def run_job(self, program, started, **options):
        job = launch.Job(os.path.join(PROGRAMS, "pslite_" + program), started, **options)
        self.addCleanup(job.kill)
        return job.end(DEADLINE_S)

    def good_once(self, program, started, **options):
        ends = self.run_job(program, started, **options)
        for end in ends:
            self.assertEqual((end.code, end.out), (0, "good\n"), launch.describe(ends))
        return ends

    def good(self, program, started, **options):
        for _ in range(REPEAT):
            ends = self.good_once(program, started, **options)
        return ends


class Good(Jobs):
    def every_size(self, program):
        for workers, servers in SIZES:
            with self.subTest(workers=workers, servers=servers):
                self.good(program, roles(workers, servers))

    def test_modern(self):
        self.every_size("modern")

    def test_values(self):
        self.every_size("values")

    def test_simple(self):
        self.every_size("simple")

    def test_everywhere(self):
        self.every_size("everywhere")

    def test_restart(self):
        self.every_size("restart")

    def test_grouped(self):
        self.every_size("grouped")

    def test_joint_and_several_instances(self):
        self.good("grouped", ["joint"] * 2)
        self.good("grouped", ["joint"] * 2, settings={"DMLC_GROUP_SIZE": 2})
        self.good("grouped", roles(2, 1), settings={"DMLC_GROUP_SIZE": 2})

    def test_customers(self):
        for counted in (6, 2):
            self.good("customers", roles(2, 2), workers=counted,
                      settings={"TEST_WORKER_PROCESSES": 2})

    def test_transports(self):
        for settings in ({"DMLC_PS_VAN_TYPE": "zmq"}, {"DMLC_LOCAL": 1}, *UCX):
            with self.subTest(settings=settings):
                self.good("values", roles(1, 2), settings=settings)


class Dropping(Jobs):
    def drops(self, program, started, **options):
        dropped = 0
        for _ in range(REPEAT):
            for end in self.good_once(program, started, settings=DROPS, **options):
                dropped += sum(map(int, re.findall(r"(\d+) messages thrown away", end.err)))
        self.assertGreater(dropped, 0)

    def test_values(self):
        for workers, servers in SIZES:
            self.drops("values", roles(workers, servers))

    def test_modern(self):
        self.drops("modern", roles(2, 2))

    def test_simple(self):
        self.drops("simple", roles(2, 2))

    def test_everywhere(self):
        self.drops("everywhere", roles(2, 2))

    def test_restart(self):
        self.drops("restart", roles(4, 3))

    def test_grouped(self):
        self.drops("grouped", roles(2, 2))
        self.drops("grouped", ["joint"] * 2)

    def test_without_resend_nothing_is_dropped(self):
        ends = self.good("modern", roles(1, 1), settings={"PS_DROP_MSG": 50})
        self.assertIn("PS_DROP_MSG without PS_RESEND=1", ends[0].err)


class Failing(Jobs):
    def fail(self, how, **settings):
        ends = self.run_job("failing", roles(3, 2), settings={"TEST_FAILURE": how, **settings})
        self.assertNotIn(None, [end.code for end in ends], launch.describe(ends))
        return ends

    def test_a_dead_worker_ends_everybody_by_name(self):
        for how in ("wait", "barrier", "callback", "exit"):
            with self.subTest(how=how):
                ends = self.fail(how)
                codes = sorted(end.code for end in ends)
                self.assertEqual(codes.count(ABORTED), 5, launch.describe(ends))
                for end in ends:
                    if end.code == ABORTED:
                        self.assertRegex(end.err, r"ps: .*worker 2 \(\S+\) is lost")

    def test_exceptions_instead(self):
        ends = self.fail("wait", PENSTOCK_PS_ERRORS="throw")
        caught = [end for end in ends if end.code == 7]
        self.assertEqual(len(caught), 5, launch.describe(ends))
        for end in caught:
            self.assertRegex(end.out, r"caught: .*worker 2 \(\S+\) is lost")

    def test_nobody_waits_for_a_worker_that_left(self):
        ends = self.fail("left")
        codes = sorted(end.code for end in ends)
        self.assertEqual(codes, [ABORTED] * 5 + [0], launch.describe(ends))
        for end in ends:
            if end.code == ABORTED:
                self.assertIn("waits for worker 2, which has left the job", end.err)

    def test_the_scheduler_tells_who_is_dead(self):
        scheduler = self.fail("watch")[0]
        self.assertIn("dead: 13\n", scheduler.out)

    def test_what_cannot_be_is_refused_in_words(self):
        for how, words in (("key", "above the last server's range"),
                           ("lens", "lens add up to 2"),
                           ("order", "keys must ascend"),
                           ("size", "must be empty or fit"),
                           ("app", "no customer 0 of app 9"),
                           ("type", "a value of app 0 has 4 here")):
            with self.subTest(how=how):
                ends = self.fail(how)
                self.assertTrue(any(words in end.err and end.code == ABORTED for end in ends),
                                launch.describe(ends))

    def settings_fail(self, words, **settings):
        ends = self.run_job("modern", [], workers=1, servers=1, settings=settings)
        self.assertEqual(ends[0].code, ABORTED, launch.describe(ends))
        self.assertIn(words, ends[0].err)

    def test_settings_are_refused_in_words(self):
        self.settings_fail("PENSTOCK_SECRET_FILE", DMLC_PS_ROOT_URI="192.0.2.1")
        self.settings_fail("DMLC_NUM_WORKER is \"two\"", DMLC_NUM_WORKER="two")
        with unittest.mock.patch.dict(os.environ):
            os.environ.pop("PENSTOCK_TRANSPORT", None)  # which goes before
            self.settings_fail("DMLC_PS_VAN_TYPE is \"pigeon\"", DMLC_PS_VAN_TYPE="pigeon")
        self.settings_fail("PS_DROP_MSG is \"200\"", PS_DROP_MSG=200)


if __name__ == "__main__":
    unittest.main()
