# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""A communication hook for DistributedDataParallel: gradients are averaged by the servers.

The optimizer still runs on every worker; DistributedOptimizer needs less traffic and less memory.
"""
import queue
import threading

import torch

import penstock


class _Bucket:
    """A bucket's memory, which is lent as it is, and where its average lands."""

    def __init__(self, worker, key, buffer):
        self.worker, self.key, self.round, self.buffer = worker, key, 0, buffer
        self.average = torch.empty_like(buffer)
        worker.declare([penstock.Tensor(
            key, buffer, self.average, name=f"DDP's bucket {key}", optimizer="assign",
            reduce="mean", priority=-(key & 0xffff), initial="zeros")])

    def fits(self, buffer):
        return (self.buffer.data_ptr(), self.buffer.dtype, self.buffer.shape) == (
            buffer.data_ptr(), buffer.dtype, buffer.shape)

    def begin(self):
        self.worker.push_pull(self.key, self.round + 1)
        self.round += 1

    def finish(self, timeout_s):
        """The average. DDP has copied it before it begins the next round."""
        self.worker.wait(self.key, self.round, timeout_s)
        return self.average

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
        bucket.begin()
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
