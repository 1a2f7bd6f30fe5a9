"""What a worker tells of itself: /metrics and /healthz, whatever clients do, and its heartbeat."""
import os
import re
import shutil
import signal
import socket
import subprocess
import time

from lib import PREFIX, main

HEARTBEAT_LIMITS = "wall_ms cpu_ms memory_bytes pids disk_bytes disk_inodes output_bytes open_files stack_bytes".split()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def worker_with(t, *flags, **more):
    """A worker that serves metrics, and the port."""
    port = free_port()
    return t.worker("--metrics", str(port), *flags, **more), port


def ask(port, request, timeout=10.0):
    """Bytes in, everything that comes back until the end."""
    with socket.create_connection(("127.0.0.1", port), timeout) as s:
        s.sendall(request)
        out = b""
        while True:
            try:
                part = s.recv(65536)
            except ConnectionResetError:
                return out
            if not part:
                return out
            out += part


def get(port, path="/metrics", method="GET"):
    """Return: (code, headers, body)."""
    reply = ask(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), {k.lower(): v for k, v in (x.split(": ", 1) for x in lines[1:])}, body.decode()


# ---- the format, as strictly as the reference says it ----

NAME, LABEL = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r"[a-zA-Z_][a-zA-Z0-9_]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{({LABEL}="(?:[^"\\\n]|\\["\\n])*"(?:,{LABEL}="(?:[^"\\\n]|\\["\\n])*")*)\}})? ([^ ]+)')


def parse(t, text):
    """Return: {name: {frozenset of (label, value): number}}. Every rule broken is a failure."""
    t.check(text.endswith("\n"), "no newline at the end")
    types, helps, samples, family = {}, set(), {}, None
    for line in text[:-1].split("\n"):
        if line.startswith("# "):
            kind, name, rest = line[2:].split(" ", 2)
            t.check(re.fullmatch(NAME, name) and rest, line)
            if kind == "HELP":
                t.check(name not in helps, f"{name} begins twice")
                helps.add(name)
                family = name
            else:
                t.equal((kind, name), ("TYPE", family), line)
                t.check(rest in ("counter", "gauge", "histogram") and name not in types, line)
                types[name] = rest
            continue
        m = SAMPLE.fullmatch(line)
        t.check(m, f"not a sample: {line!r}")
        name, labels, number = m[1], re.findall(rf'({LABEL})="((?:[^"\\]|\\.)*)"', m[2] or ""), float(m[3])
        t.equal(len({k for k, _ in labels}), len(labels), line)
        base = re.sub(r"_(bucket|sum|count)$", "", name) if types.get(family) == "histogram" else name
        t.equal(base, family, f"{line!r} is not within its family")
        t.check(types[family] != "counter" or name.endswith("_total"), line)
        t.check(number >= 0, line)
        key = frozenset(labels)
        t.check(key not in samples.setdefault(name, {}), f"twice: {line!r}")
        samples[name][key] = number
    t.equal(helps, set(types), "a HELP without a TYPE")
    for name in (n for n, kind in types.items() if kind == "histogram"):
        check_histogram(t, name, samples)
    return samples


def check_histogram(t, name, samples):
    t.check(not samples.get(name), f"{name} has samples of its own")
    series = {}
    for labels, number in samples[name + "_bucket"].items():
        le = dict(labels)["le"]
        series.setdefault(frozenset(x for x in labels if x[0] != "le"), []).append((float(le.replace("+Inf", "inf")), number))
    t.equal(set(series), set(samples[name + "_sum"]))
    t.equal(set(series), set(samples[name + "_count"]))
    for labels, buckets in series.items():
        t.equal(buckets, sorted(buckets), f"{name} {labels}: bounds and counts rise together")
        t.equal([b for b, _ in buckets], sorted({b for b, _ in buckets}), labels)
        t.equal(buckets[-1][0], float("inf"), labels)
        t.equal(buckets[-1][1], samples[name + "_count"][labels], labels)
        t.check(buckets[-1][1] > 0 or samples[name + "_sum"][labels] == 0, labels)


def value(samples, name, **labels):
    return samples[name][frozenset(labels.items())]


def scrape(t, port):
    code, headers, text = get(port)
    t.equal((code, headers["content-type"]), (200, "text/plain; version=0.0.4; charset=utf-8"), text)
    return parse(t, text)


def settles(t, port, name, number, timeout=20.0, **labels):
    def there():
        series = scrape(t, port).get(name, {})
        return series.get(frozenset(labels.items())) == number
    t.eventually(there, f"{name}{labels} becomes {number}: {get(port)[2]}", timeout)


def well(t, port, timeout=15):
    t.eventually(lambda: get(port, "/healthz")[::2] == (200, "ok\n"), "it is well", timeout)


