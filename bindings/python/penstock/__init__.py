# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Penstock, a parameter server: workers lend gradients, servers sum them and run the optimizer.

    import numpy, penstock
    with penstock.Worker(scheduler="10.0.0.1:7070", secret_file="job.secret") as worker:
        gradients, parameters = numpy.zeros((2, 1000), "float32")
        worker.declare([penstock.Tensor(7, gradients, parameters,
                                        optimizer="adamw:learning_rate=0.001")])
        for round in range(1, 101):
            …                                   # fill gradients
            worker.push_pull(7, round)          # both arrays are lent …
            worker.wait(7, round)               # … until here

Servers and the scheduler are penstock.Server and penstock.Scheduler, or the program psbench.
Times are seconds, sizes bytes, shapes those of the arrays. Every wait has a deadline and releases the
GIL; errors are the exceptions of penstock.errors. penstock.torch has an optimizer for PyTorch.
"""
import atexit as _atexit
import weakref as _weakref

from penstock import errors
from penstock._penstock import Answer, Memory, Request
from penstock._penstock import Scheduler as _Scheduler
from penstock._penstock import Server as _Server
from penstock._penstock import Worker as _Worker
from penstock._penstock import version as _version
from penstock.errors import Error, Status
from penstock.tensor import Tensor

__all__ = ["Answer", "Error", "Memory", "Request", "Scheduler", "Server", "Status", "Tensor",
           "Worker", "errors"]

_number = _version()
__version__ = f"{_number // 10000}.{_number // 100 % 100}.{_number % 100}"

# Roles that nobody closed end before the interpreter does: their threads may call into it.
_roles = _weakref.WeakSet()


def _close_roles():
    for role in list(_roles):
        role.close()


_atexit.register(_close_roles)


class Scheduler(_Scheduler):
    __doc__ = _Scheduler.__doc__

    def __init__(self, **options):
        super().__init__(**options)
        _roles.add(self)


class Server(_Server):
    __doc__ = _Server.__doc__

    def __init__(self, *, handler=None, **options):
        super().__init__(handler=handler, **options)
        _roles.add(self)


class Worker(_Worker):
    __doc__ = _Worker.__doc__

    def __init__(self, **options):
        super().__init__(**options)
        _roles.add(self)
