# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Deadlines, deaths, signals and the GIL."""
import os
import signal
import threading
import time
import traceback
import unittest

import numpy
import penstock
from penstock import errors

import job


def declared(worker, **properties):
    gradients, parameters = numpy.zeros((2, 16), "float32")
    worker.declare([penstock.Tensor(1, gradients, parameters, name="weights", **properties)])
    return gradients, parameters


class Errors(unittest.TestCase):
    def test_of_every_status_have_a_class(self):
        for status in errors.Status:
            if status is not errors.Status.OK:
                error = errors.from_status(int(status), "words", "server 1")
                self.assertEqual((error.status, str(error), error.peer), (status, "words", "server 1"))
                self.assertIsInstance(error, penstock.Error)
                self.assertIsNot(type(error), penstock.Error)

    def test_name_unknown_options_and_wrong_values(self):
        with self.assertRaisesRegex(errors.NotFound, 'no option "colour"; known: scheduler, listen'):
            penstock.Scheduler(colour="red")
        with self.assertRaisesRegex(errors.InvalidArgument, "workers is \"0\", but must be a whole"):
            penstock.Scheduler(workers=0, insecure=True)
        with self.assertRaisesRegex(ValueError, "timeout_ms"):
            penstock.Worker(timeout_ms="soon")

    def test_without_a_scheduler_come_in_time(self):
        start = time.monotonic()
        with self.assertRaises((errors.Timeout, errors.ConnectionLost)):
            penstock.Worker(scheduler="127.0.0.1:9", insecure=True, timeout_ms=300)
        self.assertLess(time.monotonic() - start, 30)

    def test_at_a_deadline_say_what_is_missing_and_the_round_goes_on(self):
        late = threading.Event()

        def train(worker):
            declared(worker)
            if worker.rank == 1:
                self.assertTrue(late.wait(20))
            worker.push_pull(1, 1)
            if worker.rank == 0:
                try:
                    for timeout_s in (0, 0.25):
                        with self.assertRaisesRegex(TimeoutError, "weights.*round 1"):
                            worker.wait(1, 1, timeout_s)
                    self.assertFalse(worker.test(1, 1))
                    with self.assertRaisesRegex(ValueError, "timeout_s"):
                        worker.wait(1, 1, -1)
                finally:
                    late.set()
            worker.wait(1, 1)

        job.run(train, workers=2)

    def test_of_a_round_that_is_not_next(self):
        def train(worker):
            declared(worker)
            with self.assertRaisesRegex(errors.InvalidArgument, "round"):
                worker.push_pull(1, 5)
            with self.assertRaisesRegex(errors.NotFound, "key 2"):
                worker.push_pull(2, 1)

        job.run(train)

    def test_name_the_worker_that_died(self):
        def train(worker):
            declared(worker)
            worker.barrier()
            if worker.rank == 1:
                raise ZeroDivisionError("a bug of the user's")  # the with block ends without leave()
            with self.assertRaisesRegex(errors.PeerLost, "worker 1") as caught:
                worker.push_pull(1, 1)  # the death may be known already
                worker.wait(1, 1)
            named.append(caught.exception.peer)
            raise caught.exception

        named = []
        with self.assertRaises((ZeroDivisionError, errors.PeerLost)):
            job.run(train, workers=2)
        self.assertEqual(len(named), 1)
        self.assertRegex(named[0], r"^worker 1 \(.+:\d+\)$")

    def test_of_a_gradient_that_is_not_finite(self):
        def train(worker):
            gradients, parameters = declared(worker, not_finite="fail", optimizer="sgd:learning_rate=1")
            gradients[3] = numpy.nan
            worker.push_pull(1, 1)
            with self.assertRaises(errors.NotFinite):
                worker.wait(1, 1)
            gradients[:] = 1
            worker.push_pull(1, 2)
            worker.wait(1, 2)
            self.assertEqual(parameters.tolist(), [-1] * 16)

        job.run(train)

    def test_after_close_are_typed(self):
        def train(worker):
            declared(worker)
            worker.leave()
            worker.close()
            worker.close()
            with self.assertRaisesRegex(errors.Cancelled, "closed"):
                worker.push_pull(1, 1)

        job.run(train)


    def test_of_roles_that_are_closed_are_typed(self):
        with penstock.Scheduler(**job.OPTIONS) as scheduler, \
             penstock.Server(scheduler=scheduler.address, **job.OPTIONS) as server:
            closer = threading.Timer(0.3, server.close)
            closer.start()
            with self.assertRaises(penstock.Error):
                server.wait(20)  # closed by another thread
            closer.join()
            for role in (scheduler, server):
                role.close()
                role.close()
                with self.assertRaisesRegex(errors.Cancelled, "closed"):
                    role.wait()

    def test_in_a_fork_say_so_and_the_parent_goes_on(self):
        with penstock.Scheduler(**job.OPTIONS) as scheduler, \
             penstock.Server(scheduler=scheduler.address, **job.OPTIONS) as server, \
             penstock.Worker(scheduler=scheduler.address, **job.OPTIONS) as worker:
            declared(worker)
            memory = worker.allocate(4096)
            child = os.fork()
            if child == 0:
                self.end_as_a_fork(worker, server, scheduler, memory)
            self.assertEqual(self.exit_status(child), 0)
            worker.push_pull(1, 1)
            worker.wait(1, 1)
            self.assertEqual(len(memory), 4096)

    def end_as_a_fork(self, worker, server, scheduler, memory):
        """What a child may do with its copies: close, drop and leave them. Never returns."""
        try:
            for call in (lambda: worker.wait(1, 1), lambda: server.wait(0), worker.leave,
                         lambda: worker.push_pull(1, 1), lambda: worker.allocate(1)):
                with self.assertRaisesRegex(errors.InvalidArgument, "forked from"):
                    call()
            del memory
            for role in (worker, server, scheduler):
                role.close()
        except BaseException:  # pylint: disable=broad-except
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def exit_status(self, child):
        """Within 20 s; -1 when it has not ended by then, and has been killed."""
        for _ in range(2000):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return -1

    def test_leaving_twice_is_leaving_once(self):
        job.run(lambda worker: worker.leave())


