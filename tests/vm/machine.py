"""One run of the test VM: its folder, its disks, virtiofsd and QEMU, and the words that come out of it.

Everything is beneath one temporary folder and dies with this process: QEMU and virtiofsd get SIGKILL when their
parent ends (prctl(2), PR_SET_PDEATHSIG), the folder is removed at the end.
"""
import ctypes
import os
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from kernel import VmError

HERE = os.path.dirname(os.path.abspath(__file__))
MARKER = re.compile(rb"\nVM-EXIT rc=(\d+) report=(\d+)\n")
SCRATCH_BYTES, SWAP_BYTES = 6 << 30, 512 << 20
MEMORY_MIB = 2560
MAX_OUTPUT = 256 << 20  # a job that prints without end is stopped
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/bin/virtiofsd")
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 1, 0x20000, 0x1000, 0x4000, 0x40000
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1


class MountAttr(ctypes.Structure):
    """struct mount_attr, mount_setattr(2)."""
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def read_only_root(binds=()):
    """For virtiofsd: a mount namespace of its own in which nothing of the host can be written, so that whatever
    happens in the VM cannot reach the host's files. binds: (directory, where it is to be seen as well)."""
    die_with_parent()
    if LIBC.unshare(CLONE_NEWNS) or LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "a mount namespace for virtiofsd")
    for source, target in binds:
        if LIBC.mount(os.fsencode(source), os.fsencode(target), None, MS_BIND, None):
            raise OSError(ctypes.get_errno(), f"bind {source} to {target}")
    attr = MountAttr(attr_set=MOUNT_ATTR_RDONLY)
    if LIBC.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, ctypes.byref(attr), ctypes.sizeof(attr)):
        raise OSError(ctypes.get_errno(), "mount_setattr")


def choose_accelerator():
    """KVM where it can work. /dev/kvm alone proves little: it can be closed to us, or be there without the CPU's
    support, where it makes VMs that never get through a kernel's first instructions."""
    wanted = os.environ.get("PETRI_VM_ACCEL")
    if wanted:
        return wanted
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        cpu = re.search(r"^flags\s*:.* (vmx|svm)( |$)", f.read(), re.M)
    return "kvm" if cpu and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"


