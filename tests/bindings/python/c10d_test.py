# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Process groups of the backend penstock; ranks are threads of this process."""
import importlib.util
import threading
import time
import unittest
from datetime import timedelta

if importlib.util.find_spec("torch") is None:
    raise unittest.SkipTest("no torch; install python3-torch")

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import AllToAllOptions

from penstock.torch.c10d_group import ProcessGroup
from penstock.torch.c10d_job import Job

TIMEOUT_S = 20
RANKS = 3


def options(kind, **given):
    made = kind()
    for name, value in given.items():
        setattr(made, name, value)
    return made


def reduce_with(operation):
    return options(dist.AllreduceOptions, reduceOp=operation)


class Groups(unittest.TestCase):
    """One job for all tests, and a group of its own for each."""

    @classmethod
    def setUpClass(cls):
        store = dist.HashStore()
        cls.jobs = cls.on_each(
            None, lambda rank: Job(store, rank, RANKS, TIMEOUT_S, {"transport": "tcp"})
        )
        # A job ends with the last of its groups.
        cls.last = [ProcessGroup(job, b"last", job.rank, range(RANKS), 1) for job in cls.jobs]

    @classmethod
    def tearDownClass(cls):
        cls.on_each(None, lambda rank: cls.jobs[rank].end())

    def on_each(self, body, ranks=range(RANKS)):
        """body(rank) on a thread each; what they returned, or the first failure."""
        results, failures = {}, {}

        def run(rank):
            try:
                results[rank] = body(rank)
            except Exception as error:
                failures[rank] = error

        threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in ranks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * TIMEOUT_S)
        if failures:
            raise next(iter(failures.values()))
        return [results[rank] for rank in ranks]

    def groups(self, members=None, timeout_s=TIMEOUT_S, name=b""):
        members = list(members if members is not None else range(RANKS))
        prefix = self.id().encode()[-50:] + name
        return {
            member: ProcessGroup(self.jobs[member], prefix, rank, members, timeout_s)
            for rank, member in enumerate(members)
        }


class Reductions(Groups):
    def contributions(self, shape, dtype=torch.float32):
        generator = torch.Generator().manual_seed(1)
        return [(torch.rand(shape, generator=generator) * 100).to(dtype) for _ in range(RANKS)]

    def test_sums_are_in_rank_order_bit_for_bit(self):
        groups = self.groups()
        for shape in [(), (1,), (7, 11), (100_003,)]:  # whole, and split into chunks
            for dtype in [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64]:
                given = self.contributions(shape, dtype)
                expected = (given[0] + given[1]) + given[2]
                results = [tensor.clone() for tensor in given]
                self.on_each(lambda rank: groups[rank].allreduce([results[rank]]).wait())
                for result in results:
                    self.assertTrue(torch.equal(result, expected), (shape, dtype))

    def test_every_operation(self):
        groups = self.groups()
        given = [torch.tensor([6, 5, 12]), torch.tensor([3, 9, 10]), torch.tensor([7, 4, 11])]
        for operation, expected in [
            (dist.ReduceOp.SUM, [16, 18, 33]), (dist.ReduceOp.PRODUCT, [126, 180, 1320]),
            (dist.ReduceOp.MIN, [3, 4, 10]), (dist.ReduceOp.MAX, [7, 9, 12]),
            (dist.ReduceOp.BAND, [2, 0, 8]), (dist.ReduceOp.BOR, [7, 13, 15]),
            (dist.ReduceOp.BXOR, [2, 8, 13]),
        ]:
            results = [tensor.clone() for tensor in given]
            self.on_each(
                lambda rank: groups[rank].allreduce([results[rank]], reduce_with(operation)).wait()
            )
            for result in results:
                self.assertEqual(result.tolist(), expected, operation)

    def test_mean(self):
        groups = self.groups()
        results = [torch.tensor([float(rank)]) for rank in range(RANKS)]
        mean = reduce_with(dist.ReduceOp.AVG)
        self.on_each(lambda rank: groups[rank].allreduce([results[rank]], mean).wait())
        self.assertEqual([float(result) for result in results], [1.0] * RANKS)
        with self.assertRaisesRegex(ValueError, "AVG of torch.int64"):
            groups[0].allreduce([torch.tensor([1])], mean).wait()

    def test_strided_tensors(self):
        groups = self.groups()
        given = self.contributions((40, 60))
        expected = (given[0] + given[1]) + given[2]
        results = [tensor.t().clone(memory_format=torch.contiguous_format).t() for tensor in given]
        self.assertFalse(results[0].is_contiguous())
        self.on_each(lambda rank: groups[rank].allreduce([results[rank]]).wait())
        for result in results:
            self.assertTrue(torch.equal(result, expected))
        whole = torch.zeros(10, 4)
        self.on_each(lambda rank: groups[rank].broadcast(
            [whole[:, 1] if rank == 2 else torch.full((10,), float(rank))],
            options(dist.BroadcastOptions, rootRank=1)).wait())
        self.assertEqual(whole.sum(0).tolist(), [0, 10, 0, 0])

    def test_reduce_scatter(self):
        groups = self.groups()
        given = self.contributions((RANKS, 5000))
        sums = (given[0] + given[1]) + given[2]
        wanted = options(dist.ReduceScatterOptions, reduceOp=dist.ReduceOp.SUM)
        for call in ("list", "base"):
            outputs = [torch.empty(5000) for _ in range(RANKS)]

            def body(rank):
                if call == "list":
                    pieces = list(given[rank])
                    return groups[rank].reduce_scatter([outputs[rank]], [pieces], wanted).wait()
                return groups[rank]._reduce_scatter_base(outputs[rank], given[rank], wanted).wait()

            self.on_each(body)
            for rank in range(RANKS):
                self.assertTrue(torch.equal(outputs[rank], sums[rank]), call)


