#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Lists the skipped tests of a ctest JUnit file with the reason each one printed."""
import re
import sys
import xml.etree.ElementTree as ElementTree


def reason(case):
    output = case.findtext("system-out") or ""
    lines = [line.strip() for line in output.splitlines()]
    for number, line in enumerate(lines):
        if re.match(r".*: Skipped$", line) and number + 1 < len(lines):
            return lines[number + 1]
        if line.startswith("SKIP: "):
            return line[len("SKIP: "):]
    return "no reason given"


def main():
    try:
        suite = ElementTree.parse(sys.argv[1]).getroot()
    except (OSError, ElementTree.ParseError) as error:
        print(f"skipped tests: unknown ({error})")
        return
    skipped = [case for case in suite.iter("testcase") if case.find("skipped") is not None]
    print(f"skipped tests: {len(skipped)}")
    for case in skipped:
        print(f"  {case.get('name')}: {reason(case)}")


main()