class Waiting(unittest.TestCase):
    def alone(self, during):
        """Runs during(worker) while worker 1 never pushes, then lets the round end."""
        def train(worker):
            declared(worker)
            if worker.rank == 1:
                self.assertTrue(over.wait(30))
            worker.push_pull(1, 1)
            if worker.rank == 0:
                try:
                    during(worker)
                finally:
                    over.set()
            worker.wait(1, 1)

        over = threading.Event()
        job.run(train, workers=2)

    def test_lets_other_threads_run(self):
        def during(worker):
            waiter = threading.Thread(target=self.wait_half_a_second, args=(worker,))
            waiter.start()
            turns = 0
            while waiter.is_alive():
                turns += 1
                time.sleep(0.001)
            waiter.join()
            self.assertGreater(turns, 20)

        self.alone(during)

    def wait_half_a_second(self, worker):
        with self.assertRaises(errors.Timeout):
            worker.wait(1, 1, 0.5)

    def test_ends_by_a_signal_in_the_main_thread(self):
        with penstock.Scheduler(workers=2, **job.OPTIONS) as scheduler:
            options = {"scheduler": scheduler.address, **job.OPTIONS}
            with penstock.Server(**options):
                second = threading.Thread(target=self.second_worker, args=(options,))
                second.start()
                with penstock.Worker(rank=0, **options) as worker:
                    declared(worker)
                    worker.push_pull(1, 1)
                    threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()
                    with self.assertRaises(KeyboardInterrupt):
                        worker.wait(1, 1, float("inf"))
                    self.over.set()
                    worker.wait(1, 1)
                second.join(20)

    def setUp(self):
        self.over = threading.Event()

    def second_worker(self, options):
        with penstock.Worker(rank=1, **options) as worker:
            declared(worker)
            self.over.wait(20)
            worker.push_pull(1, 1)
            worker.wait(1, 1)


if __name__ == "__main__":
    unittest.main()
