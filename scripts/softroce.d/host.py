# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""No guest: the command runs here, on this machine's own RDMA devices.

Which ones, it reads in PENSTOCK_RDMA_DEVICES and PENSTOCK_RDMA_ADDRESSES. Set them, in the same
order and separated by commas, or leave it to find(): every device with an active port and an IPv4
address.
"""
import os
import pathlib
import re
import subprocess

import cache

DEVICES = pathlib.Path("/sys/class/infiniband")


def find():
    """[(device, IPv4 address)], in the order of the names."""
    found = []
    for device in sorted(DEVICES.glob("*")):
        states = [path.read_text() for path in device.glob("ports/*/state")]
        if not any("ACTIVE" in state for state in states):
            continue
        cards = {path.name for path in device.glob("device/net/*")}
        cards |= {path.read_text().strip() for path in device.glob("ports/*/gid_attrs/ndevs/0")}
        address = next(filter(None, map(_address, sorted(cards))), None)
        if address:
            found.append((device.name, address))
    return found


def _address(card):
    try:
        shown = subprocess.run(["ip", "-4", "-oneline", "address", "show", "dev", card], text=True,
                               capture_output=True, check=False).stdout
    except FileNotFoundError:
        return None
    match = re.search(r"inet ([\d.]+)", shown)
    return match and match.group(1)


def environment(net):
    """What the command gets to know of the devices; Unavailable when `net` cannot be had."""
    if net == "pair":
        raise cache.Unavailable("the pair network's cable exists only in a guest")
    if net == "none" or os.environ.get("PENSTOCK_RDMA_ADDRESSES"):
        return {}
    found = find()
    if not found:
        raise cache.Unavailable("this machine has no RDMA device with an active port and an IPv4 "
                                f"address ({DEVICES}, rdma link, ip address)")
    return {"PENSTOCK_RDMA_DEVICES": ",".join(device for device, _ in found),
            "PENSTOCK_RDMA_ADDRESSES": ",".join(address for _, address in found)}


def check():
    environment("one")


def prepare():
    check()
    return "this machine's own devices"
