# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""The job behind process groups: one scheduler, and a server and a worker in each process."""
import contextlib
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
import weakref
from multiprocessing.util import Finalize

from torch.distributed import PrefixStore

from penstock._penstock import _Mailbox

from .c10d_exchange import nbytes

# A process that ends looks this often whether the others still need its server.
_LINGER_PIECE_MS = 200


class Lent:
    """A message under way; the job keeps its tensor until it was taken."""

    def __init__(self, job, number):
        self._job = job
        self._number = number
        self._over = False
        self._failure = None
        self._lock = threading.Lock()

    def wait(self, milliseconds):
        """False: not taken yet. Raises what went wrong."""
        with self._lock:
            if not self._over:
                try:
                    self._over = self._job.mailbox.sent(self._number, milliseconds)
                except RuntimeError as error:
                    self._failure = error
                    self._over = True
                if self._over:
                    self._job.returned(self)
            if self._failure is not None:
                raise self._failure
            return self._over


class Job:
    def __init__(self, store, rank, size, timeout_s, options):
        self.rank = rank
        self.size = size
        self.mailbox = _Mailbox()
        self._timeout_s = timeout_s
        self._pid = os.getpid()
        self.leaving = False
        self._groups = {}  # the queue of each group's thread
        self._lent = {}
        self._lent_lock = threading.Lock()
        self._start(store, options)
        # Unlike atexit, also at the end of processes that multiprocessing started.
        self.end = Finalize(None, self._close, exitpriority=100)

    # ---- start

    def _start(self, store, given):
        # A store may outlive a job; the next one of the same processes must not find its address.
        generation = store.add(f"penstock/{self.rank}", 1)
        store = PrefixStore(f"penstock/{generation}", store)
        options = {
            "pin": "0",  # the lanes share the processors with torch's threads
            "timeout_ms": str(max(1, int(self._timeout_s * 1000))),
            "listen": f"{_own_host(store, self.rank, self.size)}:0",
        }
        options.update({name: _text(value) for name, value in given.items()})
        with _secret(store, self.rank, options) as secret:
            options.update(secret)
            if self.rank == 0:
                address = self.mailbox.host(
                    {**options, "workers": str(self.size), "servers": str(self.size)}
                )
                store.set("scheduler", address)
            options["scheduler"] = store.get("scheduler").decode()
            self.mailbox.join(options, self.rank, self.size)

    # ---- messages

    def send(self, to, tag, note, tensor):
        number = self.mailbox.send(to, tag, note, tensor.data_ptr(), nbytes(tensor))
        lent = Lent(self, number)
        with self._lent_lock:
            self._lent[lent] = tensor
        return lent

    def returned(self, lent):
        with self._lent_lock:
            self._lent.pop(lent, None)

    def receive(self, sources, tag, into):
        """into: a contiguous tensor, which the caller keeps as long as the receive; or None."""
        if into is None or nbytes(into) == 0:
            return self.mailbox.receive(set(sources), tag)
        return self.mailbox.receive(set(sources), tag, into.data_ptr(), nbytes(into))

    # ---- end

    def serve(self, group, tasks):
        """Runs the group's tasks, one after another. The job ends with the last of its groups."""
        thread = threading.Thread(target=_run, args=(tasks,), name="penstock group", daemon=True)
        thread.start()
        self._groups[thread] = tasks
        weakref.finalize(group, self._group_is_gone, thread).atexit = False

    def _group_is_gone(self, thread):
        tasks = self._groups.pop(thread, None)
        if tasks is not None:
            tasks.put(None)
        if not self._groups and not self.leaving:
            self.leaving = True
            # Not a daemon: the process does not end before the others have left or the time is up.
            threading.Thread(target=self.end, name="penstock leaves").start()

    def _close(self):
        if os.getpid() != self._pid:
            return  # a fork has none of the threads
        self.leaving = True
        self.mailbox.leave()  # and every operation under way fails
        for thread, tasks in list(self._groups.items()):
            tasks.put(None)
            thread.join()
        deadline = time.monotonic() + self._timeout_s
        # An exception that ends this process: what the others wait for will not come.
        while not hasattr(sys, "last_type") and time.monotonic() < deadline:
            if self.mailbox.linger(_LINGER_PIECE_MS):
                break
        self.mailbox.destroy()


def _run(tasks):
    while True:
        task = tasks.get()
        if task is None:
            return
        task()
        del task  # and with it the tensors


def _text(value):
    return str(int(value)) if isinstance(value, bool) else str(value)


def _own_host(store, rank, size):
    """Where the others reach this process; not beyond the host if they are all on it."""
    with open("/proc/sys/kernel/random/boot_id") as boot_id:
        host = f"{socket.gethostname()} {boot_id.read().strip()}"
    store.set(f"host/{rank}", host)
    hosts = {store.get(f"host/{other}") for other in range(size)}
    if len(hosts) == 1:
        return "127.0.0.1"
    peer = os.environ.get("MASTER_ADDR", "")
    if not peer or peer in ("localhost", "127.0.0.1"):
        return socket.gethostbyname(socket.gethostname())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))  # sends nothing; only chooses the interface
        return probe.getsockname()[0]


@contextlib.contextmanager
def _secret(store, rank, options):
    """The options for the job secret: as given, else one of this job's own, through the store."""
    if "secret_file" in options or options.get("insecure") == "1":
        yield {}
        return
    if os.environ.get("PENSTOCK_SECRET_FILE"):
        yield {}
        return
    if rank == 0:
        store.set("secret", secrets.token_hex(32))
    with tempfile.NamedTemporaryFile("w", prefix="penstock-") as file:  # mode 0600
        file.write(store.get("secret").decode())
        file.flush()
        yield {"secret_file": file.name}
