"""The worker on Redis: every job gets exactly one result, whatever dies in between."""
import json
import subprocess
import time

from lib import PREFIX, main

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")


def echo(name, text="hi", **more):
    return {"id": name, "argv": ["/bin/echo", text], **more}


def sleeper(name, seconds, **more):
    return {"id": name, "argv": ["/bin/sh", "-c", f"sleep {seconds}; echo slept"], **more}


def call(t, verb, *args, **kwargs):
    return t.petri.call(verb, "--redis", t.redis.url, *args, **kwargs)


def submit(t, job, *flags, **kwargs):
    return call(t, "submit", *flags, t.write(f"{job.get('id', 'job')}.json", json.dumps(job)), **kwargs)


def running(t, worker, name, timeout=10.0):
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:state:{name}"), f"{name} runs", timeout)


def settled(t, worker, name, status, **more):
    """Exactly one result: the key, one wake-up, nothing pending, nothing in the streams."""
    result = worker.result(name, **more)
    t.equal((result["id"], result["status"]), (name, status), f"{result}\n{worker.log[-2000:]}")
    return result


def nothing_open(t, client):
    for stream in ("jobs:high", "jobs", "jobs:low"):
        key = f"{PREFIX}:{stream}"
        if client("EXISTS", key):
            t.equal(client("XLEN", key), 0, stream)
            t.equal(client("XPENDING", key, "petri")[0], 0, stream)


# ---- the ordinary ----

def test_submit_and_wait(t):
    t.worker()
    run = submit(t, echo("one", meta={"k": "ü"}), "--wait")
    t.equal(run.code, 0, run)
    result = json.loads(run.out)
    t.equal((result["id"], result["status"], result["exit_code"]), ("one", "exited", 0), run)
    t.equal((result["stdout"], result["meta"]), ({"data": "hi\n", "truncated": False}, {"k": "ü"}), run)


def test_submit_then_ask(t):
    worker = t.worker()
    run = submit(t, sleeper("asked", 0.5))
    t.equal((run.code, run.out), (0, "asked\n"), run)
    running(t, worker, "asked")
    state = json.loads(call(t, "status", "asked").out)
    t.equal((state["id"], state["state"], state["worker"], state["attempt"]), ("asked", "running", "test", 1), state)
    settled(t, worker, "asked", "exited")
    state = json.loads(call(t, "status", "asked").out)
    t.equal((state["state"], state["result"]["stdout"]["data"]), ("done", "slept\n"), state)
    t.equal(json.loads(call(t, "status", "never").out)["state"], "unknown")


def test_result_keys(t):
    result = t.worker().do(echo("shape", meta=[1, {"x": None}], env=["A=1"]))
    t.equal(list(result), ["id", "status", "exit_code", "signal", "message", "field", "reason", "usage", "stdout",
                           "stderr", "files", "layer",
                           "violation", "unenforced", "meta", "timing", "worker", "attempt"])
    t.equal((result["worker"], result["attempt"], result["meta"], result["message"]), ("test", 1, [1, {"x": None}], ""),
            result)
    for key in ("queued_us", "dispatch_us", "exec_us", "collect_us"):
        t.check(0 <= result["timing"][key] < 10**7, result)
    t.check(result["timing"]["queued_us"] > 0 and result["timing"]["exec_us"] > 0 and result["usage"]["wall_us"] > 0,
            result)


def test_redis_keys(t):
    """Those of the design, with a time to live, and none that stays."""
    worker = t.worker()
    worker.submit(echo("keys", reply="front", meta={"n": 1}))
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:result:keys"), "a result")
    for key in ("result:keys", "done:keys", "worker:test"):
        t.check(0 < worker.client("PTTL", f"{PREFIX}:{key}") <= 3600000, key)
    t.eventually(lambda: not worker.client("EXISTS", f"{PREFIX}:state:keys"), "its state is cleared")
    nothing_open(t, worker.client)
    entries = worker.client("XRANGE", f"{PREFIX}:results:front", "-", "+")
    t.equal(len(entries), 1)
    fields = dict(zip(entries[0][1][::2], entries[0][1][1::2]))
    t.equal((fields["id"], fields["status"], json.loads(fields["meta"])), ("keys", "exited", {"n": 1}), fields)
    beat = worker.client("HGETALL", f"{PREFIX}:worker:test")
    beat = dict(zip(beat[::2], beat[1::2]))
    for key in ("slots", "running", "done", "images"):
        t.check(key in beat, beat)
    t.check(all(k.startswith(PREFIX + ":") for k in worker.client("KEYS", "*")))


