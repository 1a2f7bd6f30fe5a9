"""Attacks on petri's own processes, and on jobs through what they have in common. See also test_network.py (the host's sockets),
test_badinput.py (hostile documents), test_runtime.py and tests/chaos."""
import json
import os
import random
import socket
import time

from lib import PREFIX, main
from lib_attacks import blob_of, built
from lib_leaks import hierarchies

PYTHON = "/usr/bin/python3"
JOB_UIDS = range(0x70010000, 0x7ffd0000)


def job(name, program, *argv, limits=None, **more):
    return {"id": name, "argv": ["/work/attack", *argv], "env": ["PATH=/bin"],
            "files": {"/work/attack": {"blob": program, "mode": "0755"}}, "limits": limits or {}, **more}


def running(t, worker, name):
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:state:{name}"), f"{name} runs", 10)


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


# ---- the environment ----

MARK = "hostile-mark"
NAMES = ("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "LD_DEBUG", "GLIBC_TUNABLES", "MALLOC_CHECK_", "MALLOC_PERTURB_", "MALLOC_TRACE",
         "PATH", "IFS", "HOME", "TMPDIR", "BASH_ENV", "ENV", "PYTHONPATH", "PETRI_STATE", "PETRI_REDIS", "PETRI_LOG", "NOTIFY_SOCKET",
         "LISTEN_FDS", "OPENSSL_CONF", "SSL_CERT_FILE", "RES_OPTIONS", "LOCPATH", "GCONV_PATH", "TZ")


def tainted(pids):
    """Which processes that are no job's have the mark in their environment or their arguments, or have mapped something of a job's."""
    found = []
    for pid in pids:
        try:
            uid = os.stat(f"/proc/{pid}").st_uid
            with open(f"/proc/{pid}/status", encoding="utf-8") as f:
                uid = int(f.read().partition("Uid:")[2].split()[0])
        except OSError:
            continue
        if uid in JOB_UIDS and uid % 65536 == 1000:
            continue
        if any(MARK.encode() in read(f"/proc/{pid}/{name}") for name in ("environ", "cmdline", "maps")):
            found.append((pid, uid, read(f"/proc/{pid}/comm")))
    return found


def test_environment_stays_in_the_job(t):
    """In none of petri's processes, from before the job runs until its outputs are stored; the job has it all.
    What could be taken out is not there: nothing of a job's is ever put into an environment. Instead, the worker started with the mark in its
    own: got [(30168, 0, b'petri'), (30315, 2147287040, b'petri-worker')], so it would be seen."""
    worker = t.worker(slots=2)
    seen = 0
    for name, more in (("plain", {}), ("layered", {"image": "host", "policy": "default"})):
        body = {"id": name, "env": [f"{key}=/work/{MARK}" for key in NAMES] + ["PATH=/usr/bin:/bin"],
                "argv": ["/bin/sh", "-c", f"env > out; cp out {MARK}; head -c 1M /dev/zero > large; sleep 0.3"],
                "collect": ["/work/out", "/work/large"], "commit": "/work", **more}
        if name == "plain":  # the dynamic linker of the job obeys; it is the job's own
            body["env"] = [x for x in body["env"] if not x.startswith(("LD_", "PATH=/work"))]
        else:
            body["env"] = [x for x in body["env"] if not x.startswith("PATH=/work")]
        worker.submit(body)
        while not worker.client("EXISTS", f"{PREFIX}:result:{name}"):
            pids = worker.pids()
            t.equal(tainted(pids), [])
            seen += len(pids)
        result = worker.result(name)
        t.check(result["status"] == "exited" and result["layer"] and len(result["files"]) == 2, result)
        out = t.petri.call("blob", "cat", result["files"]["/work/out"]["blob"]).out
        t.check(out.count(MARK) >= 15, out)
    t.equal(tainted(worker.pids()), [])
    t.check(seen > 20, f"only {seen} processes were looked at")


def test_odd_environments(t):
    """Refused by the field's name, or given as they are; the worker goes on.
    Control: check_command() without its bound and without KEY=VALUE: odd-9 is rejected for 'argv', by what packs the dispatch."""
    worker = t.worker(slots=1)
    odd = ({"env": ["=x"]}, {"env": [""]}, {"env": ["novalue"]}, {"env": ["A=1", "A=2"]}, {"env": ["A==="]}, {"env": ["\n=\n"]}, {"env": ["A=\u0000B"]},
           {"env": ["LD_PRELOAD=/work/none.so"]}, {"env": ["BIG=" + "x" * (1 << 20)]}, {"env": ["B=" + "x" * 130000] * 9},
           {"env": [f"V{i}=" for i in range(40000)]}, {"env": "A=1"}, {"env": {"A": "1"}}, {"env": [1]})
    for number, more in enumerate(odd):
        result = worker.do({"id": f"odd-{number}", "argv": ["/usr/bin/env", "-0"], **more})
        t.check(result["status"] in ("exited", "exec_failed") or (result["status"], result["field"].partition("[")[0]) == ("rejected", "env"), result)
    t.equal(worker.do({"id": "after", "argv": ["/bin/echo", "hi"]})["stdout"]["data"], "hi\n")


