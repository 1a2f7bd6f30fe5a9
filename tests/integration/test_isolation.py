"""What a job can see: its own processes, its own files, nothing of the machine, nothing of another job."""
import json
import os
import pty
import signal
import subprocess
import time

from lib import main

PYTHON = "/usr/bin/python3"
PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs")
MIB = 1 << 20


def python(t, code, *flags, **kwargs):
    return t.petri.run(*flags, "--", PYTHON, "-c", code, **kwargs)


def tried(t, run):
    """The last line of stdout is JSON: what the job found."""
    t.equal(run.status, "exited", run)
    t.equal(run.result["exit_code"], 0, run)
    return json.loads(run.out.splitlines()[-1])


# Beginning of a probe: attempt(function, …) is the error's name, or "ok".
PROBE = """
import errno, json, os, stat, sys
def attempt(f, *args):
    try:
        f(*args)
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]
"""


def read_of(path):
    return f"attempt(lambda: open({path!r}, 'rb').read(1))"


# ---- processes ----

def test_sees_own_processes_only(t):
    run = t.petri.sh("sleep 5 & ls /proc | grep -E '^[0-9]+$' | sort -n | head -50; ps ax -o pid= | wc -l")
    pids = [int(x) for x in run.out.split()]
    t.check(pids[0] == 1 and max(pids) < 20 and len(pids) <= 9, run)


def test_cannot_reach_host_processes(t):
    victim = subprocess.Popen(["sleep", "60"])
    t.defer(lambda: (victim.kill(), victim.wait()))
    code = PROBE + f"""
print(json.dumps([attempt(os.kill, p, 0) for p in ({victim.pid}, {os.getpid()}, 99999)] + [
    os.path.exists(f"/proc/{victim.pid}"), attempt(os.kill, -1, 0) in ("ok", "ESRCH", "EPERM")]))"""
    t.equal(tried(t, python(t, code)), ["ESRCH", "ESRCH", "ESRCH", False, True])
    t.petri.run("--", PYTHON, "-c", "import os, signal; os.kill(-1, signal.SIGKILL)")
    t.equal(victim.poll(), None)


def test_init_is_out_of_reach(t):
    """petri's own process in the sandbox: no memory, no descriptors, no paths of it, by no way."""
    reads = ["mem", "environ", "maps", "smaps", "auxv", "stack", "syscall", "io", "pagemap", "root/etc/passwd",
             "cwd/etc/passwd", "exe", "task/1/mem", "task/1/maps", "personality"]
    code = PROBE + f"""
found = {{}}
for name in {reads!r}:
    found[name] = attempt(lambda: open("/proc/1/" + name, "rb").read(1))
for name in ("fd", "fdinfo", "map_files", "task/1/fd", "root", "cwd"):
    found["ls " + name] = attempt(os.listdir, "/proc/1/" + name)
for name in ("exe", "root", "cwd", "ns/mnt", "ns/user", "ns/pid"):
    found["link " + name] = attempt(os.readlink, "/proc/1/" + name)
found["kill"] = attempt(os.kill, 1, 9)
found["affinity"] = attempt(os.sched_setaffinity, 1, {{0}})
found["priority"] = attempt(os.setpriority, os.PRIO_PROCESS, 1, 19)
print(json.dumps(found))"""
    for policy in ("judge", "default"):
        found = tried(t, python(t, code, "--policy", policy))
        t.equal({k: v for k, v in found.items() if v not in ("EACCES", "EPERM")}, {}, found)


def test_ids(t):
    code = """
import json, os
status = dict(x.split(":", 1) for x in open("/proc/self/status").read().splitlines())
caps = [status["Cap" + x].strip() for x in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
maps = [open("/proc/self/" + x + "_map").read().split()[0::2] for x in ("uid", "gid")]
print(json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), caps, status["NoNewPrivs"].strip(), maps,
    open("/proc/self/setgroups").read().strip()]))"""
    uids, gids, groups, caps, no_new_privs, maps, _ = tried(t, python(t, code))
    t.check(len(set(uids)) == 1 and uids[0] > 0 and len(set(gids)) == 1 and gids[0] > 0 and 0 not in groups,
            (uids, gids, groups))
    t.equal((caps, no_new_privs), (["0" * 16] * 5, "1"))
    t.equal(maps, [["0", "65536"]] * 2)