# ---- what is told ----

def test_jobs_and_steps(t):
    worker, port = worker_with(t, slots=2)
    worker.do({"id": "a", "argv": ["/bin/sh", "-c", "sleep 0.3"]})
    worker.do({"id": "b", "argv": ["/bin/sh", "-c", "exit 3"]})
    worker.do({"id": "c", "argv": ["/bin/sh", "-c", "kill -9 $$"]})
    worker.do({"id": "d", "argv": ["/nowhere"]})
    worker.do({"id": "e", "argv": []})
    worker.submit("[")
    settles(t, port, "petri_jobs_total", 2, status="rejected")
    settles(t, port, "petri_slots", 2, state="ready")
    s = scrape(t, port)
    for status, n in (("exited", 2), ("signaled", 1), ("exec_failed", 1), ("cpu_limit", 0)):
        t.equal(value(s, "petri_jobs_total", status=status), n, status)
    t.equal(len(s["petri_jobs_total"]), 12)
    for step, n in (("queued", 6), ("place", 4), ("dispatch", 4), ("exec", 3), ("run", 3), ("collect", 3), ("finish", 6)):
        t.equal(value(s, "petri_job_step_seconds_count", step=step), n, step)
    t.check(0.3 <= value(s, "petri_job_step_seconds_sum", step="run") < 10 * t.scale, s)
    t.equal((s["petri_jobs_placed_total"], s["petri_jobs_fetched_total"]), ({frozenset(): 4}, {frozenset(): 6}))
    t.check(s["petri_jobs_warm_total"][frozenset()] <= 4)
    t.equal(sum(s["petri_slots"].values()), 2)
    t.equal(s["petri_redis_connected"], {frozenset(): 1})
    t.equal({dict(k)["version"] for k in s["petri_build_info"]}, {t.petri.call("--version").out.split()[1]})
    limits = {dict(k)["limit"]: n for k, n in s["petri_enforcement_info"].items()}
    t.check(limits["memory"] == limits["pids"] == limits["cpus"] == limits["disk"] == 1, limits)
    t.check({dict(k)["cgroup"] for k in s["petri_host_info"]} <= {"v2", "hybrid"}, s["petri_host_info"])
    t.check("petri_cgroups_dying" in s and s["petri_host_memory_cgroups"][frozenset()] > 0, sorted(s))


def test_promtool_agrees(t):
    if not shutil.which("promtool"):
        t.skip("promtool (Debian's prometheus)")
    worker, port = worker_with(t)
    worker.do({"argv": ["/bin/true"]})
    settles(t, port, "petri_queue_dead", 0)
    done = subprocess.run(["promtool", "check", "metrics"], input=get(port)[2].encode(), capture_output=True, check=False)
    t.equal((done.returncode, done.stdout + done.stderr), (0, b""))


def test_the_queue(t):
    """Depth and age by priority, tenants included, what is pending left out."""
    worker, port = worker_with(t, slots=1)
    worker.submit({"id": "long", "argv": ["/bin/sleep", "600"], "limits": {"wall_ms": 900000}})
    t.defer(lambda: t.petri.call("cancel", "--redis", t.redis.url, "long"))
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:state:long"), "it runs", 20)
    for stream in ("jobs:low", "jobs:low:t:x", "jobs:low:t:y", "jobs:high", f"jobs:worker:{worker.name}"):
        worker.submit({"argv": ["/bin/true"]}, f"{PREFIX}:{stream}")
    worker.client("SADD", f"{PREFIX}:tenants", "x", "y")
    settles(t, port, "petri_queue_depth", 3, priority="low")
    settles(t, port, "petri_queue_depth", 1, priority="high")
    t.eventually(lambda: value(scrape(t, port), "petri_queue_oldest_seconds", priority="low") > 1, "it grows older", 20)
    s = scrape(t, port)
    t.equal([value(s, "petri_queue_depth", priority=p) for p in ("high", "normal", "low", "worker")], [1, 0, 3, 1])
    t.equal([value(s, "petri_queue_pending", priority=p) for p in ("high", "normal", "low", "worker")], [0, 1, 0, 0])
    t.check(1 < value(s, "petri_queue_oldest_seconds", priority="low") < 60 * t.scale)
    t.equal(value(s, "petri_queue_oldest_seconds", priority="normal"), 0)
    t.equal((s["petri_queue_tenants"], s["petri_queue_dead"]), ({frozenset(): 2}, {frozenset(): 0}))
    t.equal(value(s, "petri_slots", state="running"), 1)


