# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""The guest as a whole machine in QEMU, without KVM, on Debian's own kernel: the kernel that users
have, and several CPUs, at a twentieth of the speed. (/dev/kvm is no promise that KVM works.)"""
import fcntl
import os
import pathlib
import re
import shutil
import subprocess

import cache
import process

HERE = pathlib.Path(__file__).resolve().parent
RECIPE = (HERE / "qemu.py", HERE / "initramfs")
TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "depmod": "kmod"}
BUILD_GIGABYTES = 1
CPUS = 2
# What the guest may need, loaded at boot: it has no module folder of its own.
MODULES = """virtio_pci virtio_console 9pnet_virtio 9p overlay crc32_generic rdma_rxe rdma_ucm
ib_uverbs ib_umad dummy veth sch_netem sch_tbf""".split()

SETTINGS = """
output=/dev/hvc0
errors=/dev/hvc1
mount_work() {
  mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=mmap,access=any "work$1" "$2"
}
prepare_machine() { :; }
"""


def image():
    """A folder with `vmlinuz` and `initramfs`."""
    return cache.entry(RECIPE, "guest")


def _check_tools():
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool, path=path)]
    if missing:
        raise cache.Unavailable(f"the qemu guest needs the packages {' '.join(missing)}")


def check():
    _check_tools()
    if not image().exists():
        raise cache.Unavailable(f"no guest in {image()}; scripts/softroce --backend qemu --prepare "
                                "makes it")


def prepare():
    """Makes the guest's kernel and initramfs unless they are cached; a download of 70 MB."""
    _check_tools()
    if not image().exists():
        cache.make(image(), BUILD_GIGABYTES, _build)
    return str(image())


def _run(*words, folder, **options):
    done = subprocess.run(words, cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          check=False, **options)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise cache.Unavailable(f"{' '.join(map(str, words))} failed: {' '.join(last)}")
    return done.stdout


def _build(folder):
    depends = _run("apt-cache", "depends", "linux-image-amd64", folder=folder,
                   stdout=subprocess.PIPE).decode()
    package = re.search(r"Depends: (linux-image-\S+)", depends)
    if not package:
        raise cache.Unavailable("apt knows no package linux-image-amd64")
    _run("apt-get", "-q", "-o", "Acquire::Retries=3", "download", package.group(1), folder=folder,
         stdout=subprocess.DEVNULL)
    _run("dpkg", "-x", next(folder.glob("*.deb")), "kernel", folder=folder)
    made = folder / image().name
    made.mkdir()
    version = next((folder / "kernel/lib/modules").iterdir()).name
    shutil.copy(folder / f"kernel/boot/vmlinuz-{version}", made / "vmlinuz")
    _run("/sbin/depmod", "-b", folder / "kernel", version, folder=folder)
    root = folder / "root"
    for name in ("bin", "dev", "proc", "sys", "run", "modules"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), root / "bin/busybox")
    shutil.copy(HERE / "initramfs", root / "init")
    (root / "init").chmod(0o755)
    for number, module in enumerate(_in_order(folder / "kernel/lib/modules" / version)):
        shutil.copy(module, root / "modules" / f"{number:03}-{module.name}")
    with open(made / "initramfs", "wb") as output:
        _run("sh", "-c", "find . | busybox cpio -o -H newc", folder=root, stdout=output)


def _in_order(folder):
    """The files of MODULES and of what they depend on, each after what it needs."""
    needs = {}
    for line in (folder / "modules.dep").read_text(encoding="utf-8").splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    by_name = {pathlib.Path(path).name.split(".")[0].replace("-", "_"): path for path in needs}
    ordered = []
    for name in MODULES:
        if name in by_name:  # else it is part of the kernel itself
            path = by_name[name]
            ordered += [one for one in [*reversed(needs[path]), path] if one not in ordered]
    return [folder / path for path in ordered]


def _error_output(duplicate):
    """This process's error output as a file name for QEMU, which has no better way to share it.

    Taken over as the descriptor it is where QEMU can, which is where only writing is allowed; opened
    again, with a position in the file of its own, elsewhere (a terminal).
    """
    mode = fcntl.fcntl(duplicate, fcntl.F_GETFL) & os.O_ACCMODE
    return "/dev/fdset/1" if mode == os.O_WRONLY else f"/proc/self/fd/{duplicate}"


def start(request, run):
    errors = os.dup(2)
    arguments = [
        "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp",
        str(CPUS), "-m", str(request.memory), "-nodefaults", "-no-user-config", "-display", "none",
        "-no-reboot", "-kernel", image() / "vmlinuz", "-initrd", image() / "initramfs", "-append",
        f"console=ttyS0 panic=-1 nokaslr mitigations=off loglevel=7 softroce_run={run}",
        "-serial", f"file:{run}/console",
        "-device", "virtio-serial-pci",
        "-chardev", "stdio,id=output,signal=off", "-device", "virtconsole,chardev=output",
        "-add-fd", f"fd={errors},set=1",
        "-chardev", f"file,id=errors,append=on,path={_error_output(errors)}",
        "-device", "virtconsole,chardev=errors"
    ]
    shares = [("root", "/", ",readonly=on")]
    shares += [(f"work{i}", path, "") for i, path in enumerate([run, *request.works])]
    for tag, path, more in shares:
        arguments += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{more}",
                      "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return process.start(arguments, request.interactive, pass_fds=[errors])