def test_host_ids_are_private(t):
    """Outside, a job is a user that nobody else is, and not root."""
    job = subprocess.Popen([t.petri.binary, "run", "--", "/bin/sleep", "20"], env=t.petri.env(),
                           stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    t.defer(lambda: (job.terminate(), job.wait()))
    found = []

    def look():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    if f.read() == b"/bin/sleep\x0020\0":
                        found.append(os.stat(f"/proc/{pid}").st_uid)
            except OSError:
                pass
        return found
    t.eventually(look, "the job runs", 10)
    t.check(all(0x70000000 <= uid <= 0x7FFE0000 for uid in found), found)


def test_what_the_kernel_counts_by_user(t):
    """One job takes all that a user may have of inotify instances, signals, timers and queues: another job, and root on the host, miss
    nothing. Without clone_as() in pool/room.c the second job and root got "0 0 0 0"; so would every other process of root's."""
    with open(os.path.join(PROGRAMS, "counts.c"), encoding="utf-8") as f:
        counts = t.compile(f.read(), "counts", "-static", "-Wall")
    alone = subprocess.run([counts], stdout=subprocess.PIPE, check=True).stdout.split()
    flags = ("--policy", "default", "--open-files", "1024", "--wall", "60s", "--cpu", "30s", "--file", f"/work/counts={counts}", "--")
    hog = subprocess.Popen([t.petri.binary, "run", *flags, "/work/counts", "hold"], env=t.petri.env(), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    t.defer(lambda: (hog.terminate(), hog.wait(), hog.stdout.close()))
    taken = [int(x) for x in hog.stdout.readline().split()]
    t.check(len(taken) == 4 and all(taken) and taken[1] >= 1000, f"the first takes all it gets: {taken}")
    run = t.petri.run(*flags, "/work/counts")
    t.equal(hog.poll(), None, "the first still holds them")
    t.equal(run.out.split(), ["4", "4", "4", "1"], run)
    beside = subprocess.run([counts], stdout=subprocess.PIPE, check=True).stdout.split()
    t.equal(beside, alone, "root on the host")


# ---- files ----

def test_root_directory(t):
    run = t.petri.sh("ls -A /; ls -A /home /run /mnt /media /srv /opt /boot /sys 2>/dev/null")
    allowed = {"bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "tmp",
               "usr", "var",
               "work", "/home:", "/run:"}
    t.equal(set(run.out.split()) - allowed, set(), run)


def test_no_host_files(t):
    secret = t.write("secret", "the host's")
    paths = [secret, t.tmp, t.state, "/var/lib/petri", "/var/lib/dpkg", "/etc/shadow", "/etc/gshadow",
             "/etc/machine-id", "/etc/ssh",
             "/run/docker.sock", "/var/run/docker.sock", "/run/petri", "/sys/fs/cgroup", "/sys/kernel", "/boot",
             "/dev/vda", "/dev/sda",
             "/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/net/tun",
             "/dev/loop0",
             "/dev/mqueue", "/dev/hugepages", "/root/.ssh", "/root/.bashrc",
             "/lib/modules/.."] + ["/home/" + x for x in os.listdir("/home")]
    code = PROBE + f"print(json.dumps([p for p in {paths!r} if os.path.lexists(p) and p != '/lib/modules/..']" \
        + " + [x for x in ('/root',) if attempt(os.listdir, x) == 'ok']))"
    t.equal(tried(t, python(t, code)), [])
    with open("/etc/passwd", encoding="utf-8") as f:
        t.check(f.read() != t.petri.sh("cat /etc/passwd").out)


def test_nothing_outside_work_and_tmp_is_writable(t):
    code = PROBE + r"""
found = []
for top in ("/", "/usr", "/etc", "/dev", "/var", "/root", "/home", "/run", "/usr/bin", "/usr/lib"):
    path = top.rstrip("/") + "/petri-was-here"
    for what, f in (("mkdir", lambda: os.mkdir(path)), ("link", lambda: os.symlink("x", path)),
                    ("create", lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY))),
                    ("chmod", lambda: os.chmod(top, 0o777)), ("utime", lambda: os.utime(top))):
        if attempt(f) == "ok":
            found.append(what + " " + top)
for path in ("/usr/bin/env", "/etc/passwd", "/bin", "/dev/null"):
    for what, f in (("write", lambda: os.close(os.open(path, os.O_WRONLY)) if path != "/dev/null" else os.unlink(path)),
                    ("unlink", lambda: os.unlink(path)), ("rename", lambda: os.rename(path, "/work/x")),
                    ("chmod", lambda: os.chmod(path, 0o777)),
                    ("hard link", lambda: os.link(path, "/work/l"))):
        if attempt(f) == "ok":
            found.append(what + " " + path)
print(json.dumps(found))"""
    t.equal(tried(t, python(t, code)), [])


def test_proc_is_not_writable(t):
    """No file of /proc, /proc/sys above all, opens for writing."""
    code = PROBE + r"""
opened, seen = [], 0
for top, dirs, files in os.walk("/proc"):
    if top == "/proc":
        dirs[:] = [d for d in dirs if not d.isdigit() or d in ("1", str(os.getpid()))]
    dirs[:] = [d for d in dirs if d not in ("fd", "fdinfo", "task", "map_files", "cwd", "root", "self", "thread-self")]
    for name in files:
        path, seen = os.path.join(top, name), seen + 1
        if not os.path.islink(path) and not stat.S_ISCHR(os.stat(path).st_mode) and attempt(
                lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))) == "ok":
            opened.append(path)
print(json.dumps([opened, seen > 500]))"""
    t.equal(tried(t, python(t, code, "--cpu", "20s")), [[], True])


def test_masked_paths(t):
    """What tells about the machine's kernel: absent, refused or empty."""
    names = ["kcore", "keys", "key-users", "latency_stats", "timer_list", "timer_stats", "sched_debug", "interrupts", "locks",
             "sysrq-trigger",
             "kallsyms", "kpagecount", "kpageflags", "kpagecgroup", "vmallocinfo", "kmsg", "slabinfo"]
    code = PROBE + f"""
found = []
for name in {names!r}:
    try:
        if os.read(os.open("/proc/" + name, os.O_RDONLY | os.O_NONBLOCK), 1):
            found.append(name)
    except OSError:
        pass
for name in ("acpi", "asound", "scsi", "driver"):
    if os.path.exists("/proc/" + name) and os.listdir("/proc/" + name):
        found.append(name)
print(json.dumps(found))"""
    t.equal(tried(t, python(t, code)), [])


def test_devices(t):
    code = PROBE + r"""
found = {}
for name in os.listdir("/dev"):
    st = os.lstat("/dev/" + name)
    found[name] = os.readlink("/dev/" + name) if stat.S_ISLNK(st.st_mode) else "dir" if stat.S_ISDIR(st.st_mode) else \
        [os.major(st.st_rdev), os.minor(st.st_rdev)] if stat.S_ISCHR(st.st_mode) else "?"
print(json.dumps(found))"""
    t.equal(tried(t, python(t, code)), {
        "null": [1, 3], "zero": [1, 5], "full": [1, 7], "random": [1, 8], "urandom": [1, 9], "shm": "dir",
        "fd": "/proc/self/fd",
        "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"})
    run = t.petri.sh("echo x >/dev/null; head -c 4 /dev/zero | od -An -tx1; head -c 9 /dev/urandom | wc -c; "
                     "echo x >/dev/full || echo full; "
                     "echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin", stdin="in\n")
    t.equal(run.out, " 00 00 00 00\n9\nfull\nout\nin\n", run)


def test_special_files(t):
    """FIFOs work (programs use them); a device cannot be made, under either policy."""
    code = PROBE + r"""
os.mkfifo("/work/fifo")
kinds = (stat.S_IFCHR, stat.S_IFBLK)
print(json.dumps([attempt(os.mknod, "/work/" + str(k), k | 0o666, os.makedev(1, 3)) for k in kinds]))"""
    for policy in ("judge", "default"):
        t.equal(tried(t, python(t, code, "--policy", policy)), ["EPERM", "EPERM"])


def test_setuid_programs_give_nothing(t):
    with open(os.path.join(PROGRAMS, "ids.c"), encoding="utf-8") as f:
        program = t.compile(f.read(), "ids", "-static", "-Wall")
    image = t.path("image")
    os.mkdir(image)
    os.link(program, os.path.join(image, "ids"))
    os.chmod(program, 0o6755)
    t.equal(t.petri.call("image", "import", "setuid", image).code, 0)
    for policy in ("judge", "default"):
        run = t.petri.run("--image", "setuid", "--policy", policy, "--", "/ids")
        ids, caps = run.out.splitlines()
        t.check(ids.split()[0] == ids.split()[1] != "0", run)
        t.equal(caps, "CapEff:\t" + "0" * 16, run)
    run = t.petri.sh("cp /work/ids /work/own && chmod 6755 /work/own && /work/own", "--file", f"/work/ids={program}")
    t.equal(run.out.splitlines()[1], "CapEff:\t" + "0" * 16, run)


# ---- namespaces ----

def test_hostname(t):
    run = t.petri.sh("hostname; cat /proc/sys/kernel/hostname; uname -n")
    t.equal(set(run.out.split()), {"petri"}, run)


def test_cgroup_namespace(t):
    run = t.petri.sh("cat /proc/self/cgroup /proc/1/cgroup; grep -c -- '- cgroup' /proc/self/mountinfo")
    lines = run.out.split()
    t.equal({x.rpartition(":")[2] for x in lines[:-1]}, {"/"}, run)
    t.equal(lines[-1], "0", run)


def test_namespaces_are_not_the_hosts(t):
    run = python(t,
                 "import json, os; d = '/proc/self/ns/'; print(json.dumps({n: os.readlink(d + n) for n in os.listdir(d)}))")
    inside = tried(t, run)
    shared = {n for n in os.listdir("/proc/self/ns") if os.readlink(f"/proc/self/ns/{n}") == inside[n]}
    t.equal(shared - {"time", "time_for_children"}, set(), run)


def test_descriptors(t):
    """0, 1 and 2, which are pipes of its own; whatever the caller had open stays outside."""
    outside = os.open(t.write("secret", "x"), os.O_RDONLY)
    socket_path = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    code = """
import json, os
names = os.listdir("/proc/self/fd")  # its own descriptor among them, which is closed by now
print(json.dumps([sorted(os.readlink("/proc/self/fd/" + x)[:5] for x in names if os.path.lexists("/proc/self/fd/" + x)), len(names)]))"""
    done = subprocess.run([t.petri.binary, "run", "--", PYTHON, "-c", code], pass_fds=(outside, socket_path),
                          env=t.petri.env(),
                          stdin=subprocess.DEVNULL, capture_output=True, check=False)
    t.equal(json.loads(done.stdout), [["pipe:"] * 3, 4], done)
    for fd in (outside, socket_path):
        os.close(fd)


def test_no_terminal(t):
    """Run from a terminal, the job has none: TIOCSTI and the like would type into the caller's shell."""
    master, slave = pty.openpty()
    code = "import os; print(*map(os.isatty, range(3)), open('/proc/self/stat').read().rsplit(')', 1)[1].split()[4])"
    job = subprocess.Popen([t.petri.binary, "run", "--", PYTHON, "-c", code], stdin=slave, stdout=slave, stderr=slave,
                           env=t.petri.env(),
                           start_new_session=True)
    os.close(slave)
    said = b""
    while b"status=" not in said:
        said += os.read(master, 4096)
    t.equal(job.wait(30 * t.scale), 0, said)
    os.close(master)
    t.contains(said.decode(), "False False False 0")


def test_environment(t):
    run = t.petri.run("--env", "GIVEN=1", "--", "/usr/bin/env", env={"SECRET": "password", "LD_PRELOAD": ""})
    got = dict(x.split("=", 1) for x in run.out.splitlines())
    t.equal(set(got), {"GIVEN", "PATH", "HOME"}, run)
    result = t.petri.job({"argv": ["/usr/bin/env"], "env": ["PATH=/bin", "A=B=C", "EMPTY="]})
    got = dict(x.split("=", 1) for x in result.out.splitlines())
    t.equal((got["PATH"], got["A"], got["EMPTY"]), ("/bin", "B=C", ""), result)


# ---- between jobs ----

LEAVE = r"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for path in ("/work/left", "/tmp/left", "/dev/shm/left", "/var/tmp/left"):
    open(path, "w").write("secret")
os.chmod("/work", 0o711)
os.utime("/work", (1, 1))
os.makedirs("/tmp/deep/er")
os.mkfifo("/work/fifo")
print(libc.shmget(4711, 4096, 0o1666), libc.msgget(4711, 0o1666), libc.semget(4711, 1, 0o1666), flush=True)
print(libc.mq_open(b"/petri", os.O_CREAT | os.O_RDWR, 0o666, None), flush=True)
"""
FIND = r"""
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
def error(r):
    return errno.errorcode[ctypes.get_errno()] if r < 0 else "ok"
print(json.dumps([[os.listdir(d) for d in ("/work", "/tmp", "/dev/shm", "/var/tmp")],
    [error(libc.shmget(4711, 0, 0)), error(libc.msgget(4711, 0)), error(libc.semget(4711, 0, 0)),
     error(libc.mq_open(b"/petri", os.O_RDWR))],
    [len(open("/proc/sysvipc/" + k).readlines()) for k in ("shm", "msg", "sem")],
    oct(os.stat("/work").st_mode), os.stat("/work").st_mtime > 2, sorted(os.listdir("/"))]))
"""


def test_nothing_is_left_for_the_next_job(t):
    """In the same slot of the same worker, and by a job that was killed as well as one that ended."""
    worker = t.worker(slots=1)
    first = worker.do({"id": "first", "argv": [PYTHON, "-c", FIND]})
    for number, tail in enumerate(("", "\nwhile True: pass")):
        left = worker.do({"id": f"leave-{number}", "argv": [PYTHON, "-c", LEAVE + tail], "limits": {"cpu_ms": int(300 * t.scale)}})
        t.equal(left["status"], "cpu_limit" if tail else "exited", left)
        t.check("-1" not in left["stdout"]["data"].split(), left)
        found = worker.do({"id": f"find-{number}", "argv": [PYTHON, "-c", FIND]})
        t.equal(found["stdout"]["data"], first["stdout"]["data"], found)
    found = json.loads(first["stdout"]["data"])
    t.equal(found[:3], [[[], [], [], []], ["ENOENT"] * 4, [1, 1, 1]], first)


LISTEN = r"""
import ctypes, fcntl, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
lock = open("/usr/bin/env"); fcntl.flock(lock, fcntl.LOCK_EX)
inotify = libc.inotify_init1(os.O_NONBLOCK)
assert inotify >= 0 and libc.inotify_add_watch(inotify, b"/usr/bin/env", 0x20) >= 0
s = socket.socket(socket.AF_UNIX); s.bind("\0petri-rendezvous"); s.listen()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 4711))
assert libc.shmget(4711, 4096, 0o1666) >= 0 and libc.mq_open(b"/petri", os.O_CREAT | os.O_RDWR, 0o666, None) >= 0
open("/tmp/meet", "w").close(); open("/dev/shm/meet", "w").close()
s.settimeout(float(sys.argv[1]))
try:
    s.accept(); print("met on the socket")