def test_what_went_wrong(t):
    """Jobs run again, duplicates, what was given up."""
    worker, port = worker_with(t, "--lease", "500ms", "--max-attempts", "2")
    worker.do({"id": "first", "argv": ["/bin/true"]})
    worker.client("XADD", f"{PREFIX}:jobs", "*", "id", "first", "job", '{"argv": ["/bin/true"]}')
    settles(t, port, "petri_jobs_duplicate_total", 1)
    # Two that somebody took who is gone; one of them once too often.
    worker.process.send_signal(signal.SIGSTOP)
    children = worker.pids()
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    for name in ("again", "poison"):
        worker.submit({"id": name, "argv": ["/bin/true"]})
    got = worker.client("XREADGROUP", "GROUP", "petri", "gone", "COUNT", 10, "STREAMS", f"{PREFIX}:jobs", ">")
    poison = got[0][1][-1][0]
    worker.client("XCLAIM", f"{PREFIX}:jobs", "petri", "gone", 0, poison, "RETRYCOUNT", 2)
    for pid in reversed(children):
        os.kill(pid, signal.SIGCONT)
    worker.result("again")
    t.equal(worker.result("poison")["status"], "internal_error")
    settles(t, port, "petri_jobs_rerun_total", 1)
    settles(t, port, "petri_jobs_dead_total", 1)
    settles(t, port, "petri_queue_dead", 1)
    settles(t, port, "petri_jobs_total", 1, status="internal_error")


def test_redis_away(t):
    """Errors by kind, results held back, and health."""
    worker, port = worker_with(t)
    well(t, port)
    worker.submit({"id": "held", "argv": ["/bin/sleep", "1"]})
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:state:held"), "it runs")
    t.redis.kill()
    settles(t, port, "petri_results_held", 1)
    t.equal(get(port, "/healthz")[::2], (503, "Redis is not connected\n"))
    s = scrape(t, port)
    t.check(value(s, "petri_redis_errors_total", kind="connection") >= 3, s["petri_redis_errors_total"])
    t.equal(s["petri_redis_connected"], {frozenset(): 0})
    t.redis.start()
    well(t, port)
    settles(t, port, "petri_results_held", 0)


def test_the_nursery_does_not_answer(t):
    worker, port = worker_with(t)
    well(t, port)
    nursery = next(p for p in worker.pids() if open(f"/proc/{p}/comm", encoding="utf-8").read() == "petri-nursery\n")
    os.kill(nursery, signal.SIGSTOP)
    t.eventually(lambda: get(port, "/healthz")[::2] == (503, "the nursery does not answer\n"), "it is missed", 20)
    os.kill(nursery, signal.SIGCONT)
    well(t, port)


def test_while_stopping(t):
    worker, port = worker_with(t)
    worker.submit({"id": "last", "argv": ["/bin/sleep", "2"]})
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:state:last"), "it runs")
    worker.process.terminate()
    t.eventually(lambda: get(port, "/healthz")[::2] == (200, "ok, and stopping\n"), "it says so", 2)
    t.equal(worker.stop(), 0)


def test_heartbeat(t):
    worker, _ = worker_with(t)
    def beat():
        flat = worker.client("HGETALL", f"{PREFIX}:worker:{worker.name}")
        return dict(zip(flat[::2], flat[1::2]))
    t.eventually(lambda: beat()["limits"], "the limits are known", 8)
    b = beat()
    t.check(set(HEARTBEAT_LIMITS) <= set(b["limits"].split()), b)
    t.equal((b["state"], b["retired"], b["held"]), ("running", "0", "0"), b)
    t.equal(int(b["ready"]) + int(b["stamping"]) + int(b["busy"]), worker.slots, b)
    t.equal(worker.client("SMEMBERS", f"{PREFIX}:workers"), [worker.name])
    worker.client("PUBLISH", f"{PREFIX}:bell", "beat")
    t.eventually(lambda: worker.client("PTTL", f"{PREFIX}:worker:{worker.name}") > 14000, "one at once", 3)


# ---- whom it listens to ----

def threads_of(worker):
    """The names of petri-worker's threads."""
    names = []
    for pid in worker.pids():
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                if f.read() != "petri-worker\n":
                    continue
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/comm", encoding="utf-8") as f:
                    names.append(f.read().strip())
        except OSError:
            pass  # processes come and go
    return names


def test_off_unless_asked_for(t):
    worker = t.worker()
    inodes = set()
    for pid in worker.pids():
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    with open("/proc/net/tcp", encoding="utf-8") as f:
        listening = {f"socket:[{x.split()[9]}]" for x in f.readlines()[1:] if x.split()[3] == "0A"}
    t.equal(inodes & listening, set())
    t.equal(threads_of(worker).count("petri-metrics"), 0)


def test_only_loopback(t):
    worker, port = worker_with(t)
    t.equal(threads_of(worker).count("petri-metrics"), 1)
    with open("/proc/net/tcp", encoding="utf-8") as f:
        places = [x.split()[1] for x in f.readlines()[1:] if x.split()[1].endswith(f":{port:04X}") and x.split()[3] == "0A"]
    t.equal(places, [f"0100007F:{port:04X}"])


