# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""What an asynchronous operation of a process group returns."""
import threading
import time
from datetime import timedelta

import torch
from torch._C._distributed_c10d import Work

# Signals are seen between pieces of this length, where a wait is not Python's own.
PIECE_MS = 100


class Pending(Work):
    """An operation under way.

    torch's C++ keeps a reference to the C++ half only and calls wait() or getFuture() through it;
    so the group keeps this half until one of the two was called (see Group._keep).
    """

    def __init__(self, title, timeout_s):
        super().__init__()
        self._title = title
        self._timeout_s = timeout_s
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._failure = None
        self._outputs = []
        self._future = None
        self._on_use = None  # called once, when somebody took this over

    # ---- the side that does the work

    def _finish(self, outputs):
        self._outputs = outputs
        self._end()

    def _fail(self, failure):
        self._failure = failure
        self._end()

    def _end(self):
        with self._lock:
            self._event.set()
            future = self._future
        if future is not None:
            self._settle(future)

    def _settle(self, future):
        if self._failure is None:
            future.set_result(self._outputs)
        else:
            future.set_exception(self._failure)

    def _used(self):
        if self._on_use is not None:
            self._on_use(self)
            self._on_use = None

    # ---- torch.distributed.Work

    def wait(self, timeout=timedelta(0)):
        self._used()
        seconds = timeout.total_seconds()
        if not self._wait(seconds if seconds > 0 else self._timeout_s):
            raise RuntimeError(f"{self._title}: Timed out waiting {seconds:g} s; it goes on")
        if self._failure is not None:
            raise self._failure
        return True

    def _wait(self, seconds):
        # The operation has this timeout itself, from when it begins; those before it have theirs.
        while not self._event.wait(seconds):
            if seconds != self._timeout_s:
                return False
        return True

    def is_completed(self):
        return self._event.is_set()

    def is_success(self):
        return self.is_completed() and self._failure is None

    def exception(self):
        return self._failure

    def synchronize(self):
        pass

    def result(self):
        if not self.is_completed():
            raise RuntimeError(f"{self._title}: Work needs to be completed before calling result")
        return self._outputs

    def get_future(self):
        self._used()
        with self._lock:
            if self._future is None:
                self._future = torch.futures.Future()
                if not self._event.is_set():
                    return self._future
                future = self._future
            else:
                return self._future
        self._settle(future)
        return future


class PointToPoint(Pending):
    """A send or a receive: nothing but the mailbox works on it."""

    def __init__(self, title, timeout_s, look, outputs):
        """look(ms): whether it is over, waiting at most that long; it raises what went wrong."""
        super().__init__(title, timeout_s)
        self._look = look
        self._outputs = outputs
        self._looking = threading.Lock()
        self._deadline = time.monotonic() + timeout_s

    def _poll(self, milliseconds):
        with self._looking:
            if self._event.is_set():
                return True
            try:
                if not self._look(milliseconds):
                    return False
            except RuntimeError as error:
                self._fail(RuntimeError(f"{self._title}: {error}"))
            else:
                self._finish(self._outputs)
            return True

    def _wait(self, seconds):
        deadline = min(self._deadline, time.monotonic() + seconds)
        while not self._poll(PIECE_MS):
            if time.monotonic() < deadline:
                continue
            if deadline < self._deadline:
                return False
            self._fail(RuntimeError(f"{self._title}: Timed out after {self._timeout_s:g} s"))
        return True

    def is_completed(self):
        return self._poll(0)

    def get_future(self):
        future = super().get_future()
        if not self._event.is_set():  # somebody has to look
            threading.Thread(target=self._wait, args=(self._timeout_s,), daemon=True).start()
        return future


class Received(PointToPoint):
    def __init__(self, title, timeout_s, look, outputs, source):
        super().__init__(title, timeout_s, look, outputs)
        self._source = source

    def source_rank(self):
        return self._source()

    _source_rank = source_rank
