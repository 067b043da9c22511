# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""The c10d backend "penstock": importing this module registers it.

    import penstock.torch.c10d
    torch.distributed.init_process_group("penstock")

CPU tensors. Options of the C ABI may be given as a dictionary: pg_options={"transport": "tcp"}.
"""
import hashlib
import inspect

import torch.distributed as dist

from .c10d_group import ProcessGroup
from .c10d_job import Job

NAME = "penstock"


def create(given, pg_options=None):
    """What torch calls in init_process_group() and new_group(), once in each member."""
    timeout_s = given.timeout.total_seconds()
    members = list(given.global_ranks_in_group)
    default = dist.distributed_c10d._get_default_group() if dist.is_initialized() else None
    if isinstance(default, ProcessGroup):
        if pg_options:
            raise ValueError("pg_options belong to init_process_group(): groups share its job")
        job = default.job
    else:  # this is the default group, or a part of one of another backend
        job = Job(given.store, given.group_rank, given.group_size, timeout_s, pg_options or {})
        members = list(range(given.group_size))
    prefix = hashlib.blake2b(given.group_id.encode(), digest_size=8).digest()
    return ProcessGroup(job, prefix, given.group_rank, members, timeout_s)


def register():
    known = inspect.signature(dist.Backend.register_backend).parameters
    devices = {"devices": ["cpu"]} if "devices" in known else {}  # from 2.1
    dist.Backend.register_backend(NAME, create, extended_api=True, **devices)


register()
