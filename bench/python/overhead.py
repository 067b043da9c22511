#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""What Python adds to a push_pull over the C ABI, measured side by side.

    PYTHONPATH=BUILD/bindings/python overhead.py BUILD/bench/python/c_round_loop [--repeats 7]

Each repeat runs the loop in C and in Python, a job in one process, one key of 16 floats over tcp. The
exit status is 3 when a pair of calls (push_pull, wait) costs more than 5 us over C.
"""
import argparse
import statistics
import subprocess
import sys
import time

import numpy
import penstock

LIMIT_US, DEADLINE_S = 5.0, 120


def loop_in_c(program, elements, rounds):
    done = subprocess.run([program, str(elements), str(rounds)], capture_output=True, text=True,
                          timeout=DEADLINE_S, check=True)
    return [float(number) / 1e3 for number in done.stdout.splitlines()[-1].split()]


def loop_in_python(elements, rounds):
    options = {"insecure": True, "transport": "tcp"}
    with penstock.Scheduler(workers=1, servers=1, **options) as scheduler, \
         penstock.Server(scheduler=scheduler.address, **options), \
         penstock.Worker(scheduler=scheduler.address, **options) as worker:
        gradients, parameters = numpy.ones(elements, "float32"), numpy.zeros(elements, "float32")
        worker.declare([penstock.Tensor(1, gradients, parameters)])
        whole, look = [], []
        for number in range(1, rounds + 1):
            start = time.perf_counter_ns()
            worker.push_pull(1, number)
            worker.wait(1, number)
            over = time.perf_counter_ns()
            worker.wait(1, number)
            look.append(time.perf_counter_ns() - over)
            whole.append(over - start)
        return [statistics.median(times) / 1e3 for times in (whole, look)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="c_round_loop of the same build")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--elements", type=int, default=16)
    options = parser.parse_args()
    rows = []
    for _ in range(options.repeats):
        c = loop_in_c(options.program, options.elements, options.rounds)
        python = loop_in_python(options.elements, options.rounds)
        rows.append([c[0], python[0], python[0] - c[0], c[1], python[1], python[1] - c[1]])
    print(f"us; medians of {options.rounds} rounds, then median (least to most) of "
          f"{options.repeats} repeats")
    names = ("round, C", "round, Python", "round, Python adds", "wait for one that is over, C",
             "wait for one that is over, Python", "one call, Python adds")
    for name, values in zip(names, zip(*rows)):
        print(f"{name:34} {statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})")
    # Two calls a round; the round's own figure has the scatter of a network in it.
    added = 2 * statistics.median(row[5] for row in rows)
    print(f"verdict: push_pull and wait add {added:.2f} us over C; {LIMIT_US} us are allowed")
    return 0 if added <= LIMIT_US else 3


if __name__ == "__main__":
    sys.exit(main())
