# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Two hosts made of two network namespaces of this kernel, joined by a cable (a veth pair).

Their names begin with the process that made them, so that what a killed test left behind is found
and removed by the next one. Needs root and the commands of iproute2; nftables for filters.
"""
import atexit
import os
import re
import secrets
import shutil
import subprocess
import time

PREFIX = "penstock-test"
CARD = "cable0"
LIMIT_S = 30  # for any one of these commands


def command(*words, check=True, text=None):
    """Runs a command to its end; returns what it printed, or raises with its complaint."""
    done = subprocess.run([str(word) for word in words], input=text, capture_output=True, text=True,
                          timeout=LIMIT_S, check=False)
    if check and done.returncode != 0:
        raise OSError(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def missing():
    """Why there can be no two hosts here; None if there can be."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "tc", "ss"):
        if shutil.which(tool) is None:
            return f"the command {tool} is not installed (iproute2)"
    try:
        with TwoHosts():
            return None
    except OSError as error:
        return f"no network namespaces: {error}"


def remove(name):
    """Ends what still runs in a namespace, and deletes it."""
    for pid in command("ip", "netns", "pids", name, check=False).split():
        try:
            os.kill(int(pid), 9)
        except ProcessLookupError:
            pass
    command("ip", "netns", "delete", name, check=False)


def remove_left_behind():
    for line in command("ip", "netns", "list", check=False).splitlines():
        match = re.match(PREFIX + r"-(\d+)-", line)
        if match and not os.path.exists(f"/proc/{match.group(1)}"):
            remove(line.split()[0])


class TwoHosts:
    """addresses[0] and addresses[1], each in a namespace of its own; nothing else is reachable."""

    def __init__(self):
        remove_left_behind()
        subnet = f"10.88.{secrets.randbelow(256)}"
        self.addresses = [f"{subnet}.1", f"{subnet}.2"]
        unique = f"{PREFIX}-{os.getpid()}-{secrets.token_hex(3)}"
        self.names = [f"{unique}-0", f"{unique}-1"]
        atexit.register(self.close)  # also when a test is interrupted
        try:
            for name in self.names:
                command("ip", "netns", "add", name)
                command("ip", "-n", name, "link", "set", "lo", "up")
            command("ip", "link", "add", CARD, "netns", self.names[0], "type", "veth", "peer",
                    "name", CARD, "netns", self.names[1])
            for name, address in zip(self.names, self.addresses):
                command("ip", "-n", name, "address", "add", f"{address}/24", "dev", CARD)
            self.plug(True)
            self.wait_until_up()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        atexit.unregister(self.close)
        for name in self.names:
            remove(name)

    def on(self, host):
        """What goes before a command that is to run on a host."""
        return ["ip", "netns", "exec", self.names[host]]

    def plug(self, in_):
        for name in self.names if in_ else self.names[:1]:
            command("ip", "-n", name, "link", "set", CARD, "up" if in_ else "down")

    def wait_until_up(self):
        """The kernel says so a moment later, and there are programs that look (UCX)."""
        deadline = time.monotonic() + LIMIT_S
        while not all("LOWER_UP" in shown and "NO-CARRIER" not in shown for shown in
                      (command("ip", "-n", name, "link", "show", CARD) for name in self.names)):
            if time.monotonic() > deadline:
                raise OSError(f"{CARD} of {self.names} does not come up")
            time.sleep(0.02)

    def shape(self, *qdisc):
        """Puts a queueing discipline of tc on both ends; OSError where the kernel lacks it."""
        for name in self.names:
            command("tc", "-n", name, "qdisc", "replace", "dev", CARD, "root", *qdisc)

    def shaped(self):
        """How often what was to be sent had to wait in, or was dropped by, what shape() put there."""
        counts = [re.findall(r"(?:dropped|overlimits) (\d+)",
                             command("tc", "-n", name, "-s", "qdisc", "show", "dev", CARD))
                  for name in self.names]
        return sum(int(count) for end in counts for count in end)

    def filter(self, rule):
        """An nftables rule for what comes in over the cable to host 0; `counter` in it counts."""
        if shutil.which("nft") is None:
            raise OSError("the command nft is not installed (nftables)")
        command(*self.on(0), "nft", "-f", "-", text="table inet cut {\nchain input {\n"
                "type filter hook input priority 0; policy accept;\n"
                f'iifname "{CARD}" {rule}\n}}\n}}\n')

    def unfilter(self):
        """Takes the rule away again; returns how many packets it counted."""
        rules = command(*self.on(0), "nft", "list", "table", "inet", "cut")
        command(*self.on(0), "nft", "delete", "table", "inet", "cut")
        return sum(int(count) for count in re.findall(r"counter packets (\d+)", rules))

    def kill_connections(self, spared_ports):
        """Breaks host 1's TCP connections but those to the spared ports; returns how many."""
        spared = " and ".join(f"dport ne {port}" for port in spared_ports)
        killed = command(*self.on(1), "ss", "-H", "-tnK", "state", "established", f"( {spared} )")
        return len(killed.splitlines())
