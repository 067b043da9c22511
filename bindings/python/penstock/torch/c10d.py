# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""The c10d backend "penstock": importing this module registers it.

    import penstock.torch.c10d
    torch.distributed.init_process_group("penstock")

CPU tensors. Options of the C ABI may be given as a dictionary: pg_options={"transport": "tcp"}.
"""
import hashlib
import weakref

import torch.distributed as dist

from .c10d_group import ProcessGroup
from .c10d_job import Job

NAME = "penstock"

_world = None  # weak: the job of the default group, which groups of its members share


def _is_default(backend_options):
    # Before the default group there is none; afterwards every group is a part of it.
    return not dist.is_initialized() or not backend_options.global_ranks_in_group


def create(backend_options, pg_options=None):
    """What torch calls in init_process_group() and new_group(), once in each member."""
    global _world
    given = backend_options
    timeout_s = given.timeout.total_seconds()
    rank, size = given.group_rank, given.group_size
    members = list(given.global_ranks_in_group)
    job = _world() if _world is not None else None
    if job is None or job.leaving or _is_default(given):
        # Also for a part of a default group of another backend.
        job = Job(given.store, rank, size, timeout_s, pg_options or {})
        members = list(range(size))
        if _is_default(given):
            _world = weakref.ref(job)
    elif pg_options:
        raise ValueError("pg_options belong to init_process_group(); groups share its connections")
    prefix = hashlib.blake2b(given.group_id.encode(), digest_size=8).digest()
    return ProcessGroup(job, prefix, rank, members, timeout_s)


def register():
    devices = {"devices": ["cpu"]} if hasattr(dist.Backend, "default_device_backend_map") else {}
    dist.Backend.register_backend(NAME, create, extended_api=True, **devices)


register()
