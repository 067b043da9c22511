# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Starts a program once per role of a job on this host, and collects how each process ended."""
import collections
import os
import socket
import subprocess
import sys
import tempfile
import time

End = collections.namedtuple("End", "role code out err")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Job:
    """roles: what is started beside the scheduler, for example ["server", "worker"]."""

    def __init__(self, program, roles, workers=None, servers=None, settings=None):
        self.folder = tempfile.TemporaryDirectory()
        self.processes = []
        environment = {name: value for name, value in os.environ.items()
                       if not name.startswith(("DMLC_", "PS_"))}
        environment.update(
            DMLC_NUM_WORKER=str(workers or roles.count("worker") + roles.count("joint")),
            DMLC_NUM_SERVER=str(servers or roles.count("server") + roles.count("joint")),
            DMLC_PS_ROOT_URI="127.0.0.1", DMLC_PS_ROOT_PORT=str(free_port()),
            DMLC_NODE_HOST="127.0.0.1")
        environment.update({name: str(value) for name, value in (settings or {}).items()})
        words = [program] if isinstance(program, str) else program
        for role in ["scheduler", *roles]:
            base = os.path.join(self.folder.name, str(len(self.processes)))
            with open(base + ".out", "wb") as out, open(base + ".err", "wb") as err:
                process = subprocess.Popen([str(word) for word in words], stdout=out, stderr=err,
                                           stdin=subprocess.DEVNULL,
                                           env={**environment, "DMLC_ROLE": role})
            self.processes.append((role, process, base))

    def end(self, within_s):
        """How all of them ended; those that run on at the deadline are killed and have no code."""
        deadline = time.monotonic() + within_s
        ends = []
        for role, process, base in self.processes:
            try:
                code = process.wait(max(0.01, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                code = None
                process.kill()
                process.wait()
            ends.append(End(role, code, self.read(base + ".out"), self.read(base + ".err")))
        self.folder.cleanup()
        return ends

    @staticmethod
    def read(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def kill(self):
        for _, process, _ in self.processes:
            process.kill()
            process.wait()


def describe(ends):
    return "\n".join(f"--- {end.role}: {end.code}\n{end.out}{end.err}" for end in ends)


def main(workers_servers, *words):
    """launch.py WORKERS+SERVERS PROGRAM [ARGUMENT…]: 0 when every process ended with 0."""
    workers, servers = map(int, workers_servers.split("+"))
    begun = time.monotonic()
    given = {name: value for name, value in os.environ.items() if name.startswith(("DMLC_", "PS_"))}
    ends = Job(list(words), ["server"] * servers + ["worker"] * workers, settings=given).end(200)
    print(describe(ends))
    print(f"{time.monotonic() - begun:.2f} s", [end.code for end in ends])
    return 0 if all(end.code == 0 for end in ends) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
