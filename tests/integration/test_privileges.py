"""What each process may do, as the kernel tells it in /proc, against the table of docs/security.md: the two say the same, or this fails."""
import ctypes
import json
import os
import re
import socket
import stat

from lib import main

HERE = os.path.dirname(os.path.abspath(__file__))
DOCUMENT = os.path.join(HERE, "..", "..", "docs", "security.md")
NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST "
    "NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
    "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM "
    "BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE").split()
ALL = sum(1 << i for i in range(len(CAPABILITIES)))
STORE_WORKER_UID = 0x7ffd0000
SLOTS_UID = 0x70010000


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def capabilities(bits):
    value = int(bits, 16)
    return "all" if value == ALL else " ".join(sorted(c for i, c in enumerate(CAPABILITIES) if value >> i & 1)) or "none"


def user(uids):
    numbers = {int(x) for x in uids.split()}
    if len(numbers) != 1:
        return "several"
    uid = numbers.pop()
    if uid == STORE_WORKER_UID:
        return "worker"
    return "root" if uid == 0 else {0: "slot's 0", 1000: "slot's 1000"}.get((uid - SLOTS_UID) % 65536, str(uid))


def own_namespaces(pid):
    """Those that are not the machine's (this test's)."""
    own = [n for n in NAMESPACES if os.readlink(f"/proc/{pid}/ns/{n}") != os.readlink(f"/proc/self/ns/{n}")]
    return " ".join(own) or "none"


def kind_of(pid, fd):
    path = f"/proc/{pid}/fd/{fd}"
    try:
        to = os.readlink(path)
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if to.startswith("anon_inode:"):
        return to[len("anon_inode:"):].strip("[]").replace(" ", "-")
    if to.startswith("/memfd:"):
        return "memfd"
    if to.startswith(("mnt:", "net:", "user:")):
        return "namespace"
    if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
        return "socket" if stat.S_ISSOCK(mode) else "pipe"
    if stat.S_ISCHR(mode):
        return "device"
    # A mount of its own, without a path here, shows as "/": what matters is whether the machine's cgroups are reached.
    group = "/cgroup/" in to or "slot-" in to or "/petri" in to and "cgroup" in to
    return "cgroup" if group else "directory" if stat.S_ISDIR(mode) else "file"


def kinds(pid):
    found = {kind_of(pid, fd) for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2}
    return " ".join(sorted(found - {None})) or "none"


def describe(pid):
    s = status(pid)
    dumpable = os.stat(f"/proc/{pid}/fd").st_uid == int(s["Uid"].split()[0])
    return {
        "user": user(s["Uid"]) if s["Uid"] == s["Gid"] else "several",
        "groups": s["Groups"].strip() or "none",
        "capabilities": capabilities(s["CapEff"]) if s["CapEff"] == s["CapPrm"] and int(s["CapInh"], 16) == int(s["CapAmb"], 16) == 0 else "odd",
        "bounding set": capabilities(s["CapBnd"]),
        "no_new_privs": "yes" if s["NoNewPrivs"] == "1" else "no",
        "seccomp filters": s["Seccomp_filters"] if s["Seccomp"] in ("0", "2") else "strict",
        "dumpable": "root's" if user(s["Uid"]) == "root" else "yes" if dumpable else "no",
        "namespaces": own_namespaces(pid),
        "open": kinds(pid),
    }


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def parent(pid):
    try:
        return int(status(pid)["PPid"])
    except OSError:
        return 0


def find_roles(worker):
    """{role: pid}, of one slot; told by name and by place in the tree."""
    pids = [p for p in worker.pids() if os.path.exists(f"/proc/{p}/status")]
    named = {p: status(p)["Name"] for p in pids}
    roles = {"supervisor": worker.process.pid}
    for pid, name in named.items():
        if name in ("petri-worker", "petri-nursery", "petri-keeper"):
            roles[name[len("petri-"):]] = pid
    for pid, name in named.items():
        if name == "petri-room" and named.get(parent(pid)) == "petri-nursery":
            roles["room"] = pid
    for pid in named:
        if parent(pid) == roles.get("room"):
            roles["init"] = pid
    for pid in named:
        if parent(pid) == roles.get("init"):
            roles["job" if named[pid] == "sleep" else "child"] = pid
    return roles


def table():
    """{process: {column: value}} of the document."""
    with open(DOCUMENT, encoding="utf-8") as f:
        text = f.read()
    lines = re.search(r"<!-- rights: .*?-->\n\n((?:\|.*\n)+)", text).group(1).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(rows[0][1:], row[1:])) for row in rows[2:]}


