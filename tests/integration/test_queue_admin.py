"""petri queue and petri top: what is shown, what is set right by hand, and that no stranger's bytes reach a terminal."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from lib import PREFIX, main

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\r\n"


def call(t, verb, *args, **kwargs):
    return t.petri.call(verb, "--redis", t.redis.url, *args, **kwargs)


def queue(t, *args):
    run = call(t, "queue", *args)
    t.equal(run.code, 0, run)
    return run.out


def look(t):
    return json.loads(queue(t, "--json"))


def busy_worker(t, **more):
    """A worker whose only slot is taken for a while, with jobs behind."""
    worker = t.worker(slots=1, **more)
    worker.submit({"id": "long", "argv": ["/bin/sleep", "600"], "limits": {"wall_ms": 900000}})
    t.defer(lambda: call(t, "cancel", "long"))
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:state:long"), "it runs", 20)
    return worker


def groups(client):
    for stream in ("jobs:high", "jobs", "jobs:low"):
        client("XGROUP", "CREATE", f"{PREFIX}:{stream}", "petri", "0", "MKSTREAM")


def bury(client, name, job='{"argv":["/bin/echo","alive"]}', stream=f"{PREFIX}:jobs"):
    """As the finish script does it, with the result."""
    result = json.dumps({"id": name, "status": "internal_error"}, separators=(",", ":"))
    client("SET", f"{PREFIX}:result:{name}", result, "PX", 3600000)
    client("RPUSH", f"{PREFIX}:done:{name}", "internal_error")
    return client("XADD", f"{PREFIX}:dead", "*", "id", name, "job", job, "stream", stream, "attempts", "3", "consumer", "gone/1",
                  "error", "too many attempts")


# ---- what waits ----

def test_depth_and_pending(t):
    worker = busy_worker(t)
    for stream in ("jobs:high", "jobs:low:t:x", "jobs:low:t:x", f"jobs:worker:{worker.name}"):
        worker.submit({"argv": ["/bin/true"]}, f"{PREFIX}:{stream}")
    worker.client("SADD", f"{PREFIX}:tenants", "x")
    time.sleep(0.1)
    seen = look(t)
    t.equal((seen["depth"], seen["pending"], seen["dead"]), (4, 1, 0), seen)
    t.check(100 <= seen["oldest_ms"] < 60000, seen)
    rows = {s["stream"]: s for s in seen["streams"]}
    t.equal({k: (s["depth"], s["pending"]) for k, s in rows.items()},
            {"petri:jobs:high": (1, 0), "petri:jobs": (0, 1), "petri:jobs:low": (0, 0), "petri:jobs:low:t:x": (2, 0),
             "petri:jobs:worker:test": (1, 0)})
    t.equal((rows["petri:jobs:low:t:x"]["tenant"], rows["petri:jobs:worker:test"]["worker"]), ("x", "test"))
    t.equal([c["pending"] for c in seen["consumers"]], [1])
    t.check(seen["consumers"][0]["consumer"].startswith("test/"), seen)
    t.equal([(e["stream"], e["deliveries"]) for e in seen["entries"]], [("petri:jobs", 1)])
    text = queue(t)
    for part in ("waiting 4", "pending 1", "petri:jobs:low:t:x", "test/", seen["entries"][0]["entry"]):
        t.contains(text, part)


def test_an_empty_redis(t):
    seen = look(t)
    t.equal((seen["depth"], seen["pending"], len(seen["streams"]), seen["workers"]), (0, 0, 3, []), seen)
    t.equal(json.loads(call(t, "queue", "dead", "list", "--json").out), [])
    t.equal(queue(t, "purge", "--yes"), "0 jobs cancelled\n")
    with t.redis.client() as r:
        t.equal(r("KEYS", "*"), [], "looking must leave nothing")


def test_keys_of_another_type(t):
    with t.redis.client() as r:
        for key in ("jobs", "tenants", "workers", "worker:w", "jobs:low"):
            r("SET", f"{PREFIX}:{key}", "nonsense")
        t.equal(look(t)["depth"], 0)
        r("DEL", f"{PREFIX}:workers")
        r("SADD", f"{PREFIX}:workers", "w")
        t.equal(look(t)["workers"], [])
        t.equal(queue(t, "purge", "--yes"), "0 jobs cancelled\n")


def test_command_lines(t):
    for words in (("nonsense",), ("dead",), ("dead", "show"), ("requeue",), ("requeue", "1-1", "--yes"), ("--yes",), ("purge", "--json"),
                  ("dead", "requeue"), ("dead", "requeue", "x", "--all"), ("a", "b", "c", "d"), ("--redis",), ("--frob",),
                  ("dead", "purge", "--stream", "x")):
        t.equal(call(t, "queue", *words).code, 125, words)
    t.equal(call(t, "top", "word").code, 125)
    t.equal(call(t, "queue", "--prefix", "a b").code, 125)
    t.equal(t.petri.call("queue", "--redis", "unix:///nowhere").code, 1)
    t.equal(t.petri.call("top", "--redis", "unix:///nowhere").code, 1)
    t.equal(t.petri.call("queue", "--help").code, 0)


# ---- setting it right ----

def test_requeue_a_stuck_entry(t):
    """Somebody took it and is gone; nobody waits for the lease."""
    worker = t.worker("--lease", "1h")
    with t.redis.client() as r:
        os.kill(worker.process.pid, signal.SIGSTOP)
        pids = worker.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        worker.submit({"id": "stuck", "argv": ["/bin/echo", "free"]})
        got = r("XREADGROUP", "GROUP", "petri", "gone", "STREAMS", f"{PREFIX}:jobs", ">")
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
    entry = got[0][1][0][0]
    t.equal([(e["entry"], e["consumer"]) for e in look(t)["entries"]], [(entry, "gone")])
    t.equal(call(t, "queue", "requeue", "1-1").code, 1)
    t.equal(call(t, "queue", "requeue", entry, "--stream", f"{PREFIX}:jobs:low").code, 1)
    t.equal(queue(t, "requeue", entry), "requeued\n")
    result = worker.result("stuck")
    t.equal((result["stdout"]["data"], result["attempt"]), ("free\n", 2), result)
    t.equal(call(t, "queue", "requeue", entry).code, 1)


def test_requeue_wants_one(t):
    """The same name in two streams: which is meant must be said."""
    with t.redis.client() as r:
        groups(r)
        for stream in ("jobs", "jobs:low"):
            r("XADD", f"{PREFIX}:{stream}", "5-5", "job", "{}")
            r("XREADGROUP", "GROUP", "petri", "gone", "STREAMS", f"{PREFIX}:{stream}", ">")
        run = call(t, "queue", "requeue", "5-5")
        t.equal(run.code, 1, run)
        t.contains(run.err, "--stream")
        queue(t, "requeue", "5-5", "--stream", f"{PREFIX}:jobs:low")
        t.equal(r("XPENDING", f"{PREFIX}:jobs:low", "petri", "-", "+", 1)[0][1::2], ["released", 1])
        t.equal(r("XPENDING", f"{PREFIX}:jobs", "petri", "-", "+", 1)[0][1], "gone")


def test_purge(t):
    """Every job that waits gets its one result; what runs is left alone; other streams too, when one is named."""
    worker = busy_worker(t)
    r = worker.client
    worker.submit({"id": "inside", "argv": ["/bin/true"], "reply": "front", "meta": {"n": 1}})
    r("XADD", f"{PREFIX}:jobs", "*", "id", "field", "job", '{"argv": ["/bin/true"], "id": "other"}')
    nameless = worker.submit({"argv": ["/bin/true"]})
    broken = r("XADD", f"{PREFIX}:jobs", "*", "job", "[nonsense")
    empty = r("XADD", f"{PREFIX}:jobs", "*", "what", "else")
    for i in range(30):
        worker.submit({"id": f"many{i}", "argv": ["/bin/true"]}, f"{PREFIX}:jobs:low:t:x")
    r("SADD", f"{PREFIX}:tenants", "x")
    run = call(t, "queue", "purge")
    t.equal(run.code, 1, run)
    t.equal(look(t)["depth"], 35, "without --yes nothing happens")
    t.equal(call(t, "queue", "purge", "--yes", "--stream", "nonsense").code, 1)
    t.equal(queue(t, "purge", "--yes", "--stream", f"{PREFIX}:jobs"), "5 jobs cancelled\n")
    t.equal(look(t)["depth"], 30)
    for name in ("inside", "field", nameless, broken, empty):
        result = json.loads(r("GET", f"{PREFIX}:result:{name}"))
        t.equal((result["id"], result["status"]), (name, "cancelled"), result)
        t.equal(r("LRANGE", f"{PREFIX}:done:{name}", 0, -1), ["cancelled"], name)
        t.check(0 < r("PTTL", f"{PREFIX}:result:{name}") <= 3600000, name)
    t.equal(r("EXISTS", f"{PREFIX}:result:other"), 0)
    t.equal(r("XRANGE", f"{PREFIX}:results:front", "-", "+")[0][1], ["id", "inside", "status", "cancelled", "meta", '{"n":1}'])
    t.equal(queue(t, "purge", "--yes"), "30 jobs cancelled\n")
    t.equal(r("EXISTS", f"{PREFIX}:result:long"), 0)
    t.equal(call(t, "cancel", "long").out, "requested\n")
    t.equal(worker.result("long")["status"], "cancelled")
    t.equal((look(t)["depth"], look(t)["pending"]), (0, 0))


def test_purge_keeps_a_result(t):
    with t.redis.client() as r:
        groups(r)
        r("SET", f"{PREFIX}:result:mine", "first")
        r("XADD", f"{PREFIX}:jobs", "*", "id", "mine", "job", "{}")
        t.equal(queue(t, "purge", "--yes"), "1 jobs cancelled\n")
        t.equal((r("GET", f"{PREFIX}:result:mine"), r("XLEN", f"{PREFIX}:jobs")), ("first", 0))


# ---- the dead ----

def test_dead_list_and_show(t):
    with t.redis.client() as r:
        entries = [bury(r, f"job{i}") for i in range(250)]
        listed = json.loads(call(t, "queue", "dead", "list", "--json").out)
        t.equal([d["entry"] for d in listed], entries, "all, beyond one page")
        t.equal(listed[0], {"entry": entries[0], "id": "job0", "attempts": 3, "consumer": "gone/1", "stream": f"{PREFIX}:jobs",
                            "error": "too many attempts", "job_bytes": 30})
        text = queue(t, "dead", "list")
        t.contains(text, "job249")
        t.equal(len(text.splitlines()), 251)
        for name in ("job7", entries[7]):
            one = json.loads(queue(t, "dead", "show", name))
            t.equal((one["entry"], one["job"]), (entries[7], '{"argv":["/bin/echo","alive"]}'), one)
        t.equal(call(t, "queue", "dead", "show", "nobody").code, 1)
        t.equal(call(t, "queue", "dead", "purge").code, 1)
        t.equal(queue(t, "dead", "purge", "--yes"), "250 entries forgotten\n")
        t.equal(r("EXISTS", f"{PREFIX}:dead"), 0)
        t.equal(r("EXISTS", f"{PREFIX}:result:job7"), 1)


def test_dead_requeue(t):
    worker = t.worker()
    r = worker.client
    bury(r, "back", stream=f"{PREFIX}:jobs:high:t:ten")
    t.equal(queue(t, "dead", "requeue", "back"), "requeued\n")
    result = worker.result("back")  # not the wake-up of its first end
    t.equal((result["status"], result["stdout"]["data"], result["attempt"]), ("exited", "alive\n", 1), result)
    t.equal(r("XLEN", f"{PREFIX}:dead"), 0)
    t.equal(call(t, "queue", "dead", "requeue", "back").code, 1)


def test_dead_requeue_refusals(t):
    with t.redis.client() as r:
        bury(r, "large", job="")
        bury(r, "finished")
        r("SET", f"{PREFIX}:result:finished", '{"id":"finished","status":"exited","meta":"\\"status\\":\\"internal_error\\""}')
        bury(r, "running")
        r("HSET", f"{PREFIX}:state:running", "worker", "w")
        bury(r, "elsewhere", stream="other:key")
        bury(r, "fine")
        for name, why in (("large", "too large"), ("finished", "another result"), ("running", "runs"), ("elsewhere", "no usable")):
            run = call(t, "queue", "dead", "requeue", name)
            t.equal(run.code, 1, run)
            t.contains(run.err, why)
        run = call(t, "queue", "dead", "requeue", "--all")
        t.equal((run.code, run.out), (1, "1 of 5 requeued\n"), run)
        t.equal((r("XLEN", f"{PREFIX}:jobs"), r("XLEN", f"{PREFIX}:dead"), r("EXISTS", "other:key")), (1, 4, 0))
        t.equal(r("EXISTS", f"{PREFIX}:result:fine"), 0)
        t.check("exited" in r("GET", f"{PREFIX}:result:finished"))


def test_a_job_that_was_really_given_up(t):
    """Not as this test would bury it, but as a worker does."""
    worker = t.worker("--lease", "500ms", "--max-attempts", "1")
    r = worker.client
    pids = worker.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    worker.submit({"id": "poison", "argv": ["/bin/echo", "harmless"]}, f"{PREFIX}:jobs:low")
    r("XREADGROUP", "GROUP", "petri", "gone", "STREAMS", f"{PREFIX}:jobs:low", ">")
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)
    t.equal(worker.result("poison")["status"], "internal_error")
    t.equal(json.loads(queue(t, "dead", "show", "poison"))["stream"], f"{PREFIX}:jobs:low")
    queue(t, "dead", "requeue", "--all")
    t.equal(worker.result("poison")["stdout"]["data"], "harmless\n")


# ---- strangers' bytes ----

def plant(r):
    """Escape sequences wherever Redis can hold some."""
    groups(r)
    for name in (EVIL, "good"):
        r("SADD", f"{PREFIX}:workers", name)
        r("SADD", f"{PREFIX}:tenants", name)
        r("HSET", f"{PREFIX}:worker:{name}", "state", EVIL, "images", EVIL, "limits", EVIL, "slots", EVIL, "consumer", EVIL, EVIL, "1")
        r("PEXPIRE", f"{PREFIX}:worker:{name}", 15000)
        r("XADD", f"{PREFIX}:jobs:t:{name}", "*", "job", EVIL, "id", EVIL)
    r("XADD", f"{PREFIX}:jobs", "*", "job", EVIL, "id", EVIL)
    r("XREADGROUP", "GROUP", "petri", EVIL, "STREAMS", f"{PREFIX}:jobs", ">")
    r("XADD", f"{PREFIX}:dead", "*", "id", EVIL, "job", EVIL, "stream", EVIL, "attempts", EVIL, "consumer", EVIL, "error", EVIL)


def harmless(t, data):
    t.check(data and all(c == 10 or 32 <= c < 127 for c in data), data)


def test_no_control_characters(t):
    with t.redis.client() as r:
        plant(r)
        entry = r("XRANGE", f"{PREFIX}:dead", "-", "+")[0][0]
    for args in (("queue",), ("queue", "--json"), ("queue", "dead", "list"), ("queue", "dead", "list", "--json"),
                 ("queue", "dead", "show", entry), ("top",), ("top", "--once"), ("top", "--json")):
        run = call(t, *args)
        t.equal(run.code, 0, run)
        harmless(t, run.stdout)
        t.equal(run.stderr, b"", run)
        if "--json" in args:
            json.loads(run.out)
    run = call(t, "queue", "dead", "requeue", entry)
    t.equal(run.code, 1, run)
    harmless(t, run.stderr)
    t.equal([w["name"] for w in look(t)["workers"]], ["good"])


# ---- top ----

class Screen:
    """petri top on a terminal of its own."""

    def __init__(self, t, rows=24, columns=80):
        self.t, self.out = t, b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                os.execve(t.petri.binary, ["petri", "top", "--redis", t.redis.url], t.petri.env())
            finally:
                os._exit(127)
        t.defer(self.end)

    def read(self, seconds=0.2):
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                try:
                    self.out += os.read(self.fd, 65536)
                except OSError:
                    return self.out
        return self.out

    def shows(self, part, timeout=20.0):
        self.t.eventually(lambda: part in self.read(0.1), f"{part!r} on the screen: {self.out[-2000:]!r}", timeout)

    def frame(self):
        """The lines of the last whole screen."""
        last = self.out.rpartition(b"\x1b[J")[0].rpartition(b"\x1b[1;1H")[2]
        return [x.replace(b"\x1b[K", b"") for x in re.split(rb"\x1b\[\d+;1H", last)]

    def ended(self, code):
        status = None

        def gone():
            nonlocal status
            self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return pid
        self.t.eventually(gone, "top ends")
        self.pid = 0
        self.t.equal(os.waitstatus_to_exitcode(status), code)
        self.read(0.1)
        self.t.check(self.out.endswith(b"\x1b[?25h\x1b[?1049l"), self.out[-100:])

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


def test_top_live(t):
    worker = t.worker(slots=2)
    s = Screen(t)
    s.shows(b"workers 1 ")
    t.check(s.out.startswith(b"\x1b[?1049h\x1b[?25l"), s.out[:50])
    worker.submit({"id": "long", "argv": ["/bin/sleep", "4"]})
    s.shows(b"1 busy")
    worker.result("long")
    s.shows(b"done 1 ")
    t.check(all(len(x) <= 80 for x in s.frame()), s.frame())
    os.write(s.fd, b"xq")
    s.ended(0)


def test_top_resize(t):
    t.worker()
    s = Screen(t)
    s.shows(b"q quits")
    fcntl.ioctl(s.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 5, 33, 0, 0))
    s.shows(b"there is more than the screen hol\x1b")
    t.equal((len(s.frame()), max(map(len, s.frame()))), (5, 33), s.frame())
    fcntl.ioctl(s.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    s.shows(b" BEAT\x1b")
    fcntl.ioctl(s.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 1, 1, 0, 0))
    s.read(1.2)
    os.write(s.fd, b"q")
    s.ended(0)


def test_top_signals(t):
    """The terminal is given back, also while Redis does not answer."""
    t.worker()
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        s = Screen(t)
        s.shows(b"q quits")
        os.kill(s.pid, sig)
        s.ended(128 + sig)
    s = Screen(t)
    s.shows(b"q quits")
    os.kill(t.redis.process.pid, signal.SIGSTOP)
    s.read(1.5)
    os.write(s.fd, b"\x03")  # Ctrl-C
    s.ended(130)
    os.kill(t.redis.process.pid, signal.SIGCONT)


def test_top_while_redis_is_away(t):
    with t.redis.client() as r:
        plant(r)
    s = Screen(t)
    s.shows(b"q quits")
    t.redis.kill()
    s.shows(b"no news: ")
    s.shows(b"petri:jobs:high")  # what was last known stays
    t.redis.start()
    s.out = b""
    s.shows(b"q quits")
    os.write(s.fd, b"q")
    s.ended(0)
    harmless(t, b"".join(s.frame()))


if __name__ == "__main__":
    main(globals())