def test_ids(t):
    """The stream's field wins over the document's, and an entry's own id serves where neither can be used."""
    worker = t.worker()
    worker.client("XADD", f"{PREFIX}:jobs", "*", "id", "field", "job", json.dumps(echo("document")))
    settled(t, worker, "field", "exited")
    entry = worker.client("XADD", f"{PREFIX}:jobs", "*", "job", json.dumps({"argv": ["/bin/true"]}))
    settled(t, worker, entry, "exited")
    entry = worker.client("XADD", f"{PREFIX}:jobs", "*", "id", "not usable!", "job",
                          json.dumps({"argv": ["/bin/true"]}))
    settled(t, worker, entry, "exited")
    entry = worker.client("XADD", f"{PREFIX}:jobs", "*", "job", json.dumps({"id": "a/b", "argv": ["/bin/true"]}))
    t.equal(settled(t, worker, entry, "rejected")["field"], "id")


def test_same_id_twice(t):
    """An id has one result: the second is acknowledged and not run."""
    worker = t.worker()
    settled(t, worker, worker.submit(echo("twin", "first")), "exited")
    worker.submit(echo("twin", "second"))
    worker.do(echo("other"))
    t.eventually(lambda: worker.client("XLEN", f"{PREFIX}:jobs") == 0, "both are acknowledged")
    t.equal(json.loads(worker.client("GET", f"{PREFIX}:result:twin"))["stdout"]["data"], "first\n")
    t.equal(worker.client("LLEN", f"{PREFIX}:done:twin"), 0)


def test_rejected(t):
    worker = t.worker()
    for name, job, field, reason in (("r1", {"id": "r1", "argv": []}, "argv", "invalid"),
                                     ("r2", echo("r2", nonsense=1), "nonsense", "invalid"),
                                     ("r3", echo("r3", image="none"), "image", "missing"),
                                     ("r4", echo("r4", limits={"pids": -1}), "limits.pids", "invalid"),
                                     ("r5", echo("r5", policy="none"), "policy", "missing"),
                                     ("r6", echo("r6", worker="another"), "worker", "missing")):
        worker.submit({**job, "meta": {"for": name}, "reply": "front"})
        result = settled(t, worker, name, "rejected")
        t.equal((result["field"], result["reason"], result["meta"]), (field, reason, {"for": name}), result)
    t.equal(worker.client("XLEN", f"{PREFIX}:results:front"), 6)
    for text in ("{", "", '{"id": "torn", "argv": [', "x" * (9 << 20), None):
        entry = worker.client("XADD", f"{PREFIX}:jobs", "*", *(("something", "else") if text is None else ("job",
                                                                                                           text)))
        result = settled(t, worker, entry, "rejected")
        # The whole document, or the entry's field that should have held it.
        t.check(result["field"] in ("", "job") and result["message"], result)
    nothing_open(t, worker.client)
    worker.do(echo("after"))


def test_submit_refuses_early(t):
    run = submit(t, echo("bad", nonsense=1))
    t.equal(run.code, 125, run)
    t.contains(run.err, "field=nonsense", run)


def test_max_limits(t):
    config = {"max_limits": {"wall_ms": 5000, "memory_bytes": 64 << 20, "pids": 16}}
    worker = t.worker("--config", t.write("config.json", json.dumps(config)))
    result = settled(t, worker, worker.submit(echo("much", limits={"memory_bytes": 128 << 20})), "rejected")
    t.equal((result["field"], result["reason"]), ("limits.memory_bytes", "too_large"), result)
    # What a job leaves out takes the worker's bound where that is lower than the default.
    result = worker.do({"id": "bound", "argv": ["/usr/bin/python3", "-c", "x = bytearray(100 << 20)"]})
    t.equal(result["status"], "memory_limit", result)


