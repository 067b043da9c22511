# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch on Penstock, 1.13 and 2.x by the same code.

DistributedOptimizer: the optimizer runs on the servers; step() waits for fresh parameters.
push_pull_hook, PushPullState: a communication hook for DistributedDataParallel; gradients only.
"""
from penstock.torch.ddp import PushPullState, push_pull_hook
from penstock.torch.optimizer import DistributedOptimizer

__all__ = ["DistributedOptimizer", "PushPullState", "push_pull_hook"]