def compare(t, written, role, pid):
    found = describe(pid)
    print(f"{role}: " + "; ".join(f"{k} {v}" for k, v in found.items()))
    for column, value in written[role].items():
        wanted = value.replace("`", "")
        got = found[column]
        if column == "groups":
            continue
        if column == "open":
            extra = set(got.split()) - set(wanted.split()) - {"none"}
            t.check(not extra, f"{role}: has open what the document does not list: {' '.join(sorted(extra))}")
        else:
            normal = " ".join(sorted(wanted.split())) if column in ("capabilities", "bounding set") else wanted
            t.equal(got, normal, f"{role}: {column}")
    t.equal(found["groups"], "none" if role not in ("supervisor", "nursery", "keeper") else found["groups"], f"{role}: groups")


def test_table(t):
    """Controls: without sys_bound_caps() in the nursery "nursery: bounding set: got 'CHOWN …', wanted 'none'"; with NET_ADMIN kept there
    "nursery: capabilities: got '… NET_ADMIN …'"; without confine_calls() "worker: seccomp filters: got '0', wanted '1'"."""
    written = table()
    worker = t.worker("--metrics", f"127.0.0.1:{free_port()}", slots=1)
    t.eventually(lambda: "child" in find_roles(worker), "a zygote waits", 20)
    roles = find_roles(worker)
    for role in ("supervisor", "worker", "nursery", "room", "init", "child"):
        compare(t, written, role, roles[role])
    if "keeper" in roles:  # hybrid hosts
        compare(t, written, "keeper", roles["keeper"])
    job = worker.submit({"id": "j", "argv": ["/bin/sleep", "3"]})
    t.eventually(lambda: "job" in find_roles(worker), "the job runs", 20)
    compare(t, written, "job", find_roles(worker)["job"])
    t.equal(worker.result(job)["status"], "exited")


def cookie(pid):
    """prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, pid, PR_SCHED_CORE_SCOPE_THREAD). Return: the cookie, or -errno."""
    libc, value = ctypes.CDLL(None, use_errno=True), ctypes.c_ulong()
    return value.value if libc.prctl(62, 0, pid, 0, ctypes.byref(value)) == 0 else -ctypes.get_errno()


def test_core_scheduling(t):
    """Control: without make_cookie() in pool/zygote.c, where the kernel has it: "got 1, wanted 2" (cookies of two jobs: only 0)."""
    if cookie(0) < 0:
        run = t.petri.run("--core-sched", "require", "--", "/bin/true")
        t.equal((run.code, run.result), (125, None), run)
        t.contains(run.err, "core scheduling is not")
        t.equal(t.petri.run("--core-sched", "try", "--", "/bin/true").status, "exited")
        t.equal(t.petri.call("run", "--core-sched", "maybe", "--", "/bin/true").code, 125)
        return
    worker = t.worker("--core-sched", "require")
    jobs = [worker.submit({"id": f"j{i}", "argv": ["/bin/sh", "-c", "sleep 3"]}) for i in range(2)]

    def sleepers():
        return [p for p in worker.pids() if os.path.exists(f"/proc/{p}") and status(p)["Name"] == "sleep"]

    t.eventually(lambda: len(sleepers()) == 2, "both jobs run", 20)
    cookies = {cookie(p) for p in sleepers()}
    t.check(all(c > 0 for c in cookies), cookies)
    t.equal(len(cookies), 2)
    t.check(cookie(worker.process.pid) == 0, "petri itself has one")
    t.equal([worker.result(j)["status"] for j in jobs], ["exited"] * 2)


def test_redis_by_name(t):
    """A confined worker looks the name up again whenever it connects, with all that this reads. Control: without the rules of
    add_name_service() in executor/landlock.c "no heartbeat after 20 s"."""
    port = free_port()
    redis = t.new_redis("--port", str(port))
    worker = t.worker("--redis", f"redis://localhost:{port}", redis=redis)
    t.equal(worker.do({"id": "a", "argv": ["/bin/true"]})["status"], "exited")
    redis.kill()
    redis.start(30 * t.scale)
    worker.client = redis.client()
    t.equal(worker.do({"id": "b", "argv": ["/bin/true"]})["status"], "exited")


def test_doctor(t):
    """Weaknesses do not make a host unfit; each says what it means and what to do. The parsing has unit tests."""
    run = t.petri.call("doctor", "--json")
    t.equal(run.code, 0, run)
    said = json.loads(run.out)
    t.equal(said["core_sched"]["available"], cookie(0) >= 0)
    for weakness in said["weaknesses"]:
        t.check(weakness["name"] and weakness["found"] and weakness["means"] and weakness["do"], weakness)
    text = t.petri.call("doctor").out
    t.check("Landlock" in text and "core-sched" in text, text)


if __name__ == "__main__":
    main(globals())
