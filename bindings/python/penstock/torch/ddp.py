# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""A communication hook for DistributedDataParallel: gradients are averaged by the servers.

The optimizer still runs on every worker; DistributedOptimizer needs less traffic and less memory.
"""
import queue
import threading

import torch

import penstock

# The servers' rule for a bucket: p = p - (1*p + g). From p = 0 that is -g, exactly; a round with
# nothing to add makes it 0 again, exactly.
_RULE = "sgd:learning_rate=1,weight_decay=1"


class _Bucket:
    """A bucket's memory, which is lent as it is, and where its average lands."""

    def __init__(self, worker, key, buffer):
        self.worker, self.key, self.round, self.buffer = worker, key, 0, buffer
        self.received = torch.zeros_like(buffer)
        self.spoilt = False  # by an infinity or a NaN, of which no round makes 0
        self._declare()

    def fits(self, buffer):
        return (self.buffer.data_ptr(), self.buffer.dtype, self.buffer.shape) == (
            buffer.data_ptr(), buffer.dtype, buffer.shape)

    def _declare(self):
        self.worker.declare([penstock.Tensor(
            self.key, self.buffer, self.received, name=f"DDP's bucket {self.key}", optimizer=_RULE,
            reduce="mean", priority=-(self.key & 0xffff), initial="zeros")])

    def begin(self, timeout_s):
        if self.spoilt:  # on every worker alike: they received the same bits
            self.remove(timeout_s)
            self._declare()
            self.round, self.spoilt = 0, False
        if self.round:
            self.worker.wait(self.key, self.round, timeout_s)  # the zeroing of the last time
        self.round += 1
        self.worker.push_pull(self.key, self.round)

    def finish(self, timeout_s):
        """The average, in the bucket's own memory."""
        self.worker.wait(self.key, self.round, timeout_s)
        torch.neg(self.received, out=self.buffer)
        self.round += 1
        self.worker.pull(self.key, self.round)
        self.spoilt = not torch.isfinite(self.buffer).all()
        return self.buffer

    def remove(self, timeout_s):
        self.worker.wait(self.key, self.round, timeout_s)
        self.worker.remove([self.key])


class PushPullState:
    """What push_pull_hook keeps between calls; one for each DistributedDataParallel.

    worker     a penstock.Worker; as many of them as DDP has ranks
    first_key  buckets get the keys first_key, first_key + 1, …
    timeout_s  of each wait; None: the worker's
    """

    def __init__(self, worker, first_key=1 << 40, timeout_s=None):
        self.worker, self.first_key, self.timeout_s = worker, first_key, timeout_s
        self._buckets = {}
        self._begun = queue.SimpleQueue()
        threading.Thread(target=self._finish, daemon=True, name="penstock-ddp").start()

    def bucket(self, index, buffer):
        """DDP rebuilds its buckets after the first pass, on every rank alike."""
        known = self._buckets.get(index)
        if known is not None and known.fits(buffer):
            return known
        if known is not None:
            known.remove(self.timeout_s)
        self._buckets[index] = _Bucket(self.worker, self.first_key + index, buffer)
        return self._buckets[index]

    def begin(self, bucket, future):
        bucket.begin(self.timeout_s)
        self._begun.put((bucket, future))

    def _finish(self):
        """Completes futures in the order in which their buckets were begun, on a thread of its own:
        DDP waits for them only when the whole backward pass is over."""
        while True:
            bucket, future = self._begun.get()
            if bucket is None:
                return
            try:
                future.set_result(bucket.finish(self.timeout_s))
            except Exception as error:  # pylint: disable=broad-except
                future.set_exception(error)

    def close(self):
        """Collective; between passes."""
        self._begun.put((None, None))
        for bucket in self._buckets.values():
            bucket.remove(self.timeout_s)
        self._buckets = {}


def push_pull_hook(state, bucket):
    """For ddp.register_comm_hook(PushPullState(worker), push_pull_hook).

    Returns a torch.futures.Future of the bucket's average over all workers, summed in rank order.
    """
    future = torch.futures.Future()
    state.begin(state.bucket(bucket.index(), bucket.buffer()), future)
    return future