# ---- the worker's sockets ----

REACH = """
import errno, json, os, socket, sys
def attempt(family, address):
    try:
        s = socket.socket(family); s.settimeout(1); s.connect(address)
        s.send(b"*1\\r\\n$8\\r\\nFLUSHALL\\r\\n"); return "connected"
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))
paths, ports, hosts = json.loads(sys.argv[1])
found = {}
for p in paths:
    for prefix in ("", "/proc/1/root", "/proc/self/root", "/proc/1/cwd/../../../../..", "/../../.."):
        found[prefix + p] = attempt(socket.AF_UNIX, prefix + p)
    found["@" + p] = attempt(socket.AF_UNIX, "\\0" + p)
for h in hosts:
    for p in ports:
        found[h + " " + str(p)] = attempt(socket.AF_INET6 if ":" in h else socket.AF_INET, (h, p))
print(json.dumps({k: v for k, v in found.items() if v == "connected"}), len(found))
"""


def test_redis_is_out_of_reach(t):
    """By its unix socket and by TCP on the host's loopback, with a loopback of the job's own and without.
    Control: no CLONE_NEWNET in keeper.c, zygote.c and nursery_main.c, of which each alone is enough: {'@…redis.sock': 'connected', …}."""
    tcp = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    t.defer(tcp.close)
    abstract = socket.socket(socket.AF_UNIX)
    t.defer(abstract.close)
    abstract.bind("\0" + t.redis.socket)
    abstract.listen()
    worker = t.worker(slots=1)
    worker.client("SET", "kept", "1")
    arguments = json.dumps([[t.redis.socket, "/run/petri", "/run/redis/redis.sock"], [tcp.getsockname()[1], 6379], ["127.0.0.1", "::1", "127.0.0.2", "0.0.0.0"]])
    for network in ("none", "loopback"):
        result = worker.do({"id": network, "argv": [PYTHON, "-c", REACH, arguments], "policy": "default", "network": network})
        t.check(result["status"] == "exited" and result["stdout"]["data"].startswith("{} "), result)
    result = worker.do({"id": "judge", "argv": [PYTHON, "-c", REACH, arguments]})
    t.equal((result["status"], result["violation"]), ("violation", {"syscall": "socket"}), result)
    t.equal(worker.client("GET", "kept"), "1")


# ---- streams ----

def test_streams_that_keep_the_worker_busy(t):
    """A byte at a time on both streams, a large input that nobody reads, and a flood: the jobs beside them are as quick as ever, and each
    has its own result. Control: keep() always true, so that no cap is passed: flood is wall_limit."""
    worker = t.worker(slots=4)
    limits = {"wall_ms": int(3000 * t.scale), "cpu_ms": int(2500 * t.scale), "output_bytes": 1 << 20}
    drip = "import os, time\nfor i in range(300):\n os.write(1, b'x'); os.write(2, b'y'); time.sleep(0.002)\nos.write(1, b'end')"
    worker.submit({"id": "drip", "argv": [PYTHON, "-c", drip], "limits": {"wall_ms": 30000, "cpu_ms": 30000}})
    worker.submit({"id": "deaf", "argv": ["/bin/sleep", "1"], "stdin": {"data": "x" * (4 << 20)}})
    worker.submit({"id": "flood", "argv": ["/bin/sh", "-c", "yes & yes >&2"], "limits": limits})
    for i in range(10):
        begin = time.monotonic()
        t.equal(worker.do({"id": f"beside-{i}", "argv": ["/bin/echo", "hi"]})["stdout"]["data"], "hi\n")
        t.check(time.monotonic() - begin < 5 * t.scale, "a job beside them was kept waiting")
    drip, deaf, flood = worker.result("drip"), worker.result("deaf"), worker.result("flood")
    t.equal((drip["status"], drip["stdout"]["data"], drip["stderr"]["data"]), ("exited", "x" * 300 + "end", "y" * 300), drip)
    t.equal((deaf["status"], deaf["exit_code"]), ("exited", 0), deaf)
    t.equal((flood["status"], len(flood["stdout"]["data"]) <= 1 << 20), ("output_limit", True), flood["status"])


def test_pipe_buffers(t):
    """Control: root_of() the same for all slots, so that they share uids: a new pipe has 8192 beside it."""
    program = blob_of(t, "pipes")
    worker = t.worker(slots=2)
    most = int(read("/proc/sys/fs/pipe-user-pages-soft"))
    worker.do(job("warm", program, "look"))
    taken = 0
    for turn in range(2):
        worker.submit(job(f"take-{turn}", program, "take", limits={"open_files": 4096, "wall_ms": 60000, "memory_bytes": 512 << 20}))
        running(t, worker, f"take-{turn}")
        time.sleep((0.3, 3)[turn] * t.scale)
        beside = worker.do(job(f"beside-{turn}", program, "look"))
        t.equal(beside["stdout"]["data"], "65536 65536 65536 65536\n", beside)
        t.equal(t.petri.call("cancel", "--redis", t.redis.url, f"take-{turn}").code, 0)
        took = worker.result(f"take-{turn}")
        t.equal(took["status"], "cancelled", took)
        taken = max(taken, int(took["stdout"]["data"] or 0))
        for i in range(3):  # in both slots, one of which was its
            after = worker.do(job(f"after-{turn}-{i}", program, "look"))
            t.equal(after["stdout"]["data"], "65536 65536 65536 65536\n", after)
        if taken >= most * 3 // 4:
            return
    t.check(False, f"{taken} of {most} pages were taken: not enough to be felt")


