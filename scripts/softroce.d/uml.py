# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""The guest as User-Mode Linux: a kernel that is a process of this machine. Native speed, one CPU."""
import os
import pathlib
import platform
import random
import shutil
import subprocess

import cache
import process

HERE = pathlib.Path(__file__).resolve().parent
RECIPE = (HERE / "build-kernel", HERE / "kernel.config")
TOOLS = ("apt-get", "dpkg", "gcc", "make", "flex", "bison", "bc", "xz")
BUILD_GIGABYTES = 2.5  # source 1.5, its package 0.15, objects 0.15, and some air

# What session needs to know of this kind of guest. The real CPU's description: this kernel's own
# names neither clock nor features, and perftest computes with the clock. Short time slices: two
# threads that spin share the one CPU.
SETTINGS = """
output=/dev/tty0
errors=/dev/tty1
mount_work() { mount -t hostfs -o "$2" work "$2"; }
prepare_machine() {
  local knob
  mount --bind "$softroce_run/cpuinfo" /proc/cpuinfo
  for knob in min_granularity_ns latency_ns base_slice_ns; do
    knob=/sys/kernel/debug/sched/$knob
    [[ ! -w $knob ]] || echo 100000 >"$knob"
  done
}
"""


def kernel():
    return cache.entry(RECIPE, "linux")


def check():
    if platform.machine() != "x86_64":
        raise cache.Unavailable(f"User-Mode Linux runs on x86_64, not on {platform.machine()}")
    if not os.access(kernel(), os.X_OK):
        raise cache.Unavailable(f"no guest kernel {kernel()}; scripts/softroce --prepare builds it")


def prepare():
    """Builds the kernel unless it is cached: some minutes, and a download of 140 MB."""
    try:
        check()
        return str(kernel())
    except cache.Unavailable:
        missing = [tool for tool in TOOLS if not shutil.which(tool)]
        if missing or platform.machine() != "x86_64":
            raise cache.Unavailable(f"cannot build the guest kernel without {', '.join(missing)}; "
                                    "run scripts/setup test" if missing else
                                    "User-Mode Linux needs an x86_64 machine") from None
    cache.make(kernel(), BUILD_GIGABYTES, _build)
    return str(kernel())


def _build(folder):
    log = kernel().parent / "build.log"
    with open(log, "w", encoding="utf-8") as output:
        status = subprocess.run([RECIPE[0], folder], stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.STDOUT, check=False).returncode
    if status:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise cache.Unavailable(f"building the guest kernel failed ({' '.join(last)}); see {log}")


def start(request, run):
    """Starts the guest; its memory, consoles and processes end with the returned process."""
    (run / "cpuinfo").write_text(
        pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0] + "\n\n")
    # One CPU: every system call of a guest's process is a switch to the guest's kernel and back,
    # cheap on one CPU and an interrupt each way across two.
    cpu = random.choice(sorted(os.sched_getaffinity(0)))
    with open(run / "console", "wb") as console:
        log = console.fileno()
        arguments = [
            kernel(), f"mem={request.memory}M", "rootfstype=hostfs", "rootflags=/", "ro",
            f"init={run}/guest/root", f"softroce_run={run}", f"uml_dir={run}", "umid=uml",
            f"con0={'fd:0' if request.interactive else 'null'},fd:1", "con1=null,fd:2", "con=null",
            "console=ttyS0", f"ssl0=null,fd:{log}", "ssl=null", "noreboot", "panic=-1", "quiet",
            "loglevel=7"
        ]
        return process.start(arguments, request.interactive, pass_fds=[log], cpu=cpu,
                             environment={"TMPDIR": _memory_folder(request.memory)})


def _memory_folder(megabytes):
    """Where the guest's memory is a file: in memory, if that has room and lets code run from it."""
    for folder in ("/dev/shm", os.environ.get("TMPDIR", "/tmp")):
        try:
            about = os.statvfs(folder)
        except OSError:
            continue
        room = about.f_bavail * about.f_frsize >= megabytes << 20
        if room and not about.f_flag & os.ST_NOEXEC:
            return folder
    raise cache.Unavailable(f"neither /dev/shm nor TMPDIR has {megabytes} MiB for the guest's memory "
                            "(and allows exec); ask for less with --memory")