def test_flood(t):
    """Each of many is answered once, and by its own output."""
    worker = t.worker(slots=4)
    jobs = [echo(f"f{i}", f"text {i}", reply="front") for i in range(100)]
    replies = worker.client.pipeline([("XADD", f"{PREFIX}:jobs", "*", "job", json.dumps(j)) for j in jobs])
    t.check(all(isinstance(r, str) for r in replies))
    for i in range(100):
        result = worker.result(f"f{i}")
        t.equal((result["status"], result["stdout"]["data"]), ("exited", f"text {i}\n"), result)
    ids = [dict(zip(e[1][::2], e[1][1::2]))["id"] for e in worker.client("XRANGE", f"{PREFIX}:results:front", "-", "+")]
    t.equal(sorted(ids), sorted(j["id"] for j in jobs))
    t.equal(sum(worker.client("LLEN", f"{PREFIX}:done:f{i}") for i in range(100)), 0)
    nothing_open(t, worker.client)


def test_two_workers(t):
    """They share the work, and no job runs twice."""
    one, two = t.worker(slots=1, name="one"), t.worker(slots=1, name="two")
    for i in range(20):
        one.submit({**sleeper(f"s{i}", 0.05), "reply": "front"})
    workers = {one.result(f"s{i}")["worker"] for i in range(20)}
    t.equal(workers, {"one", "two"})
    t.equal(one.client("XLEN", f"{PREFIX}:results:front"), 20)
    two.submit(echo("mine", worker="two"), f"{PREFIX}:jobs:worker:two")
    t.equal(two.result("mine")["worker"], "two")


def test_priorities(t):
    """High before normal before low, for a worker that has one slot and finds them all waiting."""
    worker = t.worker(slots=1)
    worker.submit(sleeper("first", 1))
    running(t, worker, "first")
    for i in range(3):
        for name, stream in (("low", "jobs:low"), ("normal", "jobs"), ("high", "jobs:high")):
            worker.submit(echo(f"{name}{i}", reply="front"), f"{PREFIX}:{stream}")
    for name in ("low", "normal", "high"):
        for i in range(3):
            worker.result(f"{name}{i}")
    order = [dict(zip(e[1][::2], e[1][1::2]))["id"] for e in worker.client("XRANGE", f"{PREFIX}:results:front", "-",
                                                                           "+")]
    mean = {n: sum(i for i, x in enumerate(order) if x.startswith(n)) for n in ("high", "normal", "low")}
    t.check(mean["high"] < mean["normal"] < mean["low"], order)


def test_tenants(t):
    worker = t.worker(slots=1)
    for tenant in ("a", "b"):
        for i in range(3):
            t.equal(submit(t, echo(f"{tenant}{i}", tenant=tenant)).code, 0)
    for tenant in ("a", "b"):
        for i in range(3):
            settled(t, worker, f"{tenant}{i}", "exited")


def test_not_after(t):
    worker = t.worker(slots=1)
    result = settled(t, worker, worker.submit(echo("late", not_after_ms=1000)), "cancelled")
    t.equal(result["stdout"]["data"], "", result)


def test_large_documents(t):
    """Read and written beside the loop: in whatever order they come out of that, each result is its own job's."""
    worker = t.worker(slots=2)
    jobs = {}
    for i in range(5):
        text = f"{i}\n" * (3 << 19) + "end"
        jobs[f"large-{i}"] = text
        worker.submit({"id": f"large-{i}", "argv": ["/bin/cat"], "stdin": {"data": text}, "limits": {"output_bytes": 8 << 20}})
        worker.submit(echo(f"small-{i}", str(i)))
        if i == 3:
            call(t, "cancel", f"large-{i}")
    for i in range(5):
        t.equal(worker.result(f"small-{i}")["stdout"]["data"], f"{i}\n")
        result = worker.result(f"large-{i}")
        if i == 3:
            t.check(result["status"] in ("cancelled", "exited"), result["status"])
            continue
        t.equal((result["status"], result["stdout"]["truncated"]), ("exited", False), result["message"])
        t.check(result["stdout"]["data"] == jobs[f"large-{i}"], f"large-{i}: another output")
    worker.submit({"id": "bad", "argv": ["/bin/true"], "stdin": {"data": "x" * (1 << 20)}, "limits": {"wall": 1}})
    result = settled(t, worker, "bad", "rejected")
    t.equal((result["field"], result["reason"]), ("limits.wall", "invalid"))
    nothing_open(t, worker.client)