# ---- the end ----

def test_forks_while_it_is_killed(t):
    """By a limit and by cancellations at any moment: one result each, in time, with what was written.
    Control: leaf_kill() that does not write to cgroup.kill: hydra-1, whose wall limit is 100 ms, after 5.07 s."""
    program = blob_of(t, "hydra")
    worker = t.worker(slots=2)
    rest = random.Random(7)
    for i in range(12):
        wall = rest.choice((5, 20, 50, 100, 200))
        begin = time.monotonic()
        worker.submit(job(f"hydra-{i}", program, "stop" if i % 3 == 0 else "fork", collect=[{"path": "/work/out", "as": "inline", "optional": True}],
                          limits={"wall_ms": int((wall if i % 2 else 20000) * t.scale), "cpu_ms": 60000, "pids": 60}))
        if i % 2 == 0:
            time.sleep(wall / 1000)
            t.equal(t.petri.call("cancel", "--redis", t.redis.url, f"hydra-{i}").code, 0)
        result = worker.result(f"hydra-{i}")
        t.check(result["status"] == ("wall_limit" if i % 2 else "cancelled"), result)
        t.check(time.monotonic() - begin < 4 * t.scale, (time.monotonic() - begin, result))
        t.check(all(f["data"] in ("mine\n", "") for f in result["files"].values()), result)
        t.equal(worker.client("LLEN", f"{PREFIX}:done:hydra-{i}"), 0, "a second result")
    t.equal(worker.do({"id": "after", "argv": ["/bin/echo", "hi"]})["stdout"]["data"], "hi\n")
    t.equal(worker.client("HGET", f"{PREFIX}:worker:test", "retired"), "0", worker.log)


def test_throttled_job_dies_at_once(t):
    """13 processes that share a twentieth of a CPU and have memory to give back: the end is not theirs to be waited for.
    Control: leaf_lift_quota() without effect: late by 202, 217 and 264 ms, and by 35 to 75 ms with it, on a machine with a load of 20."""
    late, wall_ms = [], int(500 * t.scale)
    for _ in range(8):
        run = t.petri.run("--file", f"/work/attack={built(t, 'hydra')}", "--cpus", "0.05", "--pids", "32", "--wall", f"{wall_ms}ms",
                          "--", "/work/attack", "burn")
        t.equal(run.status, "wall_limit", run)
        if run.result["usage"]["throttled_us"] > 0:
            late.append(run.result["usage"]["wall_us"] / 1000 - wall_ms)
        if late and min(late) < 20 * t.scale:
            break
    print("late by, ms:", *(f"{x:.1f}" for x in late))
    t.check(late, "no run was throttled: is the machine so busy that a job has less than a twentieth of a CPU anyway?")
    t.check(min(late) < 100 * t.scale, late)


# ---- the host's kernel ----

def dying():
    """Removed cgroups that the kernel keeps, beneath petri's in the v2 tree."""
    most = 0
    for top in hierarchies():
        for line in read(os.path.join(top, "petri", "cgroup.stat")).decode().splitlines():
            if line.startswith("nr_dying_descendants"):
                most = max(most, int(line.split()[1]))
    return most


def test_dying_cgroups_are_few(t):
    """Jobs that leave page cache of files that no other has read, memory in use and a cgroup that must be made anew: what the kernel keeps
    of them does not grow with them. Controls, on 6.1: drop_cache() without effect: [1, 2, 3, 4, 6, 6, 7, 8] after each; reuse_room() that
    calls it after make_leaf(), so that the new leaf is emptied instead of the old one: [1, 2, 3, 4, 5, 6, 7, 8]."""
    if json.loads(t.petri.call("doctor", "--json").stdout)["cgroup"] != "v2":
        t.skip("cgroup v2: where memory is v1's, the tree whose cgroups are counted keeps no page cache")
    worker = t.worker(slots=1)
    leave = "head -c 2M /dev/zero > f; cat f /usr/bin/[%s]* /usr/lib/*/lib[%s]* 2> /dev/null | head -c 24M > /dev/null; cp f /dev/shm/g; sleep 0 & true"
    counts = []
    for i, others in enumerate(("a-b", "c", "d-e", "f-g", "h-l", "m-o", "p-r", "s-z")):  # files that none before it has read
        result = worker.do({"id": f"leave-{i}", "argv": ["/bin/sh", "-c", leave.replace("%s", others)], "limits": {"cpu_ms": 20000, "wall_ms": 60000}})
        t.equal((result["status"], result["exit_code"]), ("exited", 0), result)
        counts.append(dying())
    t.check(counts[-1] - counts[0] <= 4, counts)


if __name__ == "__main__":
    main(globals())
