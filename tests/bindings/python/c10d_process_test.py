# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""The backend penstock between processes: c10d_rank.py has what they do."""
import importlib.util
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

if importlib.util.find_spec("torch") is None:
    raise unittest.SkipTest("no torch; install python3-torch")

SCRIPT = pathlib.Path(__file__).with_name("c10d_rank.py")
LIMIT_S = 120


class Processes(unittest.TestCase):
    def run_ranks(self, scenario, ranks, statuses=None):
        """What each process printed, by rank."""
        with tempfile.TemporaryDirectory() as folder:
            processes = [
                subprocess.Popen([sys.executable, SCRIPT, scenario, str(rank), str(ranks), folder],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for rank in range(ranks)
            ]
            try:
                outputs = [process.communicate(timeout=LIMIT_S) for process in processes]
            finally:
                for process in processes:
                    process.kill()
                    process.wait()
        for process, (_, words), status in zip(processes, outputs, statuses or [0] * ranks):
            self.assertEqual(process.returncode, status, words)
        # The log goes to stdout, too: lines that begin with a time in brackets.
        return [[line for line in lines.splitlines() if not line.startswith("[")]
                for lines, _ in outputs]

    def test_ddp_has_the_mean_gradient_bit_for_bit_on_each_rank(self):
        for printed in self.run_ranks("ddp", 2):
            self.assertEqual(len(printed), 2)
            for line in printed:
                gradient, expected = line.split()
                self.assertEqual(gradient, expected)

    def test_a_killed_process_is_named(self):
        printed = self.run_ranks("killed", 2, statuses=[0, -signal.SIGKILL])
        self.assertRegex(printed[0][0], r"worker 1 \(.*:\d+\) is lost|server 1 \(.*:\d+\) is lost")

    def test_a_process_that_an_exception_ends_is_named_and_does_not_wait(self):
        printed = self.run_ranks("raises", 2, statuses=[0, 1])
        # What it says in leaving may come behind the end of its connections, which names it too.
        self.assertRegex(printed[0][0], r"rank 1 has left the group|server 1 \(.*:\d+\) is lost")

    def test_a_group_may_be_made_again(self):
        self.assertEqual(self.run_ranks("again", 2), [["3", "3", "3"]] * 2)

    def test_a_forked_child_may_end_its_copy(self):
        self.assertEqual(self.run_ranks("forks", 2), [["5 3"]] * 2)

    def test_the_others_go_on_when_rank_0_is_done(self):
        self.assertEqual(self.run_ranks("early", 3), [[], ["1"], ["1"]])

    def test_groups_that_are_parts(self):
        self.assertEqual(self.run_ranks("parts", 3), [["6 4", "6 0"], ["6 0", "6 5"], ["6 4", "6 5"]])


if __name__ == "__main__":
    unittest.main()
