#!/usr/bin/python3
"""The worker's configuration from outside: one file, the environment over it, flags over both; credentials; logs as JSON."""
import json
import os
import re

from lib import main

FILE = """# a worker
redis = unix:///run/redis/redis.sock
slots = 3        # three
lease = 10s
[max_limits]
memory = 512M
"""


def check(t, *args, env=None):
    return t.petri.call("worker", "--check-config", *args, env=env)


def settings(run):
    """{name: (value, where it is from)} of what --check-config prints."""
    found = {}
    for line in run.out.splitlines():
        match = re.match(r"(\S+) = (.*?) +# (.*)$", line)
        if match:
            found[match[1]] = (match[2], match[3])
    return found


def test_precedence(t):
    path = t.write("worker.conf", FILE)
    run = check(t, "--config", path, "--slots", "7", env={"PETRI_WORKER_SLOTS": "5", "PETRI_WORKER_LEASE": "20s", "PETRI_WORKER_MAX_PIDS": "9"})
    t.equal((run.code, run.err), (0, ""), run)
    found = settings(run)
    t.equal(found["slots"], ("7", "--slots"))
    t.equal(found["lease"], ("20s", "PETRI_WORKER_LEASE"))
    t.equal(found["redis"], ("unix:///run/redis/redis.sock", f"{path}:2"))
    t.equal(found["memory"], ("512M", f"{path}:6"))
    t.equal(found["pids"], ("9", "PETRI_WORKER_MAX_PIDS"))
    t.equal(found["grace"], ("30s", "default"))
    t.equal(settings(check(t, env={"PETRI_WORKER_CONFIG": path}))["slots"], ("3", f"{path}:3"))
    # What is printed is a file itself, and means the same.
    again = settings(check(t, "--config", t.write("again.conf", run.stdout)))
    t.equal({k: v[0] for k, v in again.items()}, {k: v[0] for k, v in found.items()})


def test_default_file(t):
    run = t.petri.call("worker", "--print-config")
    t.equal((run.code, run.err), (0, ""), run)
    path = t.write("worker.conf", run.stdout)
    t.equal(check(t, "--config", path).code, 0)
    for name in settings(check(t)):
        t.check(re.search(rf"^#{re.escape(name)} = ", run.out, re.M), name)


def test_mistakes_are_named(t):
    for text, mention in (("slots = 3\nslot = 4\n", ":2: unknown setting 'slot'"), ("slots = many\n", ":1: slots: "),
                          ("\nlease = 1ms\n", ":2: lease: "), ("[max_limits]\nmemory_bytes = 1\n", ":2: "),
                          ('{"slots": 3,\n "slot": 4}', ":2: unknown setting 'slot'"), ('{"slots":\n', "not a JSON object"),
                          ("prefix = a/b\n", ":1: prefix: "), ("redis = redis://u:geheim@h\n", ":1: redis: ")):
        path = t.write("worker.conf", text)
        run = check(t, "--config", path)
        t.equal((run.code, run.out), (125, ""), run)
        t.contains(run.err, path, run)
        t.contains(run.err, mention, run)
        t.check("geheim" not in run.err, run)
        t.equal(t.petri.call("worker", "--config", path).code, 125)
    run = check(t, env={"PETRI_WORKER_SLOT": "3"})
    t.equal(run.code, 125, run)
    t.contains(run.err, "PETRI_WORKER_SLOT", run)
    t.equal(check(t, "--config", t.path("nowhere")).code, 125)


def test_json_file_is_still_taken(t):
    path = t.write("worker.json", json.dumps({"slots": 3, "lease": "5s", "pin": True, "max_limits": {"wall_ms": 1000}}))
    found = settings(check(t, "--config", path))
    t.equal((found["slots"][0], found["lease"][0], found["pin"][0], found["wall"][0]), ("3", "5s", "true", "1s"))


def secret_redis(t):
    redis = t.new_redis()
    with redis.client() as r:
        r("ACL", "SETUSER", "petri", "on", ">geheim #1", "~*", "&*", "+@all")
        r("ACL", "SETUSER", "default", "off")
    return redis


