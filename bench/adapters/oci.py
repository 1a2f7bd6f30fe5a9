"""A bundle for crun and runc with petri's default isolation and limits: what `petri run` would give the same program."""
import json
import os
import shutil
import subprocess
import sys

MIB = 1 << 20
NAMESPACES = ("pid", "ipc", "uts", "mount", "network", "cgroup", "user")
HIDDEN = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"]
FIRST_ID = 0x6F000000  # any range that nobody uses; petri's begins above


def seccomp(path):
    """petri's policy in the runtime's form. What petri makes a violation is refused there: a runtime has no such verdict."""
    with open(path, encoding="utf-8") as f:
        policy = json.load(f)
    # With libseccomp a rule without conditions takes the place of those with them. So a refusal yields to what is allowed on
    # conditions: the rest then falls to the default, which is a refusal too.
    sometimes = {name for rule in policy["syscalls"] if rule.get("args") and rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    rules = []
    for rule in policy["syscalls"]:
        allow = rule["action"] == "SCMP_ACT_ALLOW"
        names = rule["names"] if allow or rule.get("args") else [name for name in rule["names"] if name not in sometimes]
        if not names:
            continue
        kept = {"names": names, "action": "SCMP_ACT_ALLOW" if allow else "SCMP_ACT_ERRNO"}
        if rule.get("args"):
            kept["args"] = rule["args"]
        if not allow:
            kept["errnoRet"] = rule.get("errnoRet", 1)
        rules.append(kept)
    # The runtime needs these between its filter and the program's exec.
    rules.append({"names": ["capset", "prctl", "setgroups", "setgid", "setuid", "setresuid", "setresgid"], "action": "SCMP_ACT_ALLOW"})
    return {"defaultAction": policy["defaultAction"], "defaultErrnoRet": policy.get("defaultErrnoRet", 38),
            "architectures": ["SCMP_ARCH_X86_64" if os.uname().machine == "x86_64" else "SCMP_ARCH_AARCH64"],
            "syscalls": rules}


def config(rootfs, program, policy):
    def tmpfs(where, *options):
        return {"destination": where, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", *options]}
    mapping = [{"containerID": 0, "hostID": FIRST_ID, "size": 65536}]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": rootfs, "readonly": True},
        "hostname": "petri",
        "process": {
            "terminal": False, "user": {"uid": 1000, "gid": 1000}, "args": program, "cwd": "/work",
            "env": ["PATH=/usr/bin:/bin", "HOME=/work"], "noNewPrivileges": True,
            "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            "rlimits": [{"type": f"RLIMIT_{name}", "hard": value, "soft": value} for name, value in
                        (("CPU", 2), ("NOFILE", 256), ("STACK", 64 * MIB), ("CORE", 1), ("MEMLOCK", 65536))]},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            tmpfs("/dev", "mode=755", "size=65536k"),
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro", "nosuid", "nodev"]},
            tmpfs("/work", "size=64m", "nr_inodes=10000", "uid=1000", "gid=1000"),
            tmpfs("/tmp", "size=64m", "nr_inodes=10000", "mode=1777"),
            tmpfs("/dev/shm", "size=64m", "mode=1777")],
        "linux": {
            "namespaces": [{"type": name} for name in NAMESPACES], "uidMappings": mapping, "gidMappings": mapping,
            "maskedPaths": HIDDEN, "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"],
            "seccomp": seccomp(policy),
            "resources": {"memory": {"limit": 256 * MIB, "swap": 256 * MIB}, "pids": {"limit": 64},
                          "cpu": {"quota": 100000, "period": 100000}}}}


def shown(whole):
    """What the report shows of it: without the policy's rules, which policies/ has."""
    linux = dict(whole["linux"], seccomp=dict(whole["linux"]["seccomp"], syscalls="policies/judge.json"))
    return dict(whole, linux=linux)


def run(argv):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


def check(name):
    if os.geteuid() != 0:
        sys.exit(say("needs root"))
    if not shutil.which(name):
        sys.exit(say(f"{name} is not installed"))
    if not os.path.exists(os.environ.get("PETRI_BENCH_POLICY", "")):
        sys.exit(say("PETRI_BENCH_POLICY does not name a seccomp profile"))


def around(name):
    """crun refuses hybrid hosts (v1 controllers beside a v2 tree). In a mount namespace of its own without the v2 tree it takes
    them for v1 ones; that is made once, before anything is timed."""
    if name != "crun" or not os.path.ismount("/sys/fs/cgroup/unified"):
        return []
    return ["unshare", "--mount", "sh", "-c", 'umount -l /sys/fs/cgroup/unified && exec "$@"', "sh"]


def start(name, options, directory, rootfs, program):
    bundle, state = os.path.join(directory, "bundle"), os.path.join(directory, "state")
    os.mkdir(bundle)
    whole = config(rootfs, program, os.environ["PETRI_BENCH_POLICY"])
    with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as f:
        json.dump(whole, f)
    print(json.dumps({
        "argv": [name, "--root", state, *options, "run", "--bundle", bundle, "{id}"], "complete": True, "around": around(name),
        "title": " ".join(run([name, "--version"]).stdout.split()[:3]).replace(" version", ""),
        "covers": "all namespaces with a user namespace, read-only root, tmpfs /work and /tmp, petri's seccomp policy, no capabilities, "
                  "cgroup limits for memory, pids and CPU, rlimits (CPU time of each process)",
        "config": shown(whole),
        "lacks": "a CPU-time limit of the whole job, wall-clock limit, disk quota, output cap, usage report"}))


def stop(name, directory):
    state = os.path.join(directory, "state")
    for container in os.listdir(state) if os.path.isdir(state) else []:
        run([*around(name), name, "--root", state, "delete", "--force", container])
    shutil.rmtree(os.path.join(directory, "bundle"), ignore_errors=True)
    shutil.rmtree(state, ignore_errors=True)


def say(text):
    print(text)
    return 1


def main(name, options=()):
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb == "check":
        check(name)
    elif verb == "start" and len(sys.argv) > 4:
        start(name, options, sys.argv[2], sys.argv[3], sys.argv[4:])
    elif verb == "stop" and len(sys.argv) == 3:
        stop(name, sys.argv[2])
    else:
        sys.exit(f"usage: {sys.argv[0]} check | start DIR ROOTFS PROGRAM [ARGUMENT…] | stop DIR")
