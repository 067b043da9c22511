# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""The digits example of bindings/python, as a user runs it."""
import os
import pathlib
import re
import subprocess
import sys
import unittest

try:
    import torch  # noqa: F401
except ImportError as error:
    raise unittest.SkipTest(f"{error}; install python3-torch") from error

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "bindings" / "python" / "examples" / "digits.py"
LINE = re.compile(r"(\d) workers, (\w+): accuracy (0\.\d+|1\.000), (\d+) % of the time waited")


class Digits(unittest.TestCase):
    def test_are_learnt_by_1_2_and_4_workers_over_tcp_and_shm(self):
        accuracies = {}
        for transport in ("tcp", "shm"):
            for workers in (1, 2, 4):
                done = subprocess.run(
                    [sys.executable, EXAMPLE, "--data", ROOT / "tests" / "data" / "digits.csv",
                     "--workers", str(workers), "--transport", transport, "--epochs", "4"],
                    stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150,
                    check=False)
                self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
                line = LINE.search(done.stdout)
                self.assertIsNotNone(line, done.stdout)
                print(line.group(0), flush=True)
                self.assertGreaterEqual(float(line.group(3)), 0.9)
                self.assertLessEqual(int(line.group(4)), 100)
                accuracies[workers, transport] = line.group(3)
        for workers in (1, 2, 4):
            self.assertEqual(accuracies[workers, "tcp"], accuracies[workers, "shm"])


if __name__ == "__main__":
    unittest.main()
