# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""What Worker.declare() takes."""
import dataclasses


@dataclasses.dataclass
class Tensor:
    """A key and the caller's memory for it, lent without a copy.

    key         an integer from 0 to 2**64 - 1, the same on every worker
    gradients   numpy array, torch tensor or anything else with __dlpack__, or a DLPack capsule:
                contiguous, row-major, CPU or CUDA-pinned memory, float32, float16 or bfloat16;
                read from push_pull() until wait() returns
    parameters  the same shape, written by declare() (initial values) and by each round
    optimizer   on the servers: "adamw:learning_rate=0.001,beta2=0.95", …
    reduce      "mean" or "sum" over the workers
    priority    higher goes first
    not_finite  "accept", "skip" or "fail": for a gradient with a NaN or an infinity
    gradient_scale  a factor on the sum or mean, above 0
    initial     "worker0" (its parameters), or on the servers "zeros", "constant:A",
                "uniform:A,B,SEED", "normal:MEAN,DEVIATION,SEED"
    """
    key: int
    gradients: object
    parameters: object
    _: dataclasses.KW_ONLY
    name: str = ""
    optimizer: str = "sgd"
    reduce: str = "mean"
    priority: int = 0
    not_finite: str = "accept"
    gradient_scale: float = 1.0
    initial: str = "worker0"

    def __iter__(self):
        """(key, gradients, parameters, {property: value}): what _penstock reads."""
        fields = [field.name for field in dataclasses.fields(self)]
        properties = {name: getattr(self, name) for name in fields[3:]}
        return iter((self.key, self.gradients, self.parameters, properties))
