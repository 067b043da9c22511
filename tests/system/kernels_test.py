# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
import itertools
import json
import pathlib
import tempfile
import unittest

import psbench

SMALL = ("--elements", "64K", "--repeats", "1")
FIELDS = ["optimizer", "dtype", "workers", "target", "params_per_s", "share_of_read_bandwidth",
          "fused_over_separate"]


class Kernels(unittest.TestCase):
    def kernels(self, *arguments):
        """Runs `psbench kernels`; returns (standard output, the report)."""
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder, "report.json")
            done = psbench.run("kernels", *arguments, "--json", report)
            self.assertEqual(done.returncode, psbench.GOOD, done.stderr + done.stdout)
            return done.stdout, json.loads(report.read_text(encoding="utf-8"))

    def test_measures_every_combination_and_says_where(self):
        stdout, report = self.kernels("--optimizer", "sgd,adamw", "--dtype", "fp32,bf16",
                                      "--workers", "1,9", "--target", "scalar,best", *SMALL)
        self.assertEqual(report["schema"], "penstock-psbench-kernels-1")
        self.assertIn("cpu", report["environment"])
        rows = report["results"]
        self.assertTrue(all(list(row) == FIELDS for row in rows))
        found = [(row["optimizer"], row["dtype"], row["workers"]) for row in rows]
        wanted = itertools.product(("sgd", "adamw"), ("fp32", "bf16"), (1, 9))
        self.assertEqual(found, [each for each in wanted for _ in range(2)])
        self.assertEqual([row["target"] for row in rows[::2]], ["scalar"] * 8)
        for row in rows:
            self.assertGreater(min(row[field] for field in FIELDS[4:]), 0, row)
        self.assertEqual(len([line for line in stdout.splitlines()
                              if line.startswith(("sgd ", "adamw "))]), 16)

    def test_knows_every_optimizer(self):
        _, report = self.kernels("--dtype", "fp16", "--workers", "2", "--elements", "16K",
                                 "--repeats", "1")
        names = [row["optimizer"] for row in report["results"]]
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual({"sgd", "adam", "ftrl", "lion"}, set(names))

    def test_one_pass_beats_separate_passes(self):
        # Twice as fast and more on a quiet machine; far fewer bytes move however busy it is.
        _, report = self.kernels("--optimizer", "adamw", "--dtype", "bf16", "--workers", "8",
                                 "--elements", "8M", "--repeats", "5")
        self.assertGreater(report["results"][0]["fused_over_separate"], 1.2)


class WrongInput(unittest.TestCase):
    def test_is_refused_by_name(self):
        for arguments, said in ((("--optimizer", "adamx"), "'adamx'"),
                                (("--optimizer", "adam:beta1=1"), "beta1"),
                                (("--dtype", "fp7"), "'fp7'"),
                                (("--workers", "0"), "--workers 0"),
                                (("--workers", "8,65"), "--workers 65"),
                                (("--target", "AVX9"), "'AVX9'"),
                                (("--elements", "1000"), "--elements 1000"),
                                (("--elements", "1024G"), "memory"),
                                (("--repeats", "0"), "--repeats")):
            done = psbench.run("kernels", *arguments)
            self.assertEqual(done.returncode, psbench.USAGE, (arguments, done.stderr))
            self.assertIn(said, done.stderr)

    def test_names_a_file_it_cannot_write(self):
        done = psbench.run("kernels", "--optimizer", "sgd", "--json", "/nonexistent/x", *SMALL)
        self.assertEqual(done.returncode, psbench.ENVIRONMENT, done.stderr)
        self.assertIn("/nonexistent/x", done.stderr)


if __name__ == "__main__":
    unittest.main()
