# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""A process group: names of messages over the connections of one job, and a thread.

Collective operations run one after another on the group's thread, in the order in which they were
called; sends and receives run beside them.
"""
import queue
import struct
import threading
from datetime import timedelta

import torch
import torch.distributed as dist

from . import c10d_collectives as collectives
from .c10d_exchange import Exchange
from .c10d_work import Pending, PointToPoint, Received

_UNSET = timedelta(0)  # options that say nothing about time hold −1 ms

# Operations nobody waited for yet: more than this, and the oldest finished ones are let go.
_MAX_KEPT = 1024


def _check(tensors):
    for tensor in tensors:
        if tensor.device.type != "cpu":
            raise ValueError(f"penstock moves CPU tensors; one is on {tensor.device}")


def _single(tensors, title):
    if len(tensors) != 1:
        raise ValueError(f"{title}: penstock takes one tensor, {len(tensors)} were given")
    _check(tensors)
    return tensors[0]


def _point_to_point(tensors, title):
    tensor = _single(tensors, title)
    if tensor.layout != torch.strided or not tensor.is_contiguous():
        raise ValueError(f"{title}: Tensors must be contiguous")
    return tensor


def _profile(title):
    """Opens an event for torch's profilers; what is returned closes it, on any thread."""
    if not torch.autograd._profiler_enabled():
        return lambda: None
    over = torch.futures.Future()
    with torch.profiler.record_function(title) as event:
        event._call_end_callbacks_on_future(over)
    return lambda: over.set_result(None)