def qemu_version():
    text = subprocess.run(["qemu-system-x86_64", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return tuple(int(x) for x in re.search(r"version (\d+)\.(\d+)", text).groups())


class Machine:
    """with Machine(kernel, seconds) as vm: vm.run(job). The job is a dict of bash variables for guest.sh."""
    root = "/"  # what the guest sees as its root
    program, console_device = "qemu-system-x86_64", "ttyS0"

    def __init__(self, kernel, deadline_s):
        self.kernel, self.deadline_s = kernel, deadline_s
        self.accelerator = choose_accelerator()
        self.dir = None
        self.children = []
        self.report = b""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="petri-vm-")
        return self

    def __exit__(self, *exc):
        for child in self.children:
            child.kill()
        for child in self.children:
            child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def text(self, name):
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    # ---- before the start ----

    def make_disks(self):
        for name, size in (("scratch", SCRATCH_BYTES), ("swap", SWAP_BYTES)):
            with open(self.path(name), "wb") as f:
                f.truncate(size)
        for argv in (["mkfs.xfs", "-q", "-K", "-m", "reflink=1", self.path("scratch")], ["mkswap", self.path("swap")]):
            done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                                  env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"})
            if done.returncode:
                raise VmError(f"{' '.join(argv)}: {done.stdout.strip()}")

    def write_job(self, job):
        def quote(value):
            return "'" + str(value).replace("'", "'\\''") + "'"
        with open(self.path("job"), "w", encoding="utf-8") as f:
            for name, value in job.items():
                if isinstance(value, (list, tuple)):
                    f.write(f"{name}=({' '.join(quote(v) for v in value)})\n")
                else:
                    f.write(f"export {name}={quote(value)}\n")

    def binds(self):
        """What is to be seen beneath root beside what lies there: (directory, place beneath root)."""
        return ()

    def start_virtiofsd(self):
        program = next((p for p in VIRTIOFSD if os.access(p, os.X_OK)), None)
        if not program:
            raise VmError("no virtiofsd: install Debian's qemu-system-common, or virtiofsd where that is a package")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path("virtiofs.sock"))
            listener.listen(1)
            fd = listener.fileno()
            argv = [program, f"--fd={fd}"]
            if "/lib/qemu/" in program:  # the one in C, of QEMU before 8.0
                files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
                argv += ["-f", f"--rlimit-nofile={files}", "-o", f"source={self.root},cache=always,xattr,no_posix_lock,no_flock,"
                         "sandbox=chroot,log_level=err"]
            else:
                argv += [f"--shared-dir={self.root}", "--cache=always", "--xattr", "--sandbox=chroot", "--log-level=error"]
            binds = self.binds()
            with open(self.path("virtiofsd.log"), "wb") as log:
                child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(fd,),
                                         preexec_fn=lambda: read_only_root(binds), start_new_session=True)
        self.children.append(child)

    def accelerator_flags(self):
        if self.accelerator == "kvm":
            return ["-accel", "kvm", "-cpu", "host"]
        # QEMU 7.2 corrupts flags on lock cmpxchg16b now and then, and kernel 6.12 panics on its two-threaded TCG.
        single = self.kernel.version == "6.12" and qemu_version() < (10, 0)
        return ["-accel", f"tcg,thread={'single' if single else 'multi'},tb-size=512", "-cpu", "Nehalem,cx16=off"]

    def machine_flags(self):
        return ["-machine", "q35,memory-backend=mem", *self.accelerator_flags()]

    def kernel_line(self):
        words = [f"console={self.console_device}", "quiet", "loglevel=4", "panic=-1", "cgroup_no_v1=all", "audit=0", "mitigations=off",
                 "nokaslr", "tsc=reliable", "no_timer_check", "random.trust_cpu=on", "rcupdate.rcu_expedited=1",
                 "cryptomgr.notests=1", f"petri.guest={HERE}/guest.sh", f"petri.job={self.path('job')}"]
        if self.accelerator == "tcg":
            words.append("norandmaps")  # randomised addresses make the emulator translate every exec anew
        return " ".join(words)

    def qemu(self, interactive):
        argv = [self.program, *self.machine_flags(), "-object",
                f"memory-backend-memfd,id=mem,size={MEMORY_MIB}M,share=on", "-m", str(MEMORY_MIB), "-smp", "2", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                "-kernel", self.kernel.image, "-initrd", self.kernel.initramfs, "-append", self.kernel_line(),
                "-chardev", f"file,id=serial,path={self.path('serial')}", "-serial", "chardev:serial",
                "-chardev", f"socket,id=fs,path={self.path('virtiofs.sock')}",
                "-device", "vhost-user-fs-pci,chardev=fs,tag=host,queue-size=1024",
                "-device", "virtio-serial-pci,max_ports=4"]
        for number, name in enumerate(("out", "report"), 1):
            argv += ["-chardev", f"file,id={name},path={self.path(name)}",
                     "-device", f"virtserialport,chardev={name},nr={number}"]
        for name in ("scratch", "swap"):
            argv += ["-drive", f"file={self.path(name)},if=none,format=raw,id={name},cache=unsafe,discard=unmap",
                     "-device", f"virtio-blk-pci,drive={name}"]
        if interactive:
            argv += ["-chardev", "stdio,id=tty,signal=off", "-device", "virtconsole,chardev=tty,nr=3"]
        return argv

    def start(self, job, interactive):
        self.make_disks()
        self.write_job(job)
        open(self.path("out"), "wb").close()
        self.start_virtiofsd()
        with open(self.path("qemu.log"), "wb") as log:
            stdio = {} if interactive else {"stdin": subprocess.DEVNULL, "stdout": log}
            child = subprocess.Popen(self.qemu(interactive), stderr=log, preexec_fn=die_with_parent,
                                     start_new_session=not interactive, **stdio)
        self.children.insert(0, child)
        return child

    # ---- while it runs ----

    def run(self, job, interactive=False):
        """Run the job and stream what it prints. Return: its exit status; VmError when the VM did not tell one."""
        child = self.start(job, interactive)
        began, seen, tail = time.monotonic(), 0, b""
        with open(self.path("out"), "rb") as out:
            while True:
                ended = child.poll() is not None  # before the last look at the output
                data = out.read(1 << 16)
                seen += len(data)
                shown, tail, marker = self.split_marker(tail + data, not data and ended)
                sys.stdout.buffer.write(shown)
                sys.stdout.buffer.flush()
                if marker:
                    self.read_report(int(marker[2]))
                    return int(marker[1])
                if data:
                    if seen > MAX_OUTPUT:
                        raise VmError(f"the job printed more than {MAX_OUTPUT >> 20} MiB")
                    continue
                if ended:
                    raise VmError(self.why_it_ended(child))
                if not interactive and time.monotonic() - began > self.deadline_s:
                    raise VmError(f"no end after {self.deadline_s} s, the deadline: the VM hangs, or the job does; "
                                  f"the console's last words:\n{self.console()}")
                select.select([], [], [], 0.05)

    @staticmethod
    def split_marker(data, all_there):
        """Return: (bytes to show, bytes to keep for the next look, the marker's match or None)."""
        found = MARKER.search(data)
        if found:
            return data[:found.start()], b"", found
        cut = len(data) if all_there else data.rfind(b"\n")
        if cut < 0 or len(data) - cut > 48:  # too long to become the marker
            cut = len(data)
        return data[:cut], data[cut:], None

    def read_report(self, size):
        """The JUnit file is written before the marker, on a port of its own."""
        deadline = time.monotonic() + 10
        while size and len(self.report) < size and time.monotonic() < deadline:
            with open(self.path("report"), "rb") as f:
                self.report = f.read()
            time.sleep(0.02)
        if len(self.report) != size:
            raise VmError(f"of the test report, {len(self.report)} of {size} bytes came out of the VM")

    def console(self):
        lines = [x for x in self.text("serial").splitlines() if x.strip()]
        return "\n".join("  " + x for x in lines[-40:]) or "  (none)"

    def why_it_ended(self, child):
        console = self.console()
        said = (self.text("qemu.log") + self.text("virtiofsd.log")).strip()
        why = "kernel panic" if "Kernel panic" in console else f"QEMU ended with code {child.returncode}"
        return f"{why} before the job did; the console's last words:\n{console}" + (f"\n{said}" if said else "")
