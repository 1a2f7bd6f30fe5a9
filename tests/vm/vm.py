#!/usr/bin/python3
"""The VM that is petri's first-class host: cgroup v2 alone, XFS with project quotas, io.max on a virtio disk.

Called by ./dev, which installs what it needs and builds petri:

    vm.py test --build DIR [--kernel 6.1|6.12] [REGEX]    the tests in the VM (suite.py); their output, their verdict
    vm.py demo --build DIR [--kernel …] [ARG...]          tests/demo/demo.py in the VM
    vm.py shell [--kernel …]                              a shell in it
    vm.py run [--kernel …] COMMAND...                     a command in it

Exit: the command's status; 125 when the harness itself failed, and it says why on stderr.
PETRI_VM_DEADLINE: seconds until a run counts as hung; PETRI_VM_ACCEL: tcg or kvm, against its own choice.
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import termios

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

import initramfs  # noqa: E402
import kernel  # noqa: E402
from kernel import VmError  # noqa: E402
from machine import Machine  # noqa: E402

FAILED = 125
TOOLS = ("qemu-system-x86_64", "mkfs.xfs", "mkswap", "cpio", "modprobe", "depmod", "objcopy", "busybox", "dpkg")
# Left to the host, since emulation makes it ten times as slow: what computes alike on every kernel, what integration tests
# try on the VM's kernel as well, and one that measures the machine's speed.
HOST_ONLY = (r"^unit/(parse|base|base64|utf8?|job|job_bounds|limits|result|redis_url|queue[a-z_]*|worker_config|options|log|loop|runtime|executor_runtime|command|"
             r"mix|remove_tree|policies_[a-z]+|layers_(tar|dir|image[a-z_]*|blob|store|gc|oci|source|stream|tree_file|store_boot|commit)|"
             r"offload|doctor_host|metrics|steps|confine(?!/paths|/the_ring))(/|$)|"
             r"^(chaos|soak|lint|fuzz|attacks)/|^integration/(help/|runtime/|smoke/|faults/|faults_pool/|oci_hostile/|"
             r"oci/(?!layout|whiteouts|many_layers)|import/(?!attributes|the_same_tree)|gc/(?!verify_names|gc_spares)|"
             r"isolation/(?!ids|host_ids|what_the|nothing_is|cgroup|masked)|seccomp/(?!default_policy|first_violation)|scratch_worst/many_|"
             r"badinput/|worker/(?!submit_and_wait|sigterm)|worker_death/(nursery_term|nursery_that|term_)|"
             r"collect/(?!commit|blob|of_a_job)|streams/(?!stdin)|store/(?!store_|init|boot|mount)|"
             r"attacks_leftovers/(?!the_slot)|attacks_results/|attacks_petri/|privileges/(?!table)|"
             r"page_cache/(?!an_images)|metrics/|queue_admin/|redis_[a-z]+/|client[a-z_]*/|config[a-z_]*/|systemd/)")
SCALE = "10"  # an exec under emulation takes 10 to 20 times as long
DEADLINE_S = {"test": 1800, "demo": 1800, "run": 600, "shell": 0}


def say(text):
    print(f"==> {text}", flush=True)


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "petri")


def check_machine():
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    if absent:
        raise VmError(f"missing programs: {', '.join(absent)}; ./dev test-vm installs them")
    if os.geteuid() != 0:
        raise VmError("the VM reads the host's root over virtiofs, as root: run it through ./dev, or sudo")


def test_job(build, regex):
    report = os.path.join(build, "tests.xml")
    suite = ["/usr/bin/python3", "-B", os.path.join(HERE, "suite.py"), build, report]
    suite += ["--only", regex] if regex else ["--without", HOST_ONLY]
    # The last report of the host is beneath the VM's overlay: a run that writes none must not be taken for it.
    return {"JUNIT": report, "COMMAND": ["/bin/bash", "-c", 'rm -f "$1" && shift && exec "$@"', "test", report, *suite]}


def demo_job(build, arguments):
    petri = os.path.join(build, "executor", "petri")
    return {"COMMAND": ["/usr/bin/python3", "-B", os.path.join(ROOT, "tests/demo/demo.py"), petri, *arguments]}


def the_job(options):
    if options.kind == "test":
        job = test_job(options.build, options.rest[0] if options.rest else "")
    elif options.kind == "demo":
        job = demo_job(options.build, options.rest)
    elif options.kind == "run":
        job = {"COMMAND": options.rest}
    else:
        size = shutil.get_terminal_size()
        job = {"ROWS": size.lines, "COLUMNS": size.columns, "GUEST_TERM": os.environ.get("TERM", "linux")}
    return {"KIND": options.kind, "REPO": ROOT, "PETRI_TEST_SCALE": SCALE, "PETRI_STATE": "/var/lib/petri",
            "XDG_CACHE_HOME": os.path.dirname(cache_dir()), **job}


def conclude(options, report, code):
    """The same end as of ./dev test, and skips only where allowed-skips.txt has them."""
    if not report:
        return code or FAILED
    with tempfile.NamedTemporaryFile(prefix="petri-vm-", suffix=".xml") as f:
        f.write(report)
        f.flush()
        shown = subprocess.run([sys.executable, "-B", os.path.join(ROOT, "cmake/test_summary.py"), f.name], check=False)
        skips = subprocess.run([sys.executable, "-B", os.path.join(HERE, "skips.py"), f.name,
                                os.path.join(HERE, "allowed-skips.txt"), options.kernel], check=False)
    return code or shown.returncode or skips.returncode


def run(options):
    check_machine()
    cache = os.path.join(cache_dir(), "vm")
    chosen = kernel.fetch(options.kernel, cache, say)
    with tempfile.TemporaryDirectory(prefix="petri-vm-") as tmp:
        initramfs.build(chosen, tmp)
    deadline_s = float(os.environ.get("PETRI_VM_DEADLINE") or DEADLINE_S[options.kind])
    with Machine(chosen, deadline_s) as vm:
        say(f"VM: kernel {chosen.release}, {vm.accelerator}" + (f", at most {deadline_s:.0f} s" if deadline_s else ""))
        code = vm.run({**the_job(options), "MODULES": chosen.modules}, interactive=options.kind == "shell")
        report = vm.report
    return conclude(options, report, code) if options.kind == "test" else code


def parse(argv):
    parser = argparse.ArgumentParser(prog="vm.py", description="petri's first-class host, in a VM")
    parser.add_argument("kind", choices=tuple(DEADLINE_S))
    parser.add_argument("--kernel", default="6.1", choices=tuple(kernel.VERSIONS))
    parser.add_argument("--build", default=os.path.join(ROOT, "build/release"), type=os.path.abspath)
    parser.add_argument("rest", nargs="*")
    options = parser.parse_intermixed_args(argv)
    if options.rest[:1] == ["--"]:
        options.rest = options.rest[1:]
    most = {"test": 1, "shell": 0}.get(options.kind)
    if most is not None and len(options.rest) > most:
        parser.error(f"too many arguments for {options.kind}: {' '.join(options.rest)}")
    if options.kind == "run" and not options.rest:
        parser.error("run needs a command")
    return options


def interrupt(signum, frame):
    raise KeyboardInterrupt


def main():
    options = parse(sys.argv[1:])
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, interrupt)
    terminal = termios.tcgetattr(0) if options.kind == "shell" and os.isatty(0) else None
    try:
        return run(options)
    except KeyboardInterrupt:
        print("vm: interrupted", file=sys.stderr)
        return 130
    except (VmError, OSError, subprocess.CalledProcessError) as e:
        print(f"vm: {e}", file=sys.stderr)
        return FAILED
    finally:
        if terminal:
            termios.tcsetattr(0, termios.TCSADRAIN, terminal)  # QEMU had it in raw mode


if __name__ == "__main__":
    sys.exit(main())
