"""System calls that a sandbox must not have, made raw by programs/calls.c: what each policy says to each."""
import errno
import json
import os
import platform

from lib import main

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs", "calls.c")
X86 = platform.machine() == "x86_64"

# Under judge these end the job, and the result names the system call.
VIOLATIONS = {
    **{name: name for name in (
        "mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen fsmount fsconfig fspick mount_setattr "
        "ptrace process_vm_readv process_vm_writev kcmp bpf keyctl add_key request_key perf_event_open userfaultfd "
        "init_module finit_module delete_module kexec_load open_by_handle_at fanotify_init syslog reboot sethostname "
        "settimeofday clock_settime swapon acct quotactl").split()},
    "unshare_ns": "unshare", "clone_newuser": "clone", "clone_newuser_high": "clone", "clone_newns": "clone",
    "clone_newnet": "clone", "ptrace_traceme": "ptrace", "socket_udp": "socket", "socket_raw": "socket",
    "socket_netlink": "socket", "socket_packet": "socket", "socket_packet_high": "socket", "socket_alg": "socket",
    "socket_vsock": "socket",
}
if X86:
    VIOLATIONS.update(iopl="iopl", ioperm="ioperm")

# Under judge these fail, with errors that honest programs cope with.
REFUSED = {
    "clone3": errno.ENOSYS, "clone3_newuser": errno.ENOSYS, "io_uring_setup": errno.ENOSYS,
    "io_uring_enter": errno.ENOSYS,
    "io_uring_register": errno.ENOSYS, "seccomp": errno.ENOSYS, "prctl_seccomp": errno.EINVAL,
    "personality": errno.EPERM,
    "socket_unix": errno.EACCES, "socket_inet": errno.EAFNOSUPPORT, "socket_inet6": errno.EAFNOSUPPORT,
    "kill_init": errno.EPERM, "prlimit_init": errno.EPERM, "sched_setaffinity_init": errno.EPERM,
    "fssetxattr": errno.EPERM, "fssetxattr_high": errno.EPERM, "setflags": errno.EPERM, "setflags_high": errno.EPERM,
    "tiocsti": errno.EPERM, "tiocsti_high": errno.EPERM, "mknod_block": errno.EPERM, "mknod_char": errno.EPERM,
    "mknod_whiteout": errno.EPERM, "rename_whiteout": errno.EINVAL, "setxattr": errno.EOPNOTSUPP,
    "setxattr_trusted": errno.EOPNOTSUPP, "chown_root": errno.EPERM, "setuid": errno.EPERM, "setgid": errno.EPERM,
    "setgroups": errno.EPERM, "setuid_init": errno.EPERM, "nice": errno.EACCES,
}
# Other tables of system calls: the fixed filter beneath every policy has none of them.
FOREIGN = ("clone_x32", "getpid_x32", "execve_x32", "int80_getpid", "int80_mount") if X86 else ()
# A policy with sockets allows these; a private network namespace makes them harmless (test_network.py).
DEFAULT_ALLOWS = {"socket_unix", "socket_inet", "socket_inet6", "socket_udp", "socket_netlink", "setxattr"}


def calls(t):
    with open(SOURCE, encoding="utf-8") as f:
        path = t.compile(f.read(), "calls", "-Wall", "-Wextra", "-Werror")
    return "--file", f"/work/calls={path}"


def answers(t, run):
    """{name: errno, 0 for success}"""
    t.equal(run.status, "exited", run)
    pairs = (line.split() for line in run.out.splitlines())
    return {name: 0 if answer == "ok" else int(answer) for name, answer in pairs}


def test_every_call_is_tried(t):
    listed = t.petri.run(*calls(t), "--", "/work/calls", "--list").out.split()
    t.equal(sorted(set(listed) - set(VIOLATIONS) - set(REFUSED) - set(FOREIGN)), [])


def test_violations(t):
    program, wrong = calls(t), []
    for name, syscall in VIOLATIONS.items():
        run = t.petri.run(*program, "--", "/work/calls", name)
        if (run.code, run.status, run.result["violation"], run.out) != (159, "violation", {"syscall": syscall}, ""):
            wrong.append(f"{name}: {run}")
    t.equal(wrong, [])


