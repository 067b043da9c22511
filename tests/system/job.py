# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""A job on two hosts: scheduler and server on the first, two workers that train on the second."""
import collections
import os
import pathlib
import re
import subprocess
import time

import psbench

# prefix: what goes before a command to run it there; options: of every role there.
Host = collections.namedtuple("Host", "prefix address options")

SCHEDULER_PORT, SERVER_PORT = 7100, 7101
CONTROL_PORTS = (SCHEDULER_PORT, SERVER_PORT)
WORKERS = 2
TRAINING = ("--data", psbench.DIGITS, "--optimizer", "adam", "--seed", 5)
SAVED = "parameters.safetensors"


def train_here(folder, *training):
    """The bits that the same training gives on this host, by no network at all."""
    saved = pathlib.Path(folder, "expected.safetensors")
    done = psbench.run("train", *TRAINING, *training, "--local", f"1x{WORKERS}", "--transport",
                       "loopback", "--save", saved)
    if done.returncode != psbench.GOOD:
        raise AssertionError(done.stderr + done.stdout)
    return saved.read_bytes()


def refusal(transport, hosts):
    """Why this build or machine has no such transport; None where it must work."""
    done = subprocess.run(
        [*hosts[1].prefix, psbench.PROGRAM, "role", "worker", "--insecure", "--transport",
         transport, "--listen", f"{hosts[1].address}:0", *hosts[1].options, "--scheduler",
         f"{hosts[1].address}:1", "--timeout", "0.2"], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=psbench.DEADLINE_S, check=False)
    absent = re.search(r".*(not in this build|not in this version|cannot open shared object).*",
                       done.stderr)
    return absent.group(0) if absent else None


class Job:
    """Files of the folder hold what the roles print."""

    def __init__(self, folder, *options):
        self.folder = pathlib.Path(folder)
        self.processes = {}
        secret = self.folder / "secret"
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write(os.urandom(16).hex())
        self.options = ["--secret-file", str(secret), "--verbose", *map(str, options)]

    def begin(self, hosts, *training):
        scheduler = f"{hosts[0].address}:{SCHEDULER_PORT}"
        join = ("--scheduler", scheduler)
        self.start("scheduler", hosts[0], "--listen", scheduler, "--workers", WORKERS)
        self.wait_for(lambda: "listens on" in self.printed("scheduler"), "the scheduler listens")
        self.start("server", hosts[0], "--listen", f"{hosts[0].address}:{SERVER_PORT}", *join)
        for rank in range(WORKERS):
            self.start("worker", hosts[1], "--listen", f"{hosts[1].address}:0", *join, "--rank",
                       rank, "--save", self.folder / SAVED, *TRAINING, *training,
                       name=f"worker {rank}")

    def start(self, role, host, *arguments, name=None):
        name = name or role
        words = [*host.prefix, psbench.PROGRAM, "role", role, *self.options, *host.options,
                 *arguments]
        with open(self.folder / f"{name}.out", "wb") as out, \
             open(self.folder / f"{name}.err", "wb") as err:
            self.processes[name] = subprocess.Popen([str(word) for word in words], stdout=out,
                                                    stderr=err, stdin=subprocess.DEVNULL)

    def kill(self):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def printed(self, name, stream="out"):
        return (self.folder / f"{name}.{stream}").read_text(encoding="utf-8")

    def everything(self):
        return "\n".join(f"--- {name}: {process.poll()}\n{self.printed(name, 'err')}"
                         for name, process in self.processes.items())

    def epoch(self):
        """The last one that worker 0 has finished."""
        epochs = re.findall(r"^epoch +(\d+)", self.printed("worker 0"), re.MULTILINE)
        return int(epochs[-1]) if epochs else 0

    def lost(self):
        """How often a worker has lost its data connection so far."""
        return sum(len(re.findall(r"data connection to server \d+ lost",
                                  self.printed(f"worker {rank}", "err")))
                   for rank in range(WORKERS))

    def running(self):
        return all(process.poll() is None for process in self.processes.values())

    def wait_for(self, condition, what):
        def reached():
            if condition():
                return True
            if not self.running():
                raise AssertionError(f"a process ended before {what}:\n{self.everything()}")
            return False
        psbench.wait_for(reached, what)

    def wait_for_epoch(self, epoch):
        self.wait_for(lambda: self.epoch() >= epoch, f"epoch {epoch}")

    def stands_still_for(self, seconds):
        """Raises when it does not (the epoch under way may end) or when a process ends."""
        before = self.epoch()
        time.sleep(seconds)
        if not self.running() or self.epoch() > before + 1:
            raise AssertionError(f"from epoch {before} to {self.epoch()} without a way for data:\n"
                                 f"{self.everything()}")

    def end(self, within_s):
        """Waits for all; returns {name: (exit code, standard error's last line)}."""
        deadline = time.monotonic() + within_s
        ends = {}
        for name, process in self.processes.items():
            try:
                code = process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired as error:
                raise AssertionError(f"{name} runs after {within_s} s:\n"
                                     f"{self.everything()}") from error
            lines = self.printed(name, "err").splitlines()
            ends[name] = (code, lines[-1] if lines else "")
        return ends

    def saved(self):
        return (self.folder / SAVED).read_bytes()