def test_large_documents_are_not_taken_ahead(t):
    """What is still being read has no slot yet, and counts for one. Without the count of those: "11 taken at once by 4 slots"."""
    client = t.redis.client()
    for i in range(16):
        job = {"argv": ["/usr/bin/wc", "-c"], "stdin": {"data": "x" * (5 << 20)}}
        client("XADD", f"{PREFIX}:jobs", "*", "id", f"ahead-{i}", "job", json.dumps(job))
    worker, most = t.worker(slots=4), 0
    for i in range(16):
        while not client("EXISTS", f"{PREFIX}:result:ahead-{i}") and worker.process.poll() is None:
            most = max(most, client("XPENDING", f"{PREFIX}:jobs", "petri")[0])
            time.sleep(0.002)
        t.equal(worker.result(f"ahead-{i}")["stdout"]["data"], f"{5 << 20}\n")
    t.check(most <= 6, f"{most} taken at once by 4 slots")  # those whose result is on its way among them
    nothing_open(t, client)


def test_large_documents_at_the_end(t):
    """SIGTERM while one is read and another is written: both jobs come to their results."""
    worker = t.worker("--grace", "20s", slots=2)
    text = "x" * (7 << 20)
    worker.submit({"id": "written", "argv": ["/bin/cat"], "stdin": {"data": text}, "limits": {"output_bytes": 8 << 20}})
    running(t, worker, "written")
    worker.submit({"id": "read", "argv": ["/usr/bin/wc", "-c"], "stdin": {"data": text}})
    t.eventually(lambda: worker.client("XPENDING", f"{PREFIX}:jobs", "petri")[0] > 0 or worker.client("EXISTS", f"{PREFIX}:result:read"), "it is taken")
    t.equal(worker.stop(), 0, worker.log)
    client = t.redis.client()
    t.equal(len(json.loads(client("GET", f"{PREFIX}:result:written"))["stdout"]["data"]), len(text))
    if not client("EXISTS", f"{PREFIX}:result:read"):  # not taken after all, or handed back
        t.worker(slots=1, name="next")
        t.eventually(lambda: client("EXISTS", f"{PREFIX}:result:read"), "the next worker's result", 20)
    t.equal(json.loads(client("GET", f"{PREFIX}:result:read"))["stdout"]["data"], f"{len(text)}\n")
    nothing_open(t, client)


def test_queue_full(t):
    worker = t.worker(slots=1)
    worker.submit(sleeper("busy", 2))
    running(t, worker, "busy")
    t.equal([submit(t, echo(f"q{i}"), "--max-depth", 2).code for i in range(3)], [0, 0, 75])
    call(t, "cancel", "busy")
    for i in range(2):
        settled(t, worker, f"q{i}", "exited")


def test_queue_full_for_all(t):
    """The workers' own bound holds for clients that name none, and after the workers are gone."""
    worker = t.worker("--max-queue", "2", slots=1)
    t.equal(worker.client("GET", f"{PREFIX}:max_queue"), "2")
    worker.submit(sleeper("busy", 2))
    running(t, worker, "busy")
    runs = [submit(t, echo(f"q{i}")) for i in range(3)]
    t.equal([run.code for run in runs], [0, 0, 75], runs[2])
    t.check("queue full: 2 jobs wait" in runs[2].err, runs[2])
    t.equal(submit(t, echo("less"), "--max-depth", 1).code, 75)
    call(t, "cancel", "busy")
    for i in range(2):
        settled(t, worker, f"q{i}", "exited")
    t.equal(worker.stop(), 0, worker.log)
    redis = t.redis.client()
    t.equal([submit(t, echo(f"r{i}"), "--max-depth", 9).code for i in range(3)], [0, 0, 75])
    redis("SET", f"{PREFIX}:max_queue", "many")  # nobody's number: no bound
    t.equal(submit(t, echo("r3")).code, 0)


def test_wait_with_timeout(t):
    run = submit(t, echo("nobody"), "--wait", "--timeout", "300ms")
    t.equal(run.code, 1, run)
    t.contains(run.err, "nobody", run)


# ---- cancel ----

def test_cancel(t):
    worker = t.worker(slots=1)
    worker.submit(sleeper("running", 30, limits={"wall_ms": 60000}))
    running(t, worker, "running")
    worker.submit(echo("queued"))
    run = call(t, "cancel", "queued")
    t.equal((run.code, run.out), (0, "cancelled\n"), run)
    t.equal(settled(t, worker, "queued", "cancelled")["stdout"]["data"], "")
    start = time.monotonic()
    run = call(t, "cancel", "running")
    t.equal((run.code, run.out), (0, "requested\n"), run)
    result = settled(t, worker, "running", "cancelled")
    t.check(time.monotonic() - start < 2 * t.scale and result["exit_code"] is None, result)
    run = call(t, "cancel", "running")
    t.equal((run.code, run.out), (1, "finished\n"), run)
    worker.do(echo("after"))
    t.eventually(lambda: worker.client("XLEN", f"{PREFIX}:jobs") == 0, "the cancelled entry is acknowledged")
    nothing_open(t, worker.client)