def test_refused(t):
    run = t.petri.run(*calls(t), "--", "/work/calls", *REFUSED)
    t.equal(answers(t, run), REFUSED, run)
    t.equal(run.result["violation"], None, run)


def test_foreign_tables(t):
    if not X86:
        t.skip("x86-64; attacks/foreign_abi enters the other table of aarch64")
    program = calls(t)
    for policy in ("judge", "default"):
        run = t.petri.run(*program, "--policy", policy, "--", "/work/calls", *FOREIGN)
        t.equal(answers(t, run), dict.fromkeys(FOREIGN, errno.ENOSYS), run)


def test_default_policy(t):
    """Milder: nothing is a violation. But nothing works either."""
    names = [*VIOLATIONS, *REFUSED]
    run = t.petri.run(*calls(t), "--policy", "default", "--", "/work/calls", *names)
    got = answers(t, run)
    t.equal(set(got), set(names), run)
    t.equal({name for name in names if got[name] == 0}, DEFAULT_ALLOWS, run)
    for name in ("clone3", "io_uring_setup"):
        t.equal(got[name], errno.ENOSYS, run)


def test_violation_in_a_child(t):
    """Of a grandchild and of a thread, while the program itself waits or ends well."""
    run = t.petri.sh("(/work/calls mount; true) & wait; echo went on; sleep 5", *calls(t))
    t.equal((run.status, run.result["violation"], run.out), ("violation", {"syscall": "mount"}, ""), run)
    code = ("import ctypes, threading, time\n"
            "threading.Thread(target=lambda: ctypes.CDLL(None).unshare(0x10000000)).start(); time.sleep(5)")
    run = t.petri.run("--", "/usr/bin/python3", "-c", code)
    t.equal((run.status, run.result["violation"]), ("violation", {"syscall": "unshare"}), run)
    t.check(run.seconds < 4 * t.scale, run)


def test_first_violation_is_reported(t):
    run = t.petri.run(*calls(t), "--", "/work/calls", "ptrace", "mount")
    t.equal(run.result["violation"], {"syscall": "ptrace"}, run)


def test_filters_are_on(t):
    # The one kind of namespace that needs no capability, and with it the way to all others.
    run = t.petri.sh("grep -E '^(Seccomp|NoNewPrivs|Groups)' /proc/self/status; cat /proc/sys/user/max_user_namespaces")
    lines = run.out.split("\n")
    t.equal(dict(x.split(":", 1) for x in lines[:4])["Seccomp"].strip(), "2", run)
    t.equal(dict(x.split(":", 1) for x in lines[:4])["NoNewPrivs"].strip(), "1", run)
    t.equal({x for x in lines[4:] if x}, {"0"}, run)  # no namespaces, whatever a policy lets through


def test_allow_everything_policy(t):
    """A policy that allows all still has the fixed filter beneath it, no capabilities and no namespaces."""
    os.mkdir(t.path("policies"), 0o755)
    with open(t.path("policies/all.json"), "w", encoding="utf-8") as f:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW"}, f)
    worker = t.worker("--policies", t.path("policies"), slots=1)
    with open(calls(t)[1].partition("=")[2], "rb") as f:
        program = f.read()
    blob = t.petri.call("blob", "put", t.write("program", program)).out.strip()
    names = ["mount", "unshare", "unshare_ns", "clone_newuser", "clone_newns", "clone3_newuser", "setns", "ptrace",
             "bpf",
             "keyctl", "add_key", "io_uring_setup", "process_vm_readv", "kill_init", "open_by_handle_at", "init_module",
             "fssetxattr", "mknod_block", "setuid", "reboot", "swapon", "socket_packet", "socket_raw", *FOREIGN]
    result = worker.do({"id": "all", "policy": "all", "argv": ["/work/calls", *names],
                        "files": {"/work/calls": {"blob": blob, "mode": "0755"}}})
    t.equal(result["status"], "exited", result)
    lines = dict(x.split() for x in result["stdout"]["data"].splitlines())
    t.equal(set(lines), set(names), result)
    t.equal([name for name in names if lines[name] == "ok"], [], result)
    for name in ("bpf", "keyctl", "add_key", "io_uring_setup", "clone3_newuser"):
        t.equal(int(lines[name]), errno.ENOSYS, result)


if __name__ == "__main__":
    main(globals())
