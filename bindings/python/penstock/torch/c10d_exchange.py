# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""The messages of one collective operation."""
import struct
import time

import torch


def nbytes(tensor):
    return tensor.numel() * tensor.element_size()


class Exchange:
    """Sends to and receives from the members of a group, by rank in it, until one deadline.

    A message is told apart by group, operation, step and sender. Its note says what the sender is
    doing, so that ranks that run different operations learn of it instead of mixing their bytes.
    """

    def __init__(self, job, prefix, rank, members, sequence, title, timeout_s):
        self.rank = rank
        self.size = len(members)
        self._job = job
        self._prefix = prefix + struct.pack(">cQ", b"c", sequence)
        self._members = members
        self._title = title
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._sent = []

    def others(self):
        return [rank for rank in range(self.size) if rank != self.rank]

    def _tag(self, step):
        return self._prefix + struct.pack(">I", step)

    def _left_ms(self):
        return max(0, int((self._deadline - time.monotonic()) * 1000))

    def _timed_out(self, what, rank):
        return RuntimeError(
            f"{self._title}: Timed out after {self._timeout_s:g} s: {what} rank {rank}"
        )

    def send(self, to, tensor, step=0):
        """The tensor, contiguous, must not change before sent()."""
        note = f"{self._title} {tensor.dtype}".encode()
        lent = self._job.send(self._members[to], self._tag(step), note, tensor)
        self._sent.append((to, lent))

    def sent(self):
        for to, lent in self._sent:
            if not lent.wait(self._left_ms()):
                raise self._timed_out("nothing was taken by", to)
        self._sent.clear()

    def expect(self, source, step=0, into=None):
        """Announces a receive: where the bytes may land as soon as they come."""
        return self._job.receive([self._members[source]], self._tag(step), into), source, into

    def take(self, expected, dtype):
        """Waits for it and returns the receive, which holds the bytes if `into` was not given."""
        receive, source, into = expected
        if not receive.wait(self._left_ms()):
            raise self._timed_out("nothing came from", source)
        note = f"{self._title} {dtype}".encode()
        if receive.note != note:
            raise RuntimeError(
                f"rank {source} is in {receive.note.decode(errors='replace')}, this rank is in "
                f"{note.decode()}: all ranks must call the same operations in the same order"
            )
        return receive

    def receive_into(self, source, tensor, step=0):
        self.take(self.expect(source, step, tensor), tensor.dtype)

    def flat(self, expected, like):
        """A flat tensor as long as `like`, on the memory in which the bytes came."""
        receive = self.take(expected, like.dtype)
        if receive.nbytes != nbytes(like):
            raise RuntimeError(
                f"{self._title}: rank {expected[1]} sent {receive.nbytes} bytes, this rank expects "
                f"{nbytes(like)}"
            )
        if receive.nbytes == 0:
            return like.new_empty(0)
        return torch.frombuffer(receive, dtype=like.dtype)

    def receive_into_all(self, tensors, step=0):
        """tensors: by rank; None where nothing comes."""
        expected = [
            (self.expect(source, step, tensor), tensor)
            for source, tensor in enumerate(tensors)
            if tensor is not None
        ]
        for one, tensor in expected:
            self.take(one, tensor.dtype)
