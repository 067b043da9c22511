# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Runs one command in one guest, whatever kind of guest.

Host and guest talk through a run folder: `command` and `settings` go in, `status` and `console`
(the kernel's messages) come out, the scripts of guest/ lie in it.
"""
import dataclasses
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

import cache

HERE = pathlib.Path(__file__).resolve().parent
TIMED_OUT = 124
BROKE = 125
LAST_MESSAGES = 40  # lines of a broken guest's console
KNOWN_IN_THE_GUEST = ("PENSTOCK_RDMA_DEVICES", "PENSTOCK_RDMA_ADDRESSES")
# Mounted over by the guest: nothing of the host's can be reached below them.
HIDDEN = ("/dev", "/proc", "/run", "/sys")


@dataclasses.dataclass
class Request:
    command: list
    net: str
    memory: int  # MiB
    timeout: float  # seconds, guest and command together; None: for ever
    works: list  # folders of the host that the guest may write to
    interactive: bool
    verbose: bool


def _shell_words(words):
    return " ".join(shlex.quote(str(word)) for word in words)


def _write_command(request, run, bed):
    """The command with this process's folder and environment, as a script."""
    path = f"{run}/guest/bin:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    environment = {**os.environ, "PATH": path, "PENSTOCK_VERBS_TESTS": bed}
    words = [f"{name}={value}" for name, value in environment.items()
             if name not in KNOWN_IN_THE_GUEST]
    known = " ".join(f'{name}="${name}"' for name in KNOWN_IN_THE_GUEST)
    (run / "command").write_text(
        f"cd {shlex.quote(os.getcwd())} || exit 126\n"
        f"exec env -i {_shell_words(words)} {known} {_shell_words(request.command)}\n",
        encoding="utf-8", errors="surrogateescape")


def _write_settings(request, run, settings):
    works = _shell_words([run, *request.works])
    (run / "settings").write_text(
        f"net={request.net}\ninteractive={'yes' if request.interactive else ''}\n"
        f"works=({works})\n{settings}", encoding="utf-8")


def _run_folder():
    folder = os.path.realpath(tempfile.gettempdir())
    if any(folder == root or folder.startswith(root + "/") for root in HIDDEN) or " " in folder:
        folder = "/tmp"
    return tempfile.TemporaryDirectory(prefix="softroce.", dir=folder)


def _stop(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(backend, bed, request):
    """The command's exit status, or TIMED_OUT, or BROKE."""
    if not shutil.which("rdma", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
        raise cache.Unavailable("no `rdma` command; run scripts/setup test")
    with _run_folder() as folder:
        run_folder = pathlib.Path(folder)
        shutil.copytree(HERE / "guest", run_folder / "guest")
        (run_folder / "console").touch()
        _write_command(request, run_folder, bed)
        _write_settings(request, run_folder, backend.SETTINGS)
        timed_out = False
        process = backend.start(request, run_folder)
        try:
            process.wait(request.timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            _stop(process)
        console = (run_folder / "console").read_text(errors="replace").splitlines()
        if request.verbose:
            print("\n".join(console), file=sys.stderr)
        status = run_folder / "status"
        if status.exists() and status.read_text().strip():
            return int(status.read_text())
    if timed_out:
        print(f"softroce: no end after {request.timeout:g} s", file=sys.stderr)
        return TIMED_OUT
    print("softroce: the guest broke; its kernel's last messages:", file=sys.stderr)
    print("\n".join(console[-LAST_MESSAGES:]), file=sys.stderr)
    return BROKE
