"""The initramfs of the test VM: busybox, the init script beside this file, and the modules it loads, in order.

An uncompressed cpio, made once for each kernel: unpacking costs more under emulation than reading.
"""
import os
import re
import shutil
import subprocess

from kernel import VmError

HERE = os.path.dirname(os.path.abspath(__file__))
BUSYBOX = "/bin/busybox"
OBJCOPY = {"amd64": "objcopy", "arm64": "aarch64-linux-gnu-objcopy"}
# What mounts the root and the disks, and carries the output. The rest is loaded on demand from the guest's root.
WANTED = ("virtio_pci", "virtio_blk", "virtio_console", "virtiofs", "overlay", "xfs")
# Debug information, and the unwinder's tables: half the bytes, and a second of insmod under emulation.
STRIPPED = (".debug*", ".BTF", ".orc_unwind", ".orc_unwind_ip", ".rela.orc_unwind_ip")


def modules_of(kernel):
    """The paths of the modules, each after those it depends on; what is built in needs none."""
    found = []
    for name in WANTED:
        done = subprocess.run(["modprobe", "-d", kernel.dir, "-S", kernel.release, "--show-depends", name],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise VmError(f"kernel {kernel.version} has no module {name}: {done.stderr.strip()}")
        for path in re.findall(r"^insmod (\S+)", done.stdout, re.M):
            if path not in found:
                found.append(path)
    return found


def add_module(path, number, directory, objcopy):
    """Copy one, decompressed and stripped. Return: its name in the initramfs."""
    name = f"{number:02d}-{os.path.basename(path).partition('.ko')[0]}.ko"
    target = os.path.join(directory, name)
    if path.endswith(".xz"):
        with open(target, "wb") as f:
            subprocess.run(["xz", "-dc", path], stdout=f, check=True)
    else:
        shutil.copyfile(path, target)
    options = [x for section in STRIPPED for x in ("-R", section)]
    subprocess.run([objcopy, "--strip-debug", *options, target], check=True)
    return name


def build(kernel, tmp, busybox=BUSYBOX):
    """Make kernel.initramfs unless a current one is there; tmp is an empty directory of the caller's; busybox: a static one."""
    script = os.path.join(HERE, "init.sh")
    sources = (script, os.path.abspath(__file__), busybox)
    if os.path.exists(kernel.initramfs):
        made = os.path.getmtime(kernel.initramfs)
        if all(os.path.getmtime(path) < made for path in sources):
            return
    tree = os.path.join(tmp, "initramfs")
    for sub in ("bin", "modules", "proc", "sys", "dev", "lower", "rw", "root"):
        os.makedirs(os.path.join(tree, sub))
    shutil.copy(busybox, os.path.join(tree, "bin/busybox"))
    shutil.copy(script, os.path.join(tree, "init"))
    os.chmod(os.path.join(tree, "init"), 0o755)
    for number, path in enumerate(modules_of(kernel)):
        add_module(path, number, os.path.join(tree, "modules"), OBJCOPY[kernel.arch])
    names = "".join(os.path.relpath(os.path.join(d, n), tree) + "\n"
                    for d, dirs, files in os.walk(tree) for n in sorted(dirs + files))
    part = f"{kernel.initramfs}.{os.getpid()}"
    with open(part, "wb") as f:
        subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], input=names.encode(), stdout=f, cwd=tree,
                       check=True)
    os.rename(part, kernel.initramfs)