def test_places_that_cannot_be(t):
    for place in ("nowhere", "0", "70000", "127.0.0.1", "::1:9464", "localhost:9464", ""):
        run = t.petri.call("worker", "--redis", t.redis.url, f"--metrics={place}")
        t.equal(run.code, 125, run)
        t.contains(run.err, "metrics", run)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = t.petri.call("worker", "--redis", t.redis.url, "--allow-volatile-redis", "--metrics", str(taken.getsockname()[1]))
    t.equal(run.code, 125, run)
    t.contains(run.err, "cannot listen", run)


def test_only_get_and_head(t):
    _, port = worker_with(t)
    t.equal(get(port, "/metrics?x=1")[0], 200)
    code, headers, body = get(port, "/metrics", "HEAD")
    t.equal((code, body), (200, ""))
    t.check(int(headers["content-length"]) > 1000 and headers["connection"].lower() == "close", headers)
    for path in ("/", "/metrics/", "/healthz/../metrics", "//metrics", "/%6detrics/"):
        t.equal(get(port, path)[0], 404, path)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "PATCH"):
        code, headers, _ = get(port, "/metrics", method)
        t.equal((code, headers.get("allow")), (405, "GET, HEAD"), method)
    body = b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    t.contains(ask(port, body).split(b"\r\n")[0], b"413")
    chunked = b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    t.contains(ask(port, chunked).split(b"\r\n")[0], b"413")


def test_hostile_clients(t):
    """They cost nobody else anything: jobs run, deadlines hold, and the connections end by themselves."""
    worker, port = worker_with(t, slots=2)
    for junk in (b"\0" * 5000, b"GET " + b"/" * 100000, b"GET /metrics HTTP/9.9\r\n\r\n", b"\r\n" * 50000, os.urandom(20000),
                 b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
                 b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n" + b"x" * 100000):
        try:
            ask(port, junk)
        except OSError:
            pass
    t.equal(get(port)[0], 200)
    fds = worker.fd_count()
    # More than it serves at a time, none of which says anything, and one that goes on for ever.
    idle = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(60)]
    slow = socket.create_connection(("127.0.0.1", port), 10)
    started, dripped = time.monotonic(), 0
    result = worker.do({"argv": ["/bin/sh", "-c", "while :; do :; done"], "limits": {"cpu_ms": 300, "wall_ms": 60000}})
    t.equal(result["status"], "cpu_limit", result)
    t.check(result["usage"]["cpu_user_us"] + result["usage"]["cpu_system_us"] < 400000 * t.scale, result)
    try:
        while time.monotonic() - started < 60 * t.scale:
            slow.sendall(b"GET /metrics HTTP/1.1\r\nA: "[dripped:dripped + 1] or b"a")
            dripped += 1
            time.sleep(0.3)
        t.check(False, "a client may hold its connection for ever")
    except OSError:
        t.check(dripped > 2, dripped)
    for s in (*idle, slow):
        s.close()
    t.equal(scrape(t, port)["petri_redis_connected"], {frozenset(): 1})
    # A slot that is just being made has some more.
    t.eventually(lambda: worker.fd_count() <= fds + 20, f"the {len(idle)} connections are closed: {fds} before", 20)


def test_a_flood_of_requests(t):
    """Whoever asks as fast as it can delays nobody's job by much, and each answer is whole."""
    worker, port = worker_with(t, slots=1)
    alone = max(worker.do({"argv": ["/bin/true"]})["timing"]["dispatch_us"] for _ in range(5))
    stop = time.monotonic() + 4
    flood = subprocess.Popen(["/usr/bin/python3", "-c", f"""
import socket, time
n = 0
while time.monotonic() < {stop}:
    with socket.create_connection(("127.0.0.1", {port})) as s:
        s.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        got = b""
        while (part := s.recv(65536)):
            got += part
    assert got.endswith(b"\\n") and got.startswith(b"HTTP/1.1 200"), got[:100]
    n += 1
print(n)
"""], stdout=subprocess.PIPE)
    during = []
    while flood.poll() is None:
        during.append(worker.do({"argv": ["/bin/true"]}))
    t.equal(flood.returncode, 0)
    t.check(int(flood.stdout.read()) > 100)
    t.check(all(r["status"] == "exited" for r in during) and len(during) > 5, during[:1])
    worst = sorted(r["timing"]["dispatch_us"] for r in during)[len(during) * 9 // 10]
    t.check(worst < max(20 * alone, 20000) * t.scale, f"{alone} us alone, {worst} us beside the flood")


if __name__ == "__main__":
    main(globals())
