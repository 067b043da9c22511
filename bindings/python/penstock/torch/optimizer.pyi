# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

from penstock import Worker

class DistributedOptimizer(torch.optim.Optimizer):
    worker: Worker
    backward_passes_per_step: int
    timeout_s: float | None
    waited_s: float
    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[tuple[str, torch.Tensor]] | Iterable[dict[str, Any]],
        optimizer: str = "sgd",
        *,
        worker: Worker,
        backward_passes_per_step: int = 1,
        overlap: bool = True,
        reduce: str = "mean",
        gradient_scale: float = 1.0,
        not_finite: str = "accept",
        first_key: int = 0,
        timeout_s: float | None = None,
        **hyperparameters: Any,
    ) -> None: ...
    def add_param_group(self, param_group: dict[str, Any]) -> None: ...
    def no_sync(self) -> AbstractContextManager[None]: ...
    def step(self, closure: Callable[[], Any] | None = None) -> Any: ...
    def zero_grad(self, set_to_none: bool = False) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...
    def close(self) -> None: ...
