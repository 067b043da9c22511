# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""The process that is the guest."""
import ctypes
import os
import signal
import subprocess

PR_SET_PDEATHSIG = 1


def start(arguments, interactive, pass_fds=(), cpu=None, environment=None):
    """Starts it in a process group of its own; it dies with this process, however this one ends."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def in_child():
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})

    return subprocess.Popen(arguments, stdin=None if interactive else subprocess.DEVNULL,
                            pass_fds=pass_fds, start_new_session=True, preexec_fn=in_child,
                            env={**os.environ, **(environment or {})})
