#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""A gtest program runs once in a guest, and each of its cases reports its own part to ctest.

  guest_test.py run RECORD COMMAND…     runs the program (COMMAND: scripts/softroce … -- PROGRAM)
                                        and keeps what it printed and how it ended in RECORD
  guest_test.py case RECORD PROGRAM --gtest_filter=CASE
                                        prints the case's part of the record; its result is ours
  guest_test.py case RECORD PROGRAM --gtest_list_tests
                                        runs PROGRAM here: listing needs no device
  guest_test.py end RECORD              whether the program ended as a gtest program should

Exit status: 0 passed, 1 failed, 77 no guest can be had here (the reason is in a line "SKIP: …").
"""
import os
import pathlib
import re
import signal
import sys

SKIPPED = 77
TIMED_OUT = 124
BROKE = 125
TAIL = 60  # lines of the program's output that explain a bad end


class Record:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "status").unlink(missing_ok=True)
        return open(self.folder / "output", "wb")

    def finish(self, status):
        (self.folder / "status").write_text(str(status), encoding="utf-8")

    @property
    def status(self):
        """None while nothing is recorded."""
        try:
            return int((self.folder / "status").read_text(encoding="utf-8"))
        except OSError:
            return None

    @property
    def output(self):
        return (self.folder / "output").read_text(encoding="utf-8", errors="replace")

    def ending(self):
        status = self.status
        if status == TIMED_OUT:
            return "its time ran out"
        if status == BROKE:
            return "the guest broke"
        if status is not None and 128 < status < 128 + signal.NSIG:
            return f"signal {status - 128} killed it"
        return f"it ended with status {status}"

    def tail(self):
        return "\n".join(self.output.splitlines()[-TAIL:])


def skipped(record):
    if record.status != SKIPPED:
        return False
    reasons = [line for line in record.output.splitlines() if line.startswith("SKIP: ")]
    print(reasons[-1] if reasons else "SKIP: the guest gave no reason")
    return True


def run(record, command):
    import subprocess  # only here: a case's report should not pay for it
    with record.start() as output:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.STDOUT, check=False).returncode
    record.finish(status)
    if skipped(record):
        return SKIPPED
    if "[==========] Running " in record.output:
        print(f"the program ran; {record.ending()}")
        return 0
    print(f"the program did not start: {record.ending()}\n{record.tail()}")
    return 1


def case(record, program, options):
    if "--gtest_list_tests" in options:
        os.execv(program, [program, *options])
    name = next(option.partition("=")[2] for option in options
                if option.startswith("--gtest_filter="))
    if record.status is None:
        print(f"{name} has no result: nothing is recorded in {record.folder}")
        return 1
    if skipped(record):
        return SKIPPED
    begun = record.output.split(f"[ RUN      ] {name}\n", 1)
    if len(begun) == 1:
        print(f"{name} did not run: the program got no further; {record.ending()}\n{record.tail()}")
        return 1
    ended = re.search(rf"\[ +(OK|FAILED|SKIPPED) +\] {re.escape(name)}\b.*", begun[1])
    if not ended:
        print(f"{name} did not end; {record.ending()}\n{begun[1]}")
        return 1
    print(begun[1][:ended.end()])
    return 1 if ended.group(1) == "FAILED" else 0


def end(record):
    if record.status is None:
        print(f"nothing is recorded in {record.folder}")
        return 1
    if skipped(record):
        return SKIPPED
    over = re.search(r"^\[==========\] \d+ tests? .* ran\.", record.output, re.MULTILINE)
    explained = record.status == 0 or (record.status == 1 and "\n[  FAILED  ] " in record.output)
    print(f"the program: {record.ending()}")
    if over and explained:
        return 0
    print(record.tail())
    return 1


def main():
    verb, record, *rest = sys.argv[1:]
    record = Record(record)
    if verb == "run":
        return run(record, rest)
    if verb == "case":
        return case(record, rest[0], rest[1:])
    return end(record)


if __name__ == "__main__":
    sys.exit(main())