def test_cancel_of_what_is_to_come(t):
    """Cancelled before it was submitted, which a client cannot tell from queued: it does not run."""
    worker = t.worker(slots=1)
    t.equal(call(t, "cancel", "future").code, 0)
    worker.submit(echo("future"))
    worker.do(echo("after"))
    t.equal(json.loads(worker.client("GET", f"{PREFIX}:result:future"))["status"], "cancelled")


# ---- ends ----

def test_sigterm_drains(t):
    """What runs is finished; what waits is left to others."""
    worker = t.worker(slots=1)
    worker.submit(sleeper("last", 1))
    running(t, worker, "last")
    worker.submit(echo("left"))
    start = time.monotonic()
    t.equal(worker.stop(), 0, worker.log)
    t.check(time.monotonic() - start < 5 * t.scale,
            f"{time.monotonic() - start:.1f} s: not as soon as its last job had ended")
    with t.redis.client() as client:
        t.equal(json.loads(client("GET", f"{PREFIX}:result:last"))["status"], "exited")
        t.equal(client("EXISTS", f"{PREFIX}:result:left"), 0)
        t.equal(client("XLEN", f"{PREFIX}:jobs"), 1)
    settled(t, t.worker(slots=1, name="next"), "left", "exited")


def test_grace_ends(t):
    """A job that outlives the grace period is handed back and run by another worker."""
    worker = t.worker("--grace", "300ms", slots=1)
    worker.submit({"id": "long", "argv": ["/bin/sh", "-c", "sleep 2; echo $$"], "limits": {"wall_ms": 20000}})
    running(t, worker, "long")
    start = time.monotonic()
    t.equal(worker.stop(), 0, worker.log)
    t.check(time.monotonic() - start < 3 * t.scale, worker.log)
    other = t.worker(slots=1, name="other")
    t.equal(settled(t, other, "long", "exited")["worker"], "other")


def test_idle_worker_stops_at_once(t):
    worker = t.worker(slots=4)
    start = time.monotonic()
    t.equal(worker.stop(), 0, worker.log)
    t.check(time.monotonic() - start < 2 * t.scale, worker.log)


# ---- Redis ----

def test_redis_restart(t):
    """An accepted job survives Redis' kill -9, and the result of one that was running arrives."""
    redis = t.new_redis(*DURABLE)
    worker = t.worker("--no-allow-volatile-redis", slots=1, redis=redis)
    worker.submit(sleeper("mid", 1))
    running(t, worker, "mid")
    worker.submit(echo("queued"))
    redis.kill()
    time.sleep(1.5)
    redis.start(10 * t.scale)
    worker.client = redis.client()
    t.eventually(lambda: worker.client("EXISTS", f"{PREFIX}:result:mid"), f"the result\n{worker.log}", 20)
    t.equal(settled(t, worker, "mid", "exited")["attempt"], 1)
    settled(t, worker, "queued", "exited")
    nothing_open(t, worker.client)
    t.contains(worker.log, "redis", worker.log)
    t.equal(worker.stop(), 0, worker.log)


