# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""tests/support/guest_test.py: what each case reports of a program that ended well, badly, never."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).resolve().parents[1] / "support" / "guest_test.py"
BEGIN = "[==========] Running 3 tests from 1 test suite.\n"
GOOD = "[ RUN      ] A.Good\nhello\n[       OK ] A.Good (1 ms)\n"
GOODER = "[ RUN      ] A.Gooder\n[       OK ] A.Gooder (1 ms)\n"
BAD = "[ RUN      ] A.Bad\na_test.cc:7: Failure\n[  FAILED  ] A.Bad (2 ms)\n"
SKIP = "[ RUN      ] A.Skip\na_test.cc:9: Skipped\nno card\n[  SKIPPED ] A.Skip (0 ms)\n"
OVER = "[==========] 3 tests from 1 test suite ran. (5 ms total)\n"


class GuestRecord(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def tool(self, verb, *arguments):
        done = subprocess.run([sys.executable, TOOL, verb, self.folder.name, *arguments], text=True,
                              capture_output=True, check=False)
        self.assertEqual(done.stderr, "")
        return done.returncode, done.stdout

    def record(self, output, status):
        """Runs a program that prints `output` and ends with `status`."""
        return self.tool("run", "sh", "-c", 'printf "%s" "$0"; exit "$1"', output, str(status))

    def expect(self, name, status, text):
        got, output = self.tool("case", "program", f"--gtest_filter={name}",
                                "--gtest_also_run_disabled_tests")
        self.assertEqual(got, status, output)
        self.assertIn(text, output)
        return output

    def test_each_case_has_its_own_result_and_output(self):
        self.assertEqual(self.record(BEGIN + GOOD + BAD + SKIP + OVER + "[  FAILED  ] A.Bad\n", 1)[0], 0)
        self.assertNotIn("Failure", self.expect("A.Good", 0, "hello\n"))
        self.assertNotIn("hello", self.expect("A.Bad", 1, "a_test.cc:7: Failure\n"))
        self.expect("A.Skip", 0, "a_test.cc:9: Skipped\nno card\n[  SKIPPED ]")
        self.assertEqual(self.tool("end")[0], 0)

    def test_a_case_is_not_taken_for_one_whose_name_it_begins(self):
        self.record(BEGIN + GOODER + OVER, 0)
        self.expect("A.Good", 1, "did not run")
        self.expect("A.Gooder", 0, "OK")

    def test_a_crash_is_the_failure_of_its_case_and_of_those_after_it(self):
        self.record(BEGIN + GOOD + "[ RUN      ] A.Bad\nhalf a line", 139)
        self.expect("A.Good", 0, "hello")
        self.expect("A.Bad", 1, "A.Bad did not end; signal 11 killed it\nhalf a line")
        self.expect("A.Skip", 1, "A.Skip did not run")
        self.assertEqual(self.tool("end")[0], 1)

    def test_a_bad_end_after_good_cases_is_a_failure(self):
        for output, status in [(GOOD + OVER, 139), (GOOD + OVER, 1), (GOOD, 0), (GOOD + OVER, 124)]:
            self.record(BEGIN + output, status)
            self.expect("A.Good", 0, "hello")
            self.assertEqual(self.tool("end")[0], 1, (output, status))

    def test_a_guest_that_breaks_before_the_program_fails_the_run(self):
        status, output = self.record("softroce: the guest broke\nKernel panic\n", 125)
        self.assertEqual(status, 1)
        self.assertIn("Kernel panic", output)

    def test_no_guest_skips_everything_with_the_reason(self):
        self.assertEqual(self.record("SKIP: no kernel\n", 77), (77, "SKIP: no kernel\n"))
        self.expect("A.Good", 77, "SKIP: no kernel\n")
        self.assertEqual(self.tool("end"), (77, "SKIP: no kernel\n"))

    def test_no_record_is_a_failure(self):
        self.expect("A.Good", 1, "nothing is recorded")
        self.assertEqual(self.tool("end")[0], 1)


if __name__ == "__main__":
    unittest.main()