except OSError: pass
u.setblocking(False)
try:
    print("met by datagram", u.recv(9))
except OSError: pass
try:
    print("saw an open", os.read(inotify, 100))
except OSError: pass
print("waited")
"""
VISIT = r"""
import ctypes, errno, fcntl, os, socket, subprocess
libc = ctypes.CDLL(None, use_errno=True)
try:
    socket.socket(socket.AF_UNIX).connect("\0petri-rendezvous"); print("connected")
except OSError: pass
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 4711))
except OSError: pass
lock = open("/usr/bin/env"); fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
subprocess.run(["/usr/bin/env"], stdout=subprocess.DEVNULL)
if libc.shmget(4711, 0, 0) >= 0: print("shared memory")
if libc.mq_open(b"/petri", os.O_RDWR) >= 0: print("message queue")
if os.path.exists("/tmp/meet") or os.path.exists("/dev/shm/meet"): print("file")
if "petri-rendezvous" in open("/proc/net/unix").read(): print("seen in /proc/net/unix")
print("visited")
"""


def test_jobs_beside_each_other(t):
    """Two at once in one worker, whose policy has sockets: no way from one to the other."""
    for network in ("none", "loopback"):
        worker = t.worker(slots=2, name=network)
        one = {"id": f"listen-{network}", "policy": "default", "network": network,
               "argv": [PYTHON, "-c", LISTEN, str(1.5 * t.scale)], "limits": {"wall_ms": int(10000 * t.scale)}}
        worker.submit(one)
        time.sleep(0.5 * t.scale)
        two = worker.do({"id": f"visit-{network}", "policy": "default", "network": network,
                         "argv": [PYTHON, "-c", VISIT]})
        t.equal((two["stdout"]["data"], two["exit_code"]), ("visited\n", 0), two)
        found = worker.result(f"listen-{network}")
        t.equal((found["stdout"]["data"], found["exit_code"]), ("waited\n", 0), found)
        t.check(found["usage"]["wall_us"] > 1000000, found)
        worker.stop()


def test_signals_stay_inside(t):
    """A job that kills everything it can reach does not end its neighbour."""
    worker = t.worker(slots=2)
    worker.submit({"id": "quiet", "argv": ["/bin/sleep", "1"]})
    killer = worker.do({"id": "killer",
                        "argv": [PYTHON, "-c",
                                 f"import os\nfor s in (15, {int(signal.SIGKILL)}): os.kill(-1, s)\nprint('on')"]})
    t.equal(killer["status"], "exited", killer)
    quiet = worker.result("quiet")
    t.equal((quiet["status"], quiet["exit_code"]), ("exited", 0), quiet)


if __name__ == "__main__":
    main(globals())