class Stores(Groups):
    def test_one_store_serves_one_job_after_another(self):
        store = dist.HashStore()
        for _ in range(3):
            jobs = self.on_each(lambda rank: Job(store, rank, RANKS, TIMEOUT_S, {}))
            groups = [ProcessGroup(job, b"", job.rank, range(RANKS), TIMEOUT_S) for job in jobs]
            self.on_each(lambda rank: groups[rank].barrier().wait())
            self.on_each(lambda rank: jobs[rank].end())


class Movements(Groups):
    def test_all_gather_into_one_tensor(self):
        groups = self.groups()
        outputs = [torch.empty(RANKS, 4) for _ in range(RANKS)]
        self.on_each(lambda rank: groups[rank]._allgather_base(
            outputs[rank], torch.full((4,), float(rank))).wait())
        for output in outputs:
            self.assertEqual(output[:, 0].tolist(), [0, 1, 2])

    def test_all_to_all(self):
        groups = self.groups()
        outputs = [[torch.empty(2) for _ in range(RANKS)] for _ in range(RANKS)]
        self.on_each(lambda rank: groups[rank].alltoall(
            outputs[rank], [torch.full((2,), 10.0 * rank + to) for to in range(RANKS)]).wait())
        for rank in range(RANKS):
            self.assertEqual([int(t[0]) for t in outputs[rank]], [rank, 10 + rank, 20 + rank])

    def test_all_to_all_of_uneven_parts(self):
        groups = self.groups()
        # Rank r sends r + 1 rows to rank 0, none to rank 1 and two to rank 2.
        outputs = [torch.empty(6, 1), torch.empty(0, 1), torch.empty(6, 1)]
        takes = [[1, 2, 3], [0, 0, 0], [2, 2, 2]]
        self.on_each(lambda rank: groups[rank].alltoall_base(
            outputs[rank], torch.full((rank + 3, 1), float(rank)), takes[rank], [rank + 1, 0, 2],
            AllToAllOptions()).wait())
        self.assertEqual(outputs[0].view(-1).tolist(), [0, 1, 1, 2, 2, 2])
        self.assertEqual(outputs[2].view(-1).tolist(), [0, 0, 1, 1, 2, 2])

    def test_operations_of_a_group_keep_their_order_and_groups_do_not_mix(self):
        one, two = self.groups(name=b"one"), self.groups([2, 0], name=b"two")

        def body(rank):
            tensors = [torch.full((10 + i,), float(rank + i)) for i in range(20)]
            works = []
            for i, tensor in enumerate(tensors):
                works.append(one[rank].allreduce([tensor]))
                if rank in two and i % 2 == 0:
                    other = torch.tensor([float(rank)])
                    works.append(two[rank].allreduce([other]))
            for work in reversed(works):
                self.assertTrue(work.wait())
                self.assertTrue(work.is_success())
            return [int(tensor[0]) for tensor in tensors]

        for result in self.on_each(body):
            self.assertEqual(result, [3 * i + 3 for i in range(20)])

    def test_sends_and_receives_beside_collectives(self):
        groups = self.groups()

        def body(rank):
            ahead, behind = (rank + 1) % RANKS, (rank - 1) % RANKS
            places = [torch.empty(50_000), torch.empty(1), torch.empty(1)]
            works = [groups[rank].recv([places[0]], behind, 7),
                     groups[rank].recv([places[1]], behind, 8),
                     groups[rank].barrier(),
                     groups[rank].send([torch.full((1,), rank + 0.5)], ahead, 8),
                     groups[rank].send([torch.full((50_000,), float(rank))], ahead, 7)]
            for work in works:
                work.wait()
            works = [groups[rank].send([torch.tensor([float(rank)])], ahead, 9),
                     groups[rank].recv_anysource([places[2]], 9)]
            for work in works:
                work.wait()
            return [float(place[0]) for place in places] + [works[1]._source_rank()]

        for rank, result in enumerate(self.on_each(body)):
            behind = (rank - 1) % RANKS
            self.assertEqual(result, [behind, behind + 0.5, behind, behind])

    def test_a_send_nobody_waits_for_keeps_its_memory(self):
        groups = self.groups([0, 1])
        for i in range(50):
            groups[0].send([torch.full((30_000,), float(i))], 1, 0)
        for i in range(50):
            place = torch.empty(30_000)
            groups[1].recv([place], 0, 0).wait()
            self.assertTrue(torch.equal(place, torch.full((30_000,), float(i))))

    def test_works_nobody_asks_about_are_let_go(self):
        group = self.groups([0])[0]
        for _ in range(3000):
            group.barrier()
        self.assertLess(len(group._kept), 3000)
        group.barrier().wait()

    def test_futures(self):
        groups = self.groups()

        def body(rank):
            future = groups[rank].allreduce([torch.tensor([float(rank)])]).get_future()
            received = None
            if rank == 0:
                place = torch.empty(1)
                received = groups[0].recv([place], 1, 1).get_future()
            elif rank == 1:
                groups[1].send([torch.tensor([5.0])], 0, 1).wait()
            doubled = future.then(lambda done: 2 * done.value()[0]).wait()
            return [float(doubled), float(received.wait()[0]) if received else 5.0]

        self.assertEqual(self.on_each(body), [[6.0, 5.0]] * RANKS)

    def test_profiles_name_the_operation(self):
        groups = self.groups([0])
        with torch.autograd.profiler.profile() as profile:
            groups[0].allreduce([torch.ones(3)]).wait()
        names = [event.name for event in profile.function_events]
        self.assertIn("penstock:all_reduce", names)