def test_redis_unreachable_at_start(t):
    """It retries and says so, without filling the log; and works once Redis is there."""
    redis = t.redis
    redis.kill()
    argv = [t.petri.binary, "worker", "--redis", redis.url, "--name", "test", "--slots", "1", "--allow-volatile-redis"]
    with open(t.path("log"), "wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=t.petri.env())
    t.defer(lambda: (process.terminate(), process.wait(40)))

    def said():
        with open(t.path("log"), encoding="utf-8") as f:
            return f.read()
    t.eventually(lambda: "retry" in said(), "it says that it retries", 10)
    time.sleep(2)
    t.equal(process.poll(), None, said())
    t.contains(said(), redis.socket)
    t.check(len(said().splitlines()) < 10, said())
    redis.start(10 * t.scale)
    with redis.client() as client:
        client("XADD", f"{PREFIX}:jobs", "*", "job", json.dumps(echo("late")))
        t.check(client("BLPOP", f"{PREFIX}:done:late", 15 * t.scale), said())
    process.terminate()
    t.equal(process.wait(20 * t.scale), 0, said())


def test_redis_never_there(t):
    """SIGTERM ends a worker that never had a Redis; the clients say what is wrong."""
    redis = t.redis
    redis.kill()
    argv = [t.petri.binary, "worker", "--redis", redis.url, "--slots", "1"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env=t.petri.env())
    time.sleep(0.7 * min(t.scale, 4))
    process.terminate()
    said = process.communicate(timeout=20 * t.scale)[0].decode()
    t.equal(process.returncode, 0, said)
    for words in (("status", "x"), ("cancel", "x")):
        run = call(t, *words)
        t.check(run.code not in (0, None), run)
        t.contains(run.err, redis.socket, run)


def test_volatile_redis_is_refused(t):
    worker = t.worker("--no-allow-volatile-redis", wait=False)
    t.check(worker.process.wait(20 * t.scale) == 125, worker.log)
    t.contains(worker.log, "--allow-volatile-redis", worker.log)


def test_password(t):
    """It comes in the environment and never shows; with a wrong one the worker ends and says so."""
    client = t.redis.client()
    t.defer(client.close)
    client("CONFIG", "SET", "requirepass", "sesame")
    said = {}

    def start(name, password):
        with open(t.path(name), "wb") as log:
            argv = [t.petri.binary, "worker", "--name", name, "--slots", "1", "--allow-volatile-redis"]
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=t.petri.env(
                extra={"PETRI_REDIS": f"unix://{password}{t.redis.socket}"}))
        t.defer(lambda: (process.terminate(), process.wait(40 * t.scale)))
        return process

    def log(name):
        with open(t.path(name), encoding="utf-8") as f:
            said[name] = f.read()
        return said[name]
    for name, password in (("none", ""), ("bad", "default:parsley@")):
        t.equal(start(name, password).wait(20 * t.scale), 125, log(name))
        t.contains(log(name), "PETRI_REDIS")
    good = start("good", "default:sesame@")
    t.eventually(lambda: client("EXISTS", f"{PREFIX}:worker:good"), f"a heartbeat\n{log('good')}", 20)
    with open(f"/proc/{good.pid}/cmdline", "rb") as f:
        t.check(b"sesame" not in f.read())
    client("XADD", f"{PREFIX}:jobs", "*", "job", json.dumps(echo("secret")))
    t.check(client("BLPOP", f"{PREFIX}:done:secret", 15 * t.scale), log("good"))
    shown = log("good") + log("bad") + client("GET", f"{PREFIX}:result:secret")
    t.check("sesame" not in shown and "parsley" not in shown, shown)


def test_environment_of_the_worker_stays_outside(t):
    worker = t.worker(env={"SECRET": "password"})
    t.equal(set(x.split("=")[0] for x in worker.do({"id": "env",
                                                    "argv": ["/usr/bin/env"]})["stdout"]["data"].splitlines()),
                                                    {"PATH", "HOME"})


# ---- state ----

def test_nothing_accumulates(t):
    """Descriptors, processes and leaves after many jobs of every kind are what they were after the first."""
    worker = t.worker(slots=2)

    def round_of(n):
        for i, (argv, more) in enumerate(((["/bin/echo"], {}), (["/no/such"], {}), (["/usr/bin/yes"], {}),
                                          (["/bin/sh", "-c", "kill -9 $$"], {}),
                                          (["/bin/sleep", "9"], {"limits": {"wall_ms": 50}}), ([], {}),
                                          (["/bin/sh", "-c", "echo > f"], {"collect": ["/work/f"], "commit": "/work"}),
                                          (["/bin/cat"], {"stdin": {"data": "x" * 100000}}),
                                          (["/bin/true"], {"files": {"/work/a": {"data": "x"}}}),
                                          (["/usr/bin/python3", "-c",
                                            "import ctypes; ctypes.CDLL(None).unshare(0x10000000)"], {}))):
            worker.do({"id": f"n{n}-{i}", "argv": argv, **more})
    for n in range(2):
        round_of(n)
    time.sleep(0.3)
    before = worker.fd_count(), len(worker.pids())
    for n in range(2, 8):
        round_of(n)

    def same():
        return worker.fd_count() <= before[0] + 1 and len(worker.pids()) <= before[1]
    t.eventually(same, f"{before} before, {worker.fd_count(), len(worker.pids())} after")


if __name__ == "__main__":
    main(globals())
