"""A core_pattern that is a pipe: the kernel starts its handler, as root and outside of any sandbox, on the memory of whoever dumps core.
The pattern is the machine's: only where the machine is the test's own, in the VM of `./dev test-vm`."""
import os
import signal
import subprocess

from lib import main
from test_v2 import first_class

PATTERN = "/proc/sys/kernel/core_pattern"
CRASH = "ulimit -c unlimited 2>/dev/null; kill -{} $$"


def pipe_to_handler(t):
    """Return: what tells how often it was started."""
    seen, handler = t.path("seen"), t.path("handler")
    with open(handler, "w", encoding="ascii") as f:
        f.write(f"#!/bin/sh\necho \"$1\" >>{seen}\ncat >/dev/null\n")
    os.chmod(handler, 0o755)
    with open(PATTERN, encoding="ascii") as f:
        before = f.read()

    def put(text):
        with open(PATTERN, "w", encoding="ascii") as f:
            f.write(text)
    t.defer(lambda: put(before))
    put(f"|{handler} %s")

    def count():
        try:
            with open(seen, encoding="ascii") as f:
                return len(f.readlines())
        except FileNotFoundError:
            return 0
    return count


# Without the RLIMIT_CORE of 1 in launch_common_limits(): "got 15, wanted 1", a start of the handler for every job.
def test_no_job_reaches_a_handler(t):
    first_class(t)
    count = pipe_to_handler(t)
    subprocess.run(["/bin/sh", "-c", CRASH.format("SEGV")], check=False)
    t.eventually(lambda: count() == 1, "the handler works: it got an ordinary process of the machine's", 10)
    for policy in ("judge", "default"):
        for name in ("SEGV", "ABRT", "QUIT", "BUS", "FPE", "XCPU", "TRAP"):
            run = t.petri.sh(CRASH.format(name), "--policy", policy)
            t.equal((run.status, run.result["signal"]), ("signaled", getattr(signal, "SIG" + name)), run)
    run = t.petri.sh("unshare -U true", "--policy", "judge")  # SIGSYS dumps core as well
    t.equal(run.status, "violation", run)
    # The kernel waits for a handler before the process that dumps is dead, so none is still to come.
    t.equal(count(), 1)


if __name__ == "__main__":
    main(globals())
