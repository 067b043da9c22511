# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Starts psbench and looks at the processes it starts."""
import os
import pathlib
import subprocess
import time

PROGRAM = os.environ["PSBENCH"]
DIGITS = str(pathlib.Path(__file__).resolve().parents[1] / "data" / "digits.csv")
DEADLINE_S = 120

GOOD, WRONG_DATA, BELOW_TARGET, TIMEOUT, ENVIRONMENT, USAGE = 0, 2, 3, 4, 5, 64


def run(*arguments):
    """Runs psbench to its end; the caller looks at returncode, stdout and stderr."""
    return subprocess.run([PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def start(*arguments):
    return subprocess.Popen([PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid):
    """The processes whose parent is `pid`, in the order they were started."""
    try:
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    return sorted(int(child) for child in text.split())


def alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.split()[0] not in "ZX"


def wait_for(condition, what):
    """Returns the first true value of condition(); fails after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {DEADLINE_S} s for {what}")