class ProcessGroup(dist.ProcessGroup):
    def __init__(self, job, prefix, rank, members, timeout_s):
        super().__init__(rank, len(members))
        self.job = job
        self._prefix = prefix
        self._rank = rank
        self._members = members  # their ranks in the job
        self._timeout_s = timeout_s
        self._sequence = 0
        self._kept = {}
        self._kept_lock = threading.Lock()
        self._tasks = queue.SimpleQueue()
        job.serve(self, self._tasks)

    # ---- what torch asks

    def getBackendName(self):
        return "penstock"

    def _set_sequence_number_for_group(self):
        pass  # it begins at 0 everywhere

    def _get_sequence_number_for_group(self):
        return self._sequence

    # ---- running operations

    def _keep(self, work):
        work._on_use = self._let_go
        with self._kept_lock:
            self._kept[id(work)] = work
            while len(self._kept) > _MAX_KEPT:
                oldest = next(iter(self._kept.values()))
                if not oldest.is_completed():
                    break
                del self._kept[id(oldest)]
        return work

    def _let_go(self, work):
        with self._kept_lock:
            self._kept.pop(id(work), None)

    def _seconds(self, options):
        timeout = getattr(options, "timeout", _UNSET)
        return timeout.total_seconds() if timeout > _UNSET else self._timeout_s

    def _run(self, title, options, outputs, body):
        """Queues body(exchange), which fills the outputs."""
        if self.job.leaving:
            raise RuntimeError(f"penstock {title}: this process has left the group")
        seconds = self._seconds(options)
        sequence = self._sequence
        self._sequence += 1
        work = Pending(f"penstock {title}", seconds)
        end_of_profile = _profile(f"{self.getBackendName()}:{title}")
        job, prefix, rank, members = self.job, self._prefix, self._rank, self._members

        def task():
            exchange = Exchange(
                job, prefix, rank, members, sequence, f"penstock {title}", seconds
            )
            try:
                with torch.no_grad():
                    body(exchange)
                    exchange.sent()
            except Exception as error:  # whoever waits for the work gets it
                end_of_profile()
                work._fail(error)
            else:
                end_of_profile()
                work._finish(outputs)

        self._keep(work)
        self._tasks.put(task)
        return work

    # ---- collective operations

    def broadcast(self, tensors, opts):
        tensor = _single(tensors, "broadcast")
        root = opts.rootRank
        return self._run(
            "broadcast", opts, tensors, lambda x: collectives.broadcast(x, tensor, root)
        )

    def allreduce(self, tensors, opts=dist.AllreduceOptions()):
        _single(tensors, "all_reduce")
        return self._all_reduce(tensors, opts)

    def allreduce_coalesced(self, tensors, opts=dist.AllreduceCoalescedOptions()):
        _check(tensors)
        return self._all_reduce(tensors, opts)

    def _all_reduce(self, tensors, opts):
        operation = opts.reduceOp
        return self._run(
            "all_reduce",
            opts,
            tensors,
            lambda x: collectives.all_reduce(x, tensors, operation),
        )

    def reduce(self, tensors, opts):
        tensor = _single(tensors, "reduce")
        operation, root = opts.reduceOp, opts.rootRank
        return self._run(
            "reduce",
            opts,
            tensors,
            lambda x: collectives.reduce(x, tensor, operation, root),
        )

    def allgather(self, outputs, inputs, opts=None):
        tensor = _single(inputs, "all_gather")
        places = self._places(outputs[0], "all_gather")
        return self._run(
            "all_gather",
            opts,
            outputs,
            lambda x: collectives.all_gather(x, places, tensor),
        )

    def _allgather_base(self, output, input, opts=None):
        _check([output, input])
        return self._run(
            "_all_gather_base",
            opts,
            [output],
            lambda x: collectives.all_gather_base(x, output, input),
        )

    def allgather_coalesced(self, outputs, inputs, opts=None):
        _check(inputs)
        for places in outputs:
            _check(places)
        return self._run(
            "all_gather",
            opts,
            outputs,
            lambda x: collectives.all_gather_coalesced(x, outputs, inputs),
        )

    def gather(self, outputs, inputs, opts):
        tensor, root = _single(inputs, "gather"), opts.rootRank
        places = self._places(outputs[0], "gather") if self._rank == root else None
        return self._run(
            "gather", opts, outputs, lambda x: collectives.gather(x, places, tensor, root)
        )

    def scatter(self, outputs, inputs, opts):
        tensor, root = _single(outputs, "scatter"), opts.rootRank
        pieces = self._places(inputs[0], "scatter") if self._rank == root else None
        return self._run(
            "scatter",
            opts,
            outputs,
            lambda x: collectives.scatter(x, tensor, pieces, root),
        )

    def reduce_scatter(self, outputs, inputs, opts):
        tensor, operation = _single(outputs, "reduce_scatter"), opts.reduceOp
        pieces = self._places(inputs[0], "reduce_scatter")
        return self._run(
            "reduce_scatter",
            opts,
            outputs,
            lambda x: collectives.reduce_scatter(x, tensor, pieces, operation),
        )

    def _reduce_scatter_base(self, output, input, opts):
        _check([output, input])
        operation = opts.reduceOp
        return self._run(
            "_reduce_scatter_base",
            opts,
            [output],
            lambda x: collectives.reduce_scatter_base(x, output, input, operation),
        )

    def alltoall(self, outputs, inputs, opts=None):
        self._places(outputs, "all_to_all")
        self._places(inputs, "all_to_all")
        return self._run(
            "all_to_all",
            opts,
            outputs,
            lambda x: collectives.all_to_all(x, outputs, inputs),
        )

    def alltoall_base(self, output, input, output_sizes, input_sizes, opts=None):
        _check([output, input])
        return self._run(
            "all_to_all",
            opts,
            [output],
            lambda x: collectives.all_to_all_base(x, output, input, output_sizes, input_sizes),
        )

    def barrier(self, opts=None):
        return self._run("barrier", opts, [], collectives.barrier)

    def monitored_barrier(self, timeout=_UNSET, wait_all_ranks=False):
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        if seconds < 0 or timeout is _UNSET:
            seconds = self._timeout_s
        milliseconds = int(seconds * 1000)
        if self._rank == 0 and milliseconds == 0:
            raise RuntimeError("Rank 0 timed out in monitoredBarrier after 0 ms.")
        exchange = Exchange(
            self.job,
            self._prefix,
            self._rank,
            self._members,
            self._sequence,
            "penstock monitored_barrier",
            seconds,
        )
        self._sequence += 1
        collectives.monitored_barrier(exchange, milliseconds, wait_all_ranks)

    def _places(self, tensors, title):
        _check(tensors)
        if len(tensors) != self.size():
            raise ValueError(f"{title}: {len(tensors)} tensors were given for {self.size()} ranks")
        return tensors

    # ---- one to one

    def _tag(self, tag):
        return self._prefix + struct.pack(">cq", b"p", tag)

    def send(self, tensors, to, tag):
        tensor = _point_to_point(tensors, "send")
        lent = self.job.send(self._members[to], self._tag(tag), b"", tensor)
        title = f"penstock send to rank {to}"
        return self._keep(PointToPoint(title, self._timeout_s, lent.wait, tensors))

    def recv(self, tensors, source, tag):
        tensor = _point_to_point(tensors, "recv")
        receive = self.job.receive([self._members[source]], self._tag(tag), tensor)
        return self._receiving(receive, tensors, f"penstock recv from rank {source}")

    def recv_anysource(self, tensors, tag):
        tensor = _point_to_point(tensors, "recv")
        receive = self.job.receive(self._members, self._tag(tag), tensor)
        return self._receiving(receive, tensors, "penstock recv from any rank")

    def _receiving(self, receive, tensors, title):
        def source():
            return self._members.index(receive.source)

        return self._keep(Received(title, self._timeout_s, receive.wait, tensors, source))
