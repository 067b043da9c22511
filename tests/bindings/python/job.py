# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""A whole job in this process: a scheduler, servers, and a thread per worker."""
import contextlib
import threading

import penstock

OPTIONS = {"insecure": True, "pin": False, "timeout_ms": 20000, "transport": "tcp"}


def run(train, workers=1, servers=1, handler=None, **options):
    """Calls train(worker) on a thread for each worker; returns what they returned, by rank."""
    options = {**OPTIONS, **options}
    with contextlib.ExitStack() as stack:
        scheduler = stack.enter_context(
            penstock.Scheduler(workers=workers, servers=servers, **options))
        for rank in range(servers):
            stack.enter_context(penstock.Server(handler=handler, scheduler=scheduler.address,
                                                rank=rank, **options))
        results, failures = [None] * workers, []

        def work(rank):
            try:
                with penstock.Worker(scheduler=scheduler.address, rank=rank, **options) as worker:
                    results[rank] = train(worker)
            except BaseException as error:  # pylint: disable=broad-except
                failures.append(error)

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        if failures:
            raise failures[0]
        if any(thread.is_alive() for thread in threads):
            raise AssertionError("a worker runs after 120 s")
        return results
