#!/usr/bin/python3
"""petri for aarch64 on an amd64 machine: a root directory of Debian's arm64 packages, which the cross compiler links against, and
the test VM with that as its root, an emulated aarch64 machine. Called by `./dev cross`, as root:

    aarch64.py root                          make the directory unless it is there, and print its path
    aarch64.py test --build DIR [REGEX]      tests in the VM (suite.py); without REGEX a choice of them
    aarch64.py run COMMAND...                a command in the VM

Packages are unpacked, not installed: no script of theirs runs, and this machine's dpkg and apt are left as they are.
Exit: the command's status; 125 when the harness itself failed, and it says why on stderr.
"""
import glob
import hashlib
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

import initramfs  # noqa: E402
import kernel  # noqa: E402
import vm  # noqa: E402
from kernel import VmError  # noqa: E402
from machine import Machine  # noqa: E402

LIBRARIES = ("libc6-dev libseccomp-dev liburing-dev libxxhash-dev libhiredis-dev libcriterion-dev libjansson-dev libarchive-dev "
             "libcap-dev libssl-dev libmicrohttpd-dev").split()
# What the guest needs to boot and to run the tests with; Debian's essential packages are named, since nothing implies them here.
GUEST = ("base-files base-passwd bash busybox-static coreutils dash diffutils e2fsprogs findutils gcc grep gzip hostname iproute2 kmod "
         "libc-bin login mount ncurses-bin procps python3 python3-redis redis-server sed strace tar util-linux xfsprogs").split()
SUITES = ("bookworm", "bookworm-security")
RECIPE = 1  # raise it when what is made of the packages changes
CHOICE = r"^(unit/(floor|policies_|layers_jail|confine|job/|parse)|integration/(smoke|seccomp)/|attacks/(foreign_abi|gate_key|kernel_calls|unknown_calls))"
SCALE = "20"


class Guest(Machine):
    """A machine of QEMU's "virt" kind, whose CPU has 32-bit programs too: the other system call table is there to be tried."""
    program, console_device = "qemu-system-aarch64", "ttyAMA0"

    def __init__(self, chosen, deadline_s, root):
        super().__init__(chosen, deadline_s)
        self.root, self.accelerator = root, "tcg"

    def machine_flags(self):
        return ["-machine", "virt,memory-backend=mem,gic-version=3", "-accel", "tcg,thread=multi,tb-size=512",
                "-cpu", os.environ.get("PETRI_VM_CPU") or "cortex-a57"]

    def binds(self):
        found = []
        for path in (ROOT, self.dir, self.kernel.dir):
            os.makedirs(self.root + path, exist_ok=True)
            found.append((path, self.root + path))
        return found


def download(directory):
    """Return: the paths of all the packages that LIBRARIES and GUEST need."""
    apt = kernel.private_apt(SUITES, directory, "arm64")
    if not apt:
        raise VmError("this machine's apt knows no mirror of Debian")
    done = subprocess.run(["apt-get", "install", "-y", "-q", "--download-only", "--no-install-recommends", *LIBRARIES, *GUEST],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env={**os.environ, **apt.env})
    found = glob.glob(os.path.join(directory, "cache/archives/*.deb"))
    if done.returncode or not found:
        raise VmError("could not download Debian's arm64 packages:\n" + done.stdout[-2000:])
    return sorted(found)


def unpack(deb, root):
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", root, "--keep-directory-symlink"], stdin=archive.stdout, check=True)
    if archive.returncode:
        raise VmError(f"{os.path.basename(deb)} cannot be unpacked")


def relink(root):
    """Absolute links lead out of the directory for whoever looks at it from outside: the linker does."""
    for directory, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(directory, name)
            if os.path.islink(path) and os.readlink(path).startswith("/"):
                target = os.path.relpath(root + os.readlink(path), directory)
                os.unlink(path)
                os.symlink(target, path)