class Failures(Groups):
    def test_a_timeout_names_the_operation_and_the_rank(self):
        groups = self.groups([0, 1], timeout_s=0.3)
        begin = time.monotonic()
        with self.assertRaisesRegex(
                RuntimeError, "penstock all_reduce: Timed out after 0.3 s: nothing came from rank 1"):
            groups[0].allreduce([torch.ones(1)]).wait()
        with self.assertRaisesRegex(RuntimeError, "recv from rank 1: Timed out after 0.3 s"):
            groups[0].recv([torch.ones(1)], 1, 0).wait()
        with self.assertRaisesRegex(RuntimeError, "send to rank 1: Timed out after 0.3 s"):
            groups[0].send([torch.ones(1)], 1, 0).wait()
        self.assertLess(time.monotonic() - begin, TIMEOUT_S)

    def test_a_wait_may_be_shorter_than_the_operation(self):
        groups = self.groups([0, 1])
        place = torch.zeros(1)
        work = groups[0].recv([place], 1, 0)
        barrier = groups[0].barrier()
        for pending in (work, barrier):
            with self.assertRaisesRegex(RuntimeError, "Timed out waiting 0.05 s; it goes on"):
                pending.wait(timedelta(seconds=0.05))
            self.assertFalse(pending.is_completed())
        groups[1].send([torch.ones(1)], 0, 0).wait()
        self.assertTrue(work.wait())
        self.assertEqual(float(place), 1.0)
        groups[1].barrier().wait()
        self.assertTrue(barrier.wait())

    def test_different_operations_are_told_apart(self):
        groups = self.groups([0, 1])
        first = groups[0].allreduce([torch.ones(1)])
        second = groups[1].broadcast([torch.ones(1)], options(dist.BroadcastOptions, rootRank=1))
        with self.assertRaisesRegex(
                RuntimeError, "rank 1 is in penstock broadcast torch.float32, this rank is in "
                              "penstock all_reduce torch.float32"):
            first.wait()
        del second

    def test_different_lengths_are_told_apart(self):
        groups = self.groups([0, 1])
        works = [groups[rank].allreduce([torch.ones(rank + 1)]) for rank in (0, 1)]
        with self.assertRaisesRegex(RuntimeError, "rank 1 sent 8 bytes, this rank expects 4"):
            works[0].wait()
        with self.assertRaises(RuntimeError):
            works[1].wait()

    def test_what_is_not_supported_says_so(self):
        group = self.groups([0])[0]
        for call, words in [
            (lambda: group.send([torch.ones(2, 2)[:, 0]], 0, 0), "must be contiguous"),
            (lambda: group.allreduce([torch.ones(1), torch.ones(1)]), "takes one tensor, 2 were"),
            (lambda: group.allreduce([torch.ones(1, device="meta")]), "one is on meta"),
            (lambda: group.allgather([[torch.ones(1)] * 2], [torch.ones(1)]), "2 tensors were given"),
        ]:
            with self.assertRaisesRegex(ValueError, words):
                call()


if __name__ == "__main__":
    unittest.main()