def test_credentials_file(t):
    redis = secret_redis(t)
    path = t.write("credentials", '# of the worker\nuser = petri\npassword = "geheim #1"\n', 0o600)
    worker = t.worker("--redis-credentials-file", path, redis=redis, wait=False)
    where = ("--redis", redis.url)
    job = t.write("job.json", '{"id": "j", "argv": ["/bin/echo", "hi"]}')
    run = t.petri.call("submit", *where, "--redis-credentials-file", path, "--wait", "--timeout", "20s", job)
    t.equal(run.code, 0, str(run) + worker.log)
    t.equal(json.loads(run.out)["stdout"]["data"], "hi\n")
    status = t.petri.call("status", *where, "j", env={"PETRI_REDIS_CREDENTIALS_FILE": path})
    t.equal(json.loads(status.out)["state"], "done", status)
    t.check(t.petri.call("status", *where, "j").code != 0, "without credentials")
    for pid in worker.pids():
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            t.check(b"geheim" not in f.read(), pid)
    t.check("geheim" not in worker.log, worker.log)
    worker.client = redis.client()  # for stop(), which closes it


def test_credentials_file_is_private(t):
    good = 'password = "geheim"\n'
    for text, mode, mention in ((good, 0o644, "others may read"), (good, 0o640, "others may read"), (good, 0o602, "others may"),
                                ("geheim\n", 0o600, ":1: "), ("user = petri\n", 0o600, "no password"), (good + good, 0o600, "twice"),
                                ("secret = geheim\n", 0o600, "nothing else"), ("[a]\n" + good, 0o600, "nothing else"), ('password = ""', 0o600, "empty"),
                                ("x" * 5000, 0o600, "too large")):
        path = t.write("credentials", text, mode)
        for run in (check(t, "--redis-credentials-file", path), t.petri.call("status", "--redis-credentials-file", path, "x")):
            t.check(run.code != 0, f"{text!r} {mode:o} {run}")
            t.contains(run.err, mention, run)
            t.check("geheim" not in run.err + run.out, run)
    path = t.write("credentials", good, 0o600)
    run = check(t, "--redis-credentials-file", path)
    t.equal(run.code, 0, run)
    t.check("geheim" not in run.out, run)
    run = check(t, "--redis-credentials-file", path, env={"PETRI_REDIS": "redis://a:b@h"})
    t.equal(run.code, 125, run)
    t.contains(run.err, "one of them has to go", run)
    os.chown(path, 12345, 12345)
    t.contains(check(t, "--redis-credentials-file", path).err, "belongs to another user")
    os.mkfifo(t.path("fifo"), 0o600)
    t.contains(check(t, "--redis-credentials-file", t.path("fifo")).err, "not a regular file")
    run = check(t, env={"PETRI_REDIS": "redis://petri:geheim@h"})
    t.equal(run.code, 0, run)
    t.check("geheim" not in run.out, run)


def test_needs_no_rights(t):
    """--check-config and --print-config are for everybody who may read the file."""
    os.chmod(t.tmp, 0o755)
    path = t.write("worker.conf", FILE)
    for args in (["--check-config", "--config", path], ["--print-config"]):
        pid = os.fork()
        if pid == 0:
            os.setuid(65534)
            os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
            os.execv(t.petri.binary, [t.petri.binary, "worker", *args])
        t.equal(os.waitpid(pid, 0)[1], 0, args)


def test_logs_as_json(t):
    worker = t.worker("--log-format", "json", "--log-level", "debug")
    t.equal(worker.do({"id": "a", "argv": ["/bin/true"]})["status"], "exited")
    worker.stop()
    records = [json.loads(line) for line in worker.log.splitlines()]
    t.check(records, "nothing was logged")
    for record in records:
        t.check({"time", "level", "process", "pid", "message"} <= set(record), record)
    t.check("petri-worker" in {r["process"] for r in records}, records)
    t.check(any(r.get("job") == "a" for r in records), records)


if __name__ == "__main__":
    main(globals())