def furnish(root):
    """What the packages' scripts would have made, as far as the tests look at it."""
    for name in ("passwd", "group"):
        with open(os.path.join(root, "usr/share/base-passwd", name + ".master"), encoding="utf-8") as f:
            text = f.read()
        with open(os.path.join(root, "etc", name), "w", encoding="utf-8") as f:
            f.write(text)
    for name, text, mode in (("shadow", "root:*:19000:0:99999:7:::\n", 0o640), ("hosts", "127.0.0.1 localhost petri-vm\n", 0o644)):
        with open(os.path.join(root, "etc", name), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(f.name, mode)
    for name in ("scratch", "dev", "proc", "sys", "tmp", "run"):
        os.makedirs(os.path.join(root, name), exist_ok=True)


def make_root():
    """Return: the directory, in the cache."""
    wanted = hashlib.sha256(" ".join((str(RECIPE), *SUITES, *LIBRARIES, *GUEST)).encode()).hexdigest()[:12]
    target = os.path.join(vm.cache_dir(), "aarch64", wanted)
    if os.path.isdir(target):
        return target
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".make-", dir=os.path.dirname(target)) as tmp:
        apt, tree = os.path.join(tmp, "apt"), os.path.join(tmp, "root")
        print("==> fetching Debian's arm64 packages, unpacked only: about 120 MB", file=sys.stderr, flush=True)
        os.mkdir(apt)
        for name in ("bin", "sbin", "lib"):
            os.makedirs(os.path.join(tree, "usr", name))
            os.symlink("usr/" + name, os.path.join(tree, name))
        for deb in download(apt):
            unpack(deb, tree)
        relink(tree)
        furnish(tree)
        os.chmod(tree, 0o755)
        os.rename(tree, target)
    return target


def list_tests(build):
    """What ctest says of the tests, without the emulator that it would run programs with. Return: the file's path."""
    path = os.path.join(build, "tests.json")
    listed = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], stdout=subprocess.PIPE, check=True)
    described = json.loads(listed.stdout)
    for test in described["tests"]:
        words = test.get("command", [])
        if words and words[0].endswith("qemu-aarch64-static"):
            test["command"] = words[3:]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(described, f)
    return path


def the_job(kind, build, words):
    if kind == "run":
        return {"COMMAND": words}
    regex = words[0] if words else CHOICE
    return {"JUNIT": "/run/tests.xml",
            "COMMAND": ["/usr/bin/python3", "-B", os.path.join(HERE, "suite.py"), build, "/run/tests.xml", "--list", list_tests(build), "--only", regex]}


def run(kind, build, words):
    root = make_root()
    chosen = kernel.fetch("6.1", os.path.join(vm.cache_dir(), "vm"), vm.say, "arm64")
    with tempfile.TemporaryDirectory(prefix="petri-vm-") as tmp:
        initramfs.build(chosen, tmp, os.path.join(root, "usr/bin/busybox"))
    deadline_s = float(os.environ.get("PETRI_VM_DEADLINE") or vm.DEADLINE_S[kind])
    with Guest(chosen, deadline_s, root) as guest:
        vm.say(f"VM: kernel {chosen.release}, emulated, at most {deadline_s:.0f} s")
        code = guest.run({"KIND": kind, "REPO": ROOT, "PETRI_TEST_SCALE": SCALE, "PETRI_STATE": "/var/lib/petri",
                          "MODULES": chosen.modules, **the_job(kind, build, words)})
        report = guest.report
    if kind != "test":
        return code
    with tempfile.NamedTemporaryFile(prefix="petri-vm-", suffix=".xml") as f:
        f.write(report)
        f.flush()
        shown = subprocess.run([sys.executable, "-B", os.path.join(ROOT, "cmake/test_summary.py"), f.name], check=False)
    return code or shown.returncode


def main():
    kind, words = (sys.argv + [""])[1], sys.argv[2:]
    build = os.path.join(ROOT, "build/cross")
    if words[:1] == ["--build"]:
        build, words = os.path.abspath(words[1]), words[2:]
    try:
        if kind == "root" and not words:
            print(make_root())
            return 0
        if (kind == "test" and len(words) < 2) or (kind == "run" and words):
            return run(kind, build, words)
        print(__doc__, file=sys.stderr)
    except (VmError, OSError, subprocess.CalledProcessError) as e:
        print(f"aarch64: {e}", file=sys.stderr)
    return vm.FAILED


if __name__ == "__main__":
    sys.exit(main())
