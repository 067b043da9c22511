# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Calls around the accumulation of one parameter's gradient, on every version of PyTorch."""


def before_accumulation(parameter, call):
    """call(gradient) before `gradient` is added to parameter.grad; may raise. Returns a handle."""
    return parameter.register_hook(call)


def after_accumulation(parameter, call):
    """call() when parameter.grad is complete for this backward pass. Returns a handle."""
    if hasattr(parameter, "register_post_accumulate_grad_hook"):  # 2.1 and newer
        return parameter.register_post_accumulate_grad_hook(lambda _: call())
    return _AccumulatorHook(parameter, call)


class _AccumulatorHook:
    """Before 2.1: a hook on the node that accumulates, which lives as long as somebody holds it."""

    def __init__(self, parameter, call):
        self._accumulator = parameter.expand_as(parameter).grad_fn.next_functions[0][0]
        self._handle = self._accumulator.register_hook(lambda *_: call())

    def remove(self):
        self._handle.remove()
        self._accumulator = None
