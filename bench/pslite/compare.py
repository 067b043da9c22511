#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Pushes and pulls through ps/ps.h beside ucx_perftest's tag_bw, in one run.

  bench/pslite/compare.py [--build DIR] [--sizes 4K,64K,…] [--repeats N] [--seconds S] [--busy] [--same]

Every repeat measures, for each size and for tcp and shm, a push, a pull and ucx, one right after the other in a
shuffled order (the seed is printed). Printed are medians with the least and the greatest, in GB/s, and the median of
the ratios within each repeat. --busy measures each once more with a spinning process per core beside it: its ratio is
to the fair share, the figure of the same repeat without them times the cores' share that is left (1/2).
--same lets a window's messages share the worker's memory, as ucx_perftest's always do.
--penstock and --loop name other programs, so that another ps-lite's loop can be measured the same way.
Exit codes: 0 measured, 1 something failed, 2 usage. Nothing here judges the figures.
"""
import argparse
import os
import pathlib
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time

UNITS = {"K": 1 << 10, "M": 1 << 20}
CEILING = {"tcp": "tcp", "shm": "posix"}  # UCX_TLS
LIMIT_S = 120


def size_of(text):
    found = re.fullmatch(r"([1-9]\d*)([KM]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size like 4096, 64K or 16M")
    return int(found[1]) * UNITS.get(found[2], 1)


def sizes_of(text):
    return [size_of(word) for word in text.split(",")]


def name_of(size):
    for unit, bytes_ in reversed(UNITS.items()):
        if size % bytes_ == 0:
            return f"{size // bytes_}{unit}"
    return str(size)


def run(command, settings=None):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=LIMIT_S, check=False, env={**os.environ, **(settings or {})})
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n"
                           f"{done.stdout}{done.stderr}")
    return done.stdout


def loop_gbps(options, transport, direction, size):
    out = run([options.penstock, "launch", "--local", "--workers", "1", "--servers", "1",
               "--timeout", "60", "--", options.loop, direction, str(size), str(options.seconds),
               *(["same"] if options.same else [])],
              {"PENSTOCK_TRANSPORT": transport})
    return float(re.search(r"GBps (\S+)", out)[1])


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for_server(server):
    """Until it listens: it says so in its first line."""
    line = server.stdout.readline()
    if "Waiting" not in line:
        raise RuntimeError(f"ucx_perftest's server said: {line}")


def ucx_once(transport, size, messages):
    """Bytes a second; ucx_perftest's MB are 2^20 bytes."""
    common = ["ucx_perftest", "-t", "tag_bw", "-s", str(size), "-n", str(messages), "-w",
              str(max(messages // 3, 2)), "-p", str(free_port())]
    settings = {"UCX_TLS": CEILING[transport]}
    server = subprocess.Popen(["timeout", str(LIMIT_S), "stdbuf", "-oL", *common],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, env={**os.environ, **settings})
    try:
        wait_for_server(server)
        window = min(16, max(2, (64 << 20) // size))
        out = run([common[0], "127.0.0.1", *common[1:], "-O", str(window), "-f", "-v"], settings)
        rows = [line.split(",") for line in out.splitlines() if re.match(r" *\d+,", line)]
        if not rows:
            raise RuntimeError(f"ucx_perftest of {messages} messages of {size} bytes said: {out}")
        return float(rows[-1][5]) * (1 << 20)
    finally:
        server.kill()
        server.communicate()


def ucx_gbps(options, transport, size):
    """A short run says how many messages fill the time."""
    rate = ucx_once(transport, size, max(8, min(2000, (32 << 20) // size)))
    return ucx_once(transport, size, max(8, int(rate * options.seconds / size))) / 1e9


class Busy:
    """A process per core that does nothing but count."""

    def __enter__(self):
        self.spinning = [subprocess.Popen(["timeout", str(4 * LIMIT_S), sys.executable, "-c",
                                           "while True: pass"], stdin=subprocess.DEVNULL)
                         for _ in range(os.cpu_count())]
        time.sleep(0.3)  # they have begun

    def __exit__(self, *_):
        for process in self.spinning:
            process.terminate()
            process.wait()


def measure(options, transport, size):
    """One repeat: what → GB/s."""
    what = {"push": lambda: loop_gbps(options, transport, "push", size),
            "pull": lambda: loop_gbps(options, transport, "pull", size)}
    if not options.no_ucx:
        what["ucx"] = lambda: ucx_gbps(options, transport, size)
    order = list(what)
    random.shuffle(order)
    return {name: what[name]() for name in order}


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def row(transport, size, repeats):
    """repeats: [(quiet, busy or None)]."""
    cells = [transport, name_of(size)]
    for name in ("push", "pull", "ucx"):
        if name in repeats[0][0]:
            cells.append(f"{name} {spread([quiet[name] for quiet, _ in repeats])}")
    for name in ("push", "pull"):
        if "ucx" in repeats[0][0]:
            ratios = [quiet[name] / quiet["ucx"] for quiet, _ in repeats]
            cells.append(f"{name}/ucx {statistics.median(ratios):.2f}")
    if repeats[0][1]:
        for name in repeats[0][0]:
            share = statistics.median(busy[name] / (quiet[name] / 2) for quiet, busy in repeats)
            cells.append(f"{name} busy/fair {share:.2f}")
    return "  ".join(cells)


def compare(options):
    cases = [(transport, size) for size in options.sizes for transport in options.transports]
    found = {case: [] for case in cases}
    for repeat in range(options.repeats):
        random.shuffle(cases)
        for transport, size in cases:
            quiet = measure(options, transport, size)
            busy = None
            if options.busy:
                with Busy():
                    busy = measure(options, transport, size)
            found[transport, size].append((quiet, busy))
        print(f"repeat {repeat + 1} of {options.repeats}, load {os.getloadavg()[0]:.1f}",
              file=sys.stderr)
    print("GB/s: median (least-greatest); ratios: median of the repeats' own")
    for transport in options.transports:
        for size in options.sizes:
            print(row(transport, size, found[transport, size]))


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=root / "build" / "release")
    parser.add_argument("--penstock", type=pathlib.Path)
    parser.add_argument("--loop", type=pathlib.Path)
    parser.add_argument("--sizes", type=sizes_of, default=sizes_of("4K,64K,1M,4M,16M,64M"))
    parser.add_argument("--transports", type=lambda text: text.split(","), default=["tcp", "shm"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--no-ucx", action="store_true")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    options.penstock = options.penstock or options.build / "bindings" / "cli" / "penstock"
    options.loop = options.loop or options.build / "bench" / "pslite" / "push_pull_loop"
    if not set(options.transports) <= set(CEILING) or options.repeats < 1 or options.seconds <= 0:
        parser.error("transports are tcp and shm; at least one repeat of some time")
    if not options.no_ucx and shutil.which("ucx_perftest") is None:
        print("ucx_perftest is not here (package ucx-utils): measuring without it", file=sys.stderr)
        options.no_ucx = True
    random.seed(options.seed)
    print(f"seed {options.seed}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    try:
        compare(options)
    except (RuntimeError, subprocess.TimeoutExpired) as failed:
        print(f"compare.py: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
