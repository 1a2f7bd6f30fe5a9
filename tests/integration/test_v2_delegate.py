"""A group that was delegated, as systemd marks it (Delegate=yes): petri's groups are made below it, its own processes beside them."""
import os
import subprocess

from lib import SCALE, main
from lib_leaks import die_with_parent
from test_v2 import first_class

TREE = "/sys/fs/cgroup"


def make_unit(t, delegated):
    """A group like a service's, with the controllers that systemd gives it."""
    unit = os.path.join(TREE, f"petri-test-{os.getpid()}.service")
    for controller in ("cpu", "memory", "pids", "io", "cpuset"):
        with open(os.path.join(TREE, "cgroup.subtree_control"), "w", encoding="ascii") as f:
            f.write("+" + controller)
    os.mkdir(unit)
    t.defer(lambda: remove(unit) if os.path.exists(unit) else None)
    if delegated:
        os.setxattr(unit, "trusted.delegate", b"1")
    return unit


def remove(unit):
    for directory, _, _ in os.walk(unit, topdown=False):
        os.rmdir(directory)


def procs(group):
    with open(os.path.join(group, "cgroup.procs"), encoding="ascii") as f:
        return f.read().split()


def limit_of(leaf):
    with open(os.path.join(leaf, "job", "memory.max"), encoding="ascii") as f:
        text = f.read().strip()
    return int(text) if text.isdigit() else None


def run_in(t, unit, *args):
    def enter():
        die_with_parent()
        with open(os.path.join(unit, "cgroup.procs"), "w", encoding="ascii") as f:
            f.write("0")
    process = subprocess.Popen([t.petri.binary, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=t.petri.env(), preexec_fn=enter)

    def end():
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=30 * SCALE)

    t.defer(end)
    return process


def held(jobs):
    """Whether a leaf has the limit of these tests' jobs. Its zygote is in it before, and the limit is written when the job comes."""
    try:
        return any(limit_of(leaf) == 64 << 20 for leaf in leaves(jobs))
    except OSError:  # not there yet, or being made anew
        return False


def test_groups_below_the_unit(t):
    first_class(t)
    unit = make_unit(t, True)
    process = run_in(t, unit, "run", "--memory", "64M", "--", "/bin/cat")
    jobs = os.path.join(unit, "petri", "jobs")
    t.eventually(lambda: held(jobs), "the job's limit is on a leaf below the unit", 20)
    t.equal(procs(unit), [], "processes in the unit's own group")
    t.check(str(process.pid) in procs(os.path.join(unit, "self")), "the supervisor is not where petri's processes belong")
    t.check(not os.path.exists(os.path.join(TREE, "petri", "jobs")), "groups at the root of the tree")
    t.check(any(procs(os.path.join(leaf, "job")) for leaf in leaves(jobs) if limit_of(leaf) == 64 << 20), "no process under the job's limit")
    out, err = process.communicate(b"hello", 30 * SCALE)
    t.equal((process.returncode, out), (0, b"hello"), err)
    t.check(not os.path.exists(os.path.join(unit, "petri")), "petri's groups are left behind")
    # systemd removes the group of a service that has ended, and all below it, before it starts it anew.
    remove(unit)
    os.mkdir(unit)


def test_started_below_the_unit(t):
    """DelegateSubgroup=: systemd has made the group for petri's own processes."""
    first_class(t)
    unit = make_unit(t, True)
    below = os.path.join(unit, "petri-worker")
    os.mkdir(below)
    process = run_in(t, below, "run", "--memory", "64M", "--", "/bin/cat")
    jobs = os.path.join(unit, "petri", "jobs")
    t.eventually(lambda: held(jobs), "the job runs in a leaf below the unit", 20)
    t.check(str(process.pid) in procs(below), "the supervisor was moved")
    t.equal(process.communicate(b"hello", 30 * SCALE)[0], b"hello")


def leaves(jobs):
    return [os.path.join(jobs, name) for name in os.listdir(jobs) if name.startswith("slot-")]


def test_group_that_is_not_delegated(t):
    """Nothing is touched in a group that is somebody else's."""
    first_class(t)
    unit = make_unit(t, False)
    process = run_in(t, unit, "run", "--", "/bin/echo", "hi")
    t.equal(process.communicate(timeout=30 * SCALE)[0], b"hi\n")
    t.check(not os.path.exists(os.path.join(unit, "self")), "a group was made there")


def test_cpuset(t):
    """In a service's group too a job gets the CPUs that it asks for, or is refused. Without enable_cpuset(): "unsupported: cpuset needs the cpuset
    controller"; with the service on CPU 0 and no check against the worker's own CPUs: "status=exited", on CPU 0 instead of 1."""
    first_class(t)
    unit = make_unit(t, True)
    job = run_in(t, unit, "run", "--cpuset", "1", "--", "/bin/grep", "Cpus_allowed_list", "/proc/self/status")
    out, err = job.communicate(timeout=60 * SCALE)
    t.equal((job.returncode, out.split()), (0, [b"Cpus_allowed_list:", b"1"]), err)
    remove(unit)
    unit = make_unit(t, True)
    with open(os.path.join(unit, "cpuset.cpus"), "w", encoding="ascii") as f:
        f.write("0")
    job = run_in(t, unit, "run", "--cpuset", "1", "--", "/bin/true")
    t.contains(job.communicate(timeout=60 * SCALE)[1].decode(), "status=rejected field=limits.cpuset reason=unsupported")


if __name__ == "__main__":
    main(globals())
