# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
from penstock import errors as errors
from penstock._penstock import Answer as Answer
from penstock._penstock import Memory as Memory
from penstock._penstock import Request as Request
from penstock._penstock import Scheduler as Scheduler
from penstock._penstock import Server as Server
from penstock._penstock import Worker as Worker
from penstock.errors import Error as Error
from penstock.errors import Status as Status
from penstock.tensor import Tensor as Tensor

__all__ = ["Answer", "Error", "Memory", "Request", "Scheduler", "Server", "Status", "Tensor",
           "Worker", "errors"]
__version__: str
