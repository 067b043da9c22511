# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""What the README claims about the source is there: the functions of the life of a slice, the
example program, the documented tests."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


class Readme(unittest.TestCase):
    def test_each_hop_names_a_function_of_its_file(self):
        rows = re.findall(r"^\| (\d+) \| (\S+) \| `([\w:]+)`", README, re.MULTILINE)
        self.assertEqual([int(row[0]) for row in rows], list(range(1, 10)))
        for _, where, function in rows:
            text = "".join(p.read_text() for p in ROOT.glob(where + ".*") if p.suffix in (".h", ".cc"))
            owner, _, name = function.rpartition("::")
            self.assertRegex(text, rf"\b{name}\(", f"{function} is not in {where}")
            if owner:
                self.assertRegex(text, rf"\b{owner}\b", f"{owner} is not in {where}")

    def test_the_example_is_the_consumer_that_the_tests_build(self):
        example = re.search(r"```cpp\n(.*?)```", README, re.DOTALL).group(1)
        consumer = (ROOT / "tests/install/consumer/main.cc").read_text()
        self.assertIn(example.strip(), consumer)

    def test_guarantees_name_tests_that_exist(self):
        sources = "".join(p.read_text() for p in (ROOT / "tests").rglob("*.cc"))
        for suite, name in re.findall(r"`(\w+)\.(\w+)`", (ROOT / "docs/guarantees.md").read_text()):
            if (suite, name) == ("control_hostile_test", "cc"):
                continue
            self.assertRegex(sources, rf"TEST(_P|_F)?\({suite}, {name}\)", f"{suite}.{name}")


if __name__ == "__main__":
    unittest.main()
