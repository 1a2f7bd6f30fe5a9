"""The programs of tests/integration/programs in a job, and how a job ended."""
import os

PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs")
EXIT = {"cpu_limit": 124, "wall_limit": 124, "memory_limit": 137, "output_limit": 153, "disk_limit": 122}


def program(t, name):
    """Build tests/integration/programs/NAME.c; returns the flags that put it at /work/NAME."""
    with open(os.path.join(PROGRAMS, name + ".c"), encoding="utf-8") as f:
        return "--file", f"/work/{name}=" + t.compile(f.read(), name, "-Wall", "-Wextra", "-Werror", "-pthread")


def ended(t, run, status):
    t.equal(run.status, status, run)
    t.equal(run.code, EXIT[status], run)
    t.equal((run.result["exit_code"], run.result["signal"]), (None, None), run)


def exited(t, run, code=0):
    t.equal(run.status, "exited", run)
    t.equal(run.result["exit_code"], code, run)


def cpu_ms(run):
    return (run.result["usage"]["cpu_user_us"] + run.result["usage"]["cpu_system_us"]) / 1000
