# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Hyper-parameters as PyTorch names them, as the text that declares a server-side optimizer."""
from penstock.errors import InvalidArgument

_NAMES = {"lr": "learning_rate", "eps": "epsilon", "alpha": "rho", "centered": "centred"}


def _value_text(value):
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (list, tuple)):  # boundaries, multipliers
        return "/".join(_value_text(item) for item in value)
    return repr(value) if isinstance(value, float) else str(value)


def optimizer_text(optimizer, hyperparameters):
    """("adamw", {"lr": 0.001, "betas": (0.9, 0.95)}) -> "adamw:learning_rate=0.001,beta1=0.9,…".

    optimizer: a name, or a whole text that is completed. "sgd" with a momentum is "momentum", with
    nesterov=True "nesterov". Unknown names are refused when the tensor is declared.
    """
    fields = dict(hyperparameters)
    betas = fields.pop("betas", None)
    if betas is not None:
        fields["beta1"], fields["beta2"] = betas
    name, _, given = optimizer.partition(":")
    nesterov = fields.pop("nesterov", False)
    if name == "sgd" and fields.get("momentum"):
        name = "nesterov" if nesterov else "momentum"
    elif nesterov:
        raise InvalidArgument(f"nesterov=True needs optimizer=\"sgd\" and a momentum, not {name}")
    parts = [given] if given else []
    parts += [f"{_NAMES.get(key, key)}={_value_text(value)}" for key, value in fields.items()
              if value is not None]
    return name + (":" + ",".join(parts) if parts else "")
