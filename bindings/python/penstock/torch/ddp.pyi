# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
import torch
from torch.distributed import GradBucket

from penstock import Worker

class PushPullState:
    worker: Worker
    first_key: int
    timeout_s: float | None
    def __init__(self, worker: Worker, first_key: int = ..., timeout_s: float | None = None) -> None: ...
    def close(self) -> None: ...

def push_pull_hook(state: PushPullState,
                   bucket: GradBucket) -> torch.futures.Future[torch.Tensor]: ...
