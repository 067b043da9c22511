# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""An optimizer whose state and arithmetic are the servers'."""
import contextlib
import time

import torch

import penstock
from penstock import errors
from penstock.torch import hooks
from penstock.torch.rules import optimizer_text

_ALIGNMENT = 64  # bytes: a cache line


class _Lent:
    """A parameter and its gradient, in memory that is lent to the worker."""

    def __init__(self, key, name, parameter, gradient):
        self.key, self.name, self.parameter, self.gradient = key, name, parameter, gradient
        self.round = 0           # the last one that was started
        self.passes = 0          # backward passes since the last step
        self.left = False        # the gradient is on its way
        self.left_version = 0    # of the gradient when it left
        self.clean_version = 0   # of the gradient when it was last zeroed
        self.copied = 0          # gradients that autograd put elsewhere
        self.handles = []

    def zero(self):
        self.gradient.zero_()
        self.parameter.grad = self.gradient
        self.clean_version = self.gradient._version

    def bring_home(self):
        """parameter.grad into the lent memory, where it usually is already. False: none."""
        gradient = self.parameter.grad
        if gradient is None:
            return False
        if gradient.data_ptr() == self.gradient.data_ptr():
            return self.gradient._version != self.clean_version
        with torch.no_grad():
            self.gradient.copy_(gradient)
        self.parameter.grad = self.gradient
        self.copied += 1
        return True


