# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
import array
import json
import pathlib
import re
import struct
import tempfile
import unittest

import psbench


class Training(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def train(self, *arguments):
        """Trains on the digits; returns (standard output, the saved file's bytes)."""
        saved = pathlib.Path(self.folder, "parameters.safetensors")
        done = psbench.run("train", "--data", psbench.DIGITS, "--save", saved, *arguments)
        self.assertEqual(done.returncode, psbench.GOOD, done.stderr + done.stdout)
        return done.stdout, saved.read_bytes()

    @staticmethod
    def numbers(saved):
        length = struct.unpack("<Q", saved[:8])[0]
        header = json.loads(saved[8:8 + length])
        values = array.array("f")
        values.frombytes(saved[8 + length:])
        return header, values

    def test_reaches_95_percent_on_held_out_digits(self):
        stdout, saved = self.train("--local", "2x3", "--seed", "1")
        last = stdout.splitlines()[-1]
        match = re.fullmatch(r"final accuracy: (\d\.\d{3})", last)
        self.assertTrue(match, last)
        self.assertGreaterEqual(float(match.group(1)), 0.95)
        self.assertEqual(len(re.findall(r"^epoch ", stdout, re.MULTILINE)), 20)
        header, values = self.numbers(saved)
        self.assertEqual(header["w1"]["shape"], [64, 64])
        self.assertEqual(len(values), 64 * 64 + 64 + 64 * 10 + 10)

    def test_gives_the_same_bits_whatever_the_servers_lanes_and_transport(self):
        common = ("--epochs", "3", "--seed", "7", "--slice", "1K")
        _, one = self.train(*common, "--local", "1x2")
        _, two = self.train(*common, "--local", "3x2", "--lanes", "2")
        _, three = self.train(*common, "--local", "2x2", "--lanes", "3", "--transport", "loopback")
        self.assertEqual(one, two)
        self.assertEqual(one, three)
        _, other = self.train("--epochs", "3", "--seed", "8", "--slice", "1K", "--local", "1x2")
        self.assertNotEqual(one, other)

    def test_workers_on_shards_equal_one_worker_on_the_whole_batch(self):
        common = ("--epochs", "2", "--seed", "3", "--optimizer", "sgd")
        _, alone = self.train(*common, "--local", "1x1")
        _, together = self.train(*common, "--local", "1x4")
        pairs = list(zip(self.numbers(alone)[1], self.numbers(together)[1]))
        self.assertLess(max(abs(a - b) for a, b in pairs), 1e-5)
        self.assertNotEqual(alone, together, "1x4 cannot have added in the order of 1x1")


class WrongData(unittest.TestCase):
    def refuse(self, code, sentence, *arguments):
        done = psbench.run("train", *arguments)
        self.assertEqual(done.returncode, code, (arguments, done.stderr, done.stdout))
        self.assertIn(sentence, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_names_a_file_that_is_missing(self):
        self.refuse(psbench.ENVIRONMENT, "/nonexistent.csv", "--data", "/nonexistent.csv")

    def test_names_file_and_line_of_a_broken_row(self):
        with tempfile.TemporaryDirectory() as folder:
            data = pathlib.Path(folder, "data.csv")
            data.write_text("1,2,0\n1,x,1\n", encoding="ascii")
            self.refuse(psbench.USAGE, f"{data}:2: ", "--data", data)

    def test_wants_a_row_for_every_worker(self):
        self.refuse(psbench.USAGE, "--batch", "--data", psbench.DIGITS, "--batch", "2", "--local",
                    "1x4")


if __name__ == "__main__":
    unittest.main()