class DistributedOptimizer(torch.optim.Optimizer):
    """A torch.optim.Optimizer that runs on the servers of a job.

        optimizer = penstock.torch.DistributedOptimizer(
            model.parameters(), optimizer="adamw", worker=worker, lr=1e-3, betas=(0.9, 0.95))
        for batch, target in data:
            optimizer.zero_grad()
            loss(model(batch), target).backward()
            optimizer.step()

    params     parameters, (name, parameter) pairs or parameter groups, whose hyper-parameters
               override the others; contiguous, in CPU memory, float32, float16 or bfloat16. The
               servers' masters are float32. Every worker passes the same, in the same order; worker
               0's values are what everybody starts with
    optimizer  a name ("sgd", "momentum", "adam", "adamw", "lion", "lamb", …) or a whole text as in
               penstock.Tensor
    worker     a penstock.Worker
    lr, betas, eps, momentum, nesterov, weight_decay, … and every other field of the optimizer text,
               schedule="cosine", period=1000, warmup=100, clip_norm=1.0 among them
    backward_passes_per_step  gradients of so many passes are added up before they leave
    overlap    False: gradients leave in step(), not in the backward pass
    reduce, gradient_scale, not_finite  as in penstock.Tensor
    first_key  parameters get the keys first_key, first_key + 1, …
    timeout_s  of each wait; None: the worker's

    A gradient leaves as soon as the backward pass has it, those of the first parameters before the
    others. From then on until step() returns gradient and parameter are lent: fresh parameters land
    in place when every worker's gradient is in, so neither may be touched or relied on. To clip or
    change gradients before they leave, compute them in "with optimizer.no_sync():"; clipping by norm
    is cheaper on the servers (clip_norm, clip_global_norm). Hyper-parameters are fixed: a change, by
    a learning-rate scheduler too, is refused; give schedule=….

    A parameter without a gradient in a step counts as zero for this worker; unlike torch's, its
    update still runs. zero_grad() keeps the gradients' memory, so that autograd adds in place; one
    that autograd puts elsewhere (after model.zero_grad(set_to_none=True)) is copied once.
    """

    def __init__(self, params, optimizer="sgd", *, worker, backward_passes_per_step=1, overlap=True,
                 reduce="mean", gradient_scale=1.0, not_finite="accept", first_key=0,
                 timeout_s=None, **hyperparameters):
        if backward_passes_per_step < 1:
            raise errors.InvalidArgument("backward_passes_per_step must be at least 1")
        self.worker = worker
        self.backward_passes_per_step = backward_passes_per_step
        self.timeout_s = timeout_s
        self.waited_s = 0.0  # in step(), for the network and the other workers
        self._overlap, self._holding = overlap, False
        self._properties = {"reduce": reduce, "gradient_scale": gradient_scale,
                            "not_finite": not_finite}
        self._lent, self._declared, self._first_key = [], [], first_key
        self._names = {}
        super().__init__(self._without_names(params), {"optimizer": optimizer, **hyperparameters})
        self._declare(range(len(self.param_groups)))
        self._ready = True

    def _without_names(self, params):
        items = list(params)
        if items and all(isinstance(item, tuple) for item in items):
            self._names.update((id(parameter), name) for name, parameter in items)
            return [parameter for _, parameter in items]
        return items

    # ---- declaring ------------------------------------------------------------------------------

    def add_param_group(self, param_group):
        """As torch's; collective once the optimizer is made: every worker adds the same group."""
        super().add_param_group(param_group)
        if getattr(self, "_ready", False):
            self._declare([len(self.param_groups) - 1])

    def _text(self, group):
        fields = {name: value for name, value in group.items()
                  if name not in ("params", "optimizer", "param_names", "initial_lr")}
        return optimizer_text(group["optimizer"], fields)

    def _declare(self, groups):
        fresh = []
        for index in groups:
            self._declared.append(self._text(self.param_groups[index]))
            parameters = self.param_groups[index]["params"]
            names = [self._names.get(id(parameter), f"group{index}.{position}")
                     for position, parameter in enumerate(parameters)]
            for name, parameter, gradient in zip(names, parameters,
                                                 self._gradients_of(parameters, names)):
                key = self._first_key + len(self._lent) + len(fresh)
                fresh.append((self._declared[index], _Lent(key, name, parameter, gradient)))
        self._declare_keys(fresh)
        for _, lent in fresh:
            lent.zero()
            lent.handles = [
                hooks.before_accumulation(lent.parameter, lambda g, lent=lent: self._check(lent, g)),
                hooks.after_accumulation(lent.parameter, lambda lent=lent: self._arrived(lent))]
            self._lent.append(lent)

    def _declare_keys(self, entries):
        self.worker.declare([
            penstock.Tensor(lent.key, lent.gradient, lent.parameter.detach(), name=lent.name,
                            optimizer=text, priority=-(lent.key - self._first_key),
                            **self._properties)
            for text, lent in entries])

    def _gradients_of(self, parameters, names):
        """A tensor like each parameter, in one piece of memory that servers of this host read in
        place. Each is a tensor of its own, not a view, so that it counts its own changes."""
        offsets, end = [], 0
        for name, parameter in zip(names, parameters):
            if parameter.device.type != "cpu":
                raise errors.Unsupported(
                    f"parameter {name} is on {parameter.device}; move it to the CPU")
            if parameter.layout != torch.strided or not parameter.is_contiguous():
                raise errors.InvalidArgument(
                    f"parameter {name} is not contiguous; make it so before the optimizer is made")
            if parameter.numel() == 0:
                raise errors.InvalidArgument(f"parameter {name} has no elements; leave it out")
            offsets.append(end)
            end += -(-parameter.numel() * parameter.element_size() // _ALIGNMENT) * _ALIGNMENT
        memory = self.worker.allocate(end)
        return [torch.frombuffer(memory, dtype=parameter.dtype, offset=offset,
                                 count=parameter.numel()).view(parameter.shape)
                for parameter, offset in zip(parameters, offsets)]

    # ---- in the backward pass -------------------------------------------------------------------

    def _check(self, lent, gradient):
        if gradient.is_sparse:
            raise errors.Unsupported(
                f"the gradient of {lent.name} is sparse; servers have no sparse tables yet: make the "
                "nn.Embedding with sparse=False")
        if lent.left:
            raise errors.InvalidArgument(
                f"the gradient of {lent.name} has left already and cannot be added to; call step(), "
                "give backward_passes_per_step, or accumulate in \"with optimizer.no_sync():\"")

    def _arrived(self, lent):
        lent.passes += 1
        complete = lent.passes >= self.backward_passes_per_step
        if complete and self._overlap and not self._holding:
            lent.bring_home()
            self._leave(lent, self.worker.push_pull)

    def _leave(self, lent, start):
        start(lent.key, lent.round + 1)
        lent.round += 1
        lent.left, lent.left_version = True, lent.gradient._version

    @contextlib.contextmanager
    def no_sync(self):
        """Gradients that are computed in this block are added up and stay: until a pass outside of
        it, or step()."""
        before, self._holding = self._holding, True
        try:
            yield
        finally:
            self._holding = before

    # ---- as a torch.optim.Optimizer -------------------------------------------------------------

    def step(self, closure=None):
        """Sends what has not left yet and waits until every parameter is fresh.

        closure: computes the loss and its gradients, and is what step() returns. Raises Timeout
        (call step() again to go on waiting), PeerLost, or NotFinite when the round ended by a NaN:
        then parameters are as before and the next step goes on as usual.
        """
        self._check_unchanged()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for lent in self._lent:
            if not lent.left:
                there = lent.bring_home()
                self._leave(lent, self.worker.push_pull if there else self.worker.pull)
            elif lent.gradient._version != lent.left_version:
                raise errors.InvalidArgument(
                    f"the gradient of {lent.name} was changed after it had left; change gradients "
                    "in \"with optimizer.no_sync():\", or make the optimizer with overlap=False")
        self._wait()
        return loss

    def _wait(self):
        start, failed = time.perf_counter(), None
        try:
            for lent in self._lent:
                try:
                    if lent.left:
                        self.worker.wait(lent.key, lent.round, self.timeout_s)
                except errors.NotFinite as error:
                    failed = error
                lent.left, lent.passes = False, 0
        finally:
            self.waited_s += time.perf_counter() - start
        if failed is not None:
            raise failed

    def _check_unchanged(self):
        for index, (group, declared) in enumerate(zip(self.param_groups, self._declared)):
            text = self._text(group)
            if text != declared:
                raise errors.InvalidArgument(
                    f"parameter group {index} is \"{text}\" now, but was declared as \"{declared}\"; "
                    "servers run the optimizer with the numbers it was declared with: give "
                    "schedule=… instead of changing them, as torch's schedulers do")

    def _check_home(self, what):
        for lent in self._lent:
            if lent.left:
                raise errors.InvalidArgument(
                    f"{what} while the gradient of {lent.name} is on its way; call step() first")

    def zero_grad(self, set_to_none=False):
        """Zeroes gradients in place, whatever set_to_none says: their memory is lent."""
        self._check_home("zero_grad()")
        for lent in self._lent:
            lent.zero()

    # ---- state ----------------------------------------------------------------------------------

    def state_dict(self):
        """Collective: every worker calls it and has the same.

        What torch's has, with the servers' state for each parameter: "step", and "planes": its
        parameters in float32, then the optimizer's own (momentum: 1; adam: 2; …), in its shape.
        "parameters" are those of the model, in its dtype. Any number of servers may load it.
        """
        self._check_home("state_dict()")
        self.worker.barrier()  # nobody is in a step any more
        state = {index: self._read(lent) for index, lent in enumerate(self._lent)}
        self.worker.barrier()  # nobody is in the next one before all have read
        return {**super().state_dict(), "state": state,
                "parameters": [lent.parameter.detach().clone() for lent in self._lent]}

    def _read(self, lent):
        steps, planes = self.worker.read_state(lent.key, self.timeout_s)
        return {"step": steps,
                "planes": [torch.frombuffer(plane, dtype=getattr(torch, dtype)).view(
                    lent.parameter.shape) for dtype, plane in planes]}

    def load_state_dict(self, state_dict):
        """Restores parameters and the servers' state. Collective: every worker loads the same."""
        self._check_home("load_state_dict()")
        saved = state_dict["parameters"]
        shapes = [tuple(value.shape) for value in saved]
        own = [tuple(lent.parameter.shape) for lent in self._lent]
        if shapes != own:
            raise errors.InvalidArgument(f"the saved parameters have shapes {shapes}, these {own}")
        for group, declared in zip(state_dict["param_groups"], self._declared):
            if self._text(group) != declared:
                raise errors.InvalidArgument(
                    f"the saved optimizer was \"{self._text(group)}\", this one is \"{declared}\"")
        with torch.no_grad():
            for lent, value in zip(self._lent, saved):
                lent.parameter.copy_(value)
        self._redeclare()
        if self.worker.rank == 0:  # the others wait in the barrier
            for index, lent in enumerate(self._lent):
                kept = state_dict["state"][index]
                self.worker.write_state(lent.key, kept["step"], kept["planes"], self.timeout_s)
        self.worker.barrier()

    def _redeclare(self):
        texts = [text for text, group in zip(self._declared, self.param_groups)
                 for _ in group["params"]]
        self.worker.remove([lent.key for lent in self._lent])
        self._declare_keys(list(zip(texts, self._lent)))
        for lent in self._lent:
            lent.round = 0
            lent.zero()

    def close(self):
        """Takes the hooks away and, collectively, the keys from the servers. The parameters keep
        their values."""
        self._check_home("close()")
        for lent in self._lent:
            for handle in lent.handles:
                handle.remove()
            lent.parameter.grad = None
        self.worker.remove([lent.key for lent in self._lent])
        self._lent, self._declared = [], []
