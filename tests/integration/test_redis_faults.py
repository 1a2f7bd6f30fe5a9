"""Redis going away in every way: what runs finishes, its result waits, and nothing is fetched that cannot be finished."""
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

from lib import PREFIX, main
from lib_leaks import die_with_parent
from lib_redis import Redis, RedisError

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")


def echo(name, text="hi", **more):
    return {"id": name, "argv": ["/bin/echo", text], **more}


def sleeper(name, seconds, **more):
    return {"id": name, "argv": ["/bin/sh", "-c", f"sleep {seconds}; echo slept"], **more}


def running(t, client, name):
    t.eventually(lambda: client("EXISTS", f"{PREFIX}:state:{name}"), f"{name} runs", 10)


def once(t, worker, name, attempt=1, timeout=30.0):
    """One result, of the first attempt, and nothing left."""
    result = worker.result(name, timeout)
    t.equal((result["id"], result["status"], result["attempt"]), (name, "exited", attempt), f"{result}\n{worker.log[-3000:]}")
    return result


def nothing_open(t, client):
    t.equal((client("XLEN", f"{PREFIX}:jobs"), client("XPENDING", f"{PREFIX}:jobs", "petri")[0]), (0, 0))


def kept(t, name="test"):
    """Files of results that wait on disk."""
    try:
        return [f for f in os.listdir(os.path.join(t.state, "spool", f"results-{name}")) if not f.endswith(".new")]
    except FileNotFoundError:
        return []


# ---- it refuses writes ----

def refuses(t, redis, refuse, allow, waits=True):
    """A job runs while Redis refuses; its result arrives afterwards, and what came meanwhile runs then, once."""
    worker = t.worker(slots=1, redis=redis)
    worker.submit(sleeper("mid", 0.7))
    running(t, worker.client, "mid")
    worker.submit(echo("next"))
    with redis.client() as client:
        refuse(client)
        time.sleep(1.5)
        if waits:
            t.equal(client("EXISTS", f"{PREFIX}:result:mid"), 0, "it was to refuse")
            t.equal(client("XPENDING", f"{PREFIX}:jobs", "petri")[0], 1, "something was fetched that could not be finished")
            t.equal(len(kept(t)), 1, worker.log)
        allow(client)
    t.equal(once(t, worker, "mid")["stdout"]["data"], "slept\n")
    once(t, worker, "next")
    nothing_open(t, worker.client)
    t.eventually(lambda: not kept(t), "the kept result goes")
    return worker


def test_oom(t):
    """FINISH frees before it writes, so that a full Redis takes results; submitting is refused."""
    def refuse(client):
        client("CONFIG", "SET", "maxmemory", "1")
        try:
            client("XADD", f"{PREFIX}:jobs", "*", "job", "{}")
        except RedisError as e:
            t.contains(str(e), "OOM")
        else:
            t.check(False, "Redis was to be full")
    refuses(t, t.redis, refuse, lambda client: client("CONFIG", "SET", "maxmemory", "0"), waits=False)


def test_readonly(t):
    refuses(t, t.redis, lambda client: client("REPLICAOF", "127.0.0.1", "1"), lambda client: client("REPLICAOF", "NO", "ONE"))


def test_misconf(t):
    """A snapshot that cannot be written: stop-writes-on-bgsave-error."""
    redis = t.new_redis("--enable-protected-configs", "yes")

    def refuse(client):
        os.mkdir(os.path.join(redis.dir, "blocked.rdb"))  # what is renamed over it fails
        client("CONFIG", "SET", "save", "3600 1")
        client("CONFIG", "SET", "dbfilename", "blocked.rdb")
        client("BGSAVE")
        t.eventually(lambda: "rdb_last_bgsave_status:err" in client("INFO", "persistence"), "the snapshot fails")

    def allow(client):
        client("CONFIG", "SET", "save", "")
    worker = refuses(t, redis, refuse, allow)
    t.contains(worker.log, "MISCONF")


def test_loading(t):
    """Killed, and slow to read its file: LOADING is no reason to give up."""
    redis = t.new_redis(*DURABLE, "--loading-process-events-interval-bytes", "1024")
    worker = t.worker(slots=1, redis=redis)
    with redis.client() as client:
        for i in range(0, 20000, 1000):
            client.pipeline([("SET", f"ballast:{k}", "x" * 100) for k in range(i, i + 1000)])
        client("BGREWRITEAOF")
        t.eventually(lambda: "aof_rewrite_in_progress:0" in client("INFO", "persistence"), "the file is rewritten", 20)
    worker.submit(sleeper("mid", 0.5))
    running(t, worker.client, "mid")
    redis.kill()
    redis.options += ["--key-load-delay", "100"]
    seen = []

    def look():
        while not seen or seen[-1] != "PONG":
            try:
                with Redis(redis.socket, 5) as client:
                    seen.append(str(client("PING")))
            except (RedisError, OSError) as e:
                seen.append(str(e))
            time.sleep(0.01)
    looker = threading.Thread(target=look)
    looker.start()
    redis.start(30 * t.scale)
    looker.join(30)
    t.check(any("LOADING" in s for s in seen), set(seen))
    worker.client = redis.client()
    once(t, worker, "mid")
    nothing_open(t, worker.client)


# ---- it answers slowly ----

def test_stopped_for_a_while(t):
    worker = t.worker(slots=2)
    worker.submit(sleeper("mid", 0.3))
    running(t, worker.client, "mid")
    pid = t.redis.process.pid
    os.kill(pid, signal.SIGSTOP)
    t.eventually(lambda: kept(t), "the result is kept on disk")
    time.sleep(1)
    os.kill(pid, signal.SIGCONT)
    once(t, worker, "mid")
    t.equal(worker.do(echo("after"))["stdout"]["data"], "hi\n")
    nothing_open(t, worker.client)


def test_stopped_for_long(t):
    """Longer than a worker waits for an answer: it connects again, and every answer may come twice."""
    worker = t.worker(slots=2)
    worker.submit(sleeper("mid", 0.3))
    running(t, worker.client, "mid")
    pid = t.redis.process.pid
    os.kill(pid, signal.SIGSTOP)
    time.sleep(12)
    os.kill(pid, signal.SIGCONT)
    once(t, worker, "mid")
    t.equal(worker.do(echo("after"))["stdout"]["data"], "hi\n")
    t.equal(worker.client("LLEN", f"{PREFIX}:done:mid"), 0)
    nothing_open(t, worker.client)
    t.contains(worker.log, "no answer")


def test_slow(t):
    """Every answer takes half a second, by DEBUG SLEEP between them."""
    redis = t.new_redis("--enable-debug-command", "yes")
    worker = t.worker(slots=2, redis=redis)
    stop = threading.Event()

    def slow():
        with redis.client() as client:
            while not stop.is_set():
                client("DEBUG", "SLEEP", "0.5")
    thread = threading.Thread(target=slow)
    thread.start()
    try:
        for i in range(3):
            once(t, worker, worker.submit(echo(f"slow{i}")))
    finally:
        stop.set()
        thread.join()
    nothing_open(t, worker.client)


# ---- it drops the connection ----

class Proxy(threading.Thread):
    """Between a worker and its Redis. When armed it closes everything after so many more bytes to the worker, or to Redis."""

    def __init__(self, t, redis, name):
        super().__init__(daemon=True)
        self.redis, self.path = redis, os.path.join(redis.dir, name + ".sock")
        self.url = "unix://" + self.path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o777)
        self.listener.listen(16)
        self.peer, self.to_worker, self.left, self.passed = {}, set(), None, [0, 0]
        self.direction = 0  # 0: bytes to the worker count, 1: bytes to Redis
        self.lock, self.ended = threading.Lock(), False
        t.defer(self.end)
        self.start()

    def client(self, timeout=60.0, raw=False):
        return self.redis.client(timeout, raw)

    def arm(self, after, direction=0):
        with self.lock:
            self.left, self.direction = after, direction

    def end(self):
        self.ended = True
        self.join(5)
        self.cut()
        self.listener.close()

    def cut(self):
        for s in list(self.peer):
            s.close()
        self.peer.clear()
        self.to_worker.clear()
        self.left = None

    def accept(self):
        worker, _ = self.listener.accept()
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.connect(self.redis.socket)
        except OSError:
            worker.close()
            return
        self.peer[worker], self.peer[server] = server, worker
        self.to_worker.add(server)  # what is read from it goes to the worker

    def forward(self, s):
        """False when everything is to be cut."""
        data = s.recv(65536)
        direction = 0 if s in self.to_worker else 1
        if not data:
            return False
        with self.lock:
            counts = self.left is not None and direction == self.direction
            cut = counts and len(data) >= self.left
            if cut:
                data = data[:self.left]
            elif counts:
                self.left -= len(data)
            self.passed[direction] += len(data)
        self.peer[s].sendall(data)
        return not cut

    def run(self):
        while not self.ended:
            ready, _, _ = select.select([self.listener, *self.peer], [], [], 0.1)
            for s in ready:
                try:
                    if s is self.listener:
                        self.accept()
                    elif s in self.peer and not self.forward(s):
                        self.cut()
                        break
                except OSError:
                    self.cut()
                    break


def cut_everywhere(t, direction):
    """A connection that breaks after every number of bytes of a job's life: one result each, from the first attempt.

    PETRI_FAULTS_STEP=1 in the environment tries every number; else every seventh, beginning elsewhere each time."""
    step = int(os.environ.get("PETRI_FAULTS_STEP", "7"))
    redis = t.redis
    proxy = Proxy(t, redis, "proxy")
    worker = t.worker("--lease", "60s", slots=4, redis=proxy)
    once(t, worker, worker.submit(echo("warm")))
    time.sleep(0.2)
    before = proxy.passed[direction]
    once(t, worker, worker.submit(echo("life", reply="front")))
    life = proxy.passed[direction] - before
    t.check(life > 100, life)
    first = os.getpid() % step
    for n in range(first, life + 60, step):
        name = f"n{n}"
        proxy.arm(n + 1, direction)
        worker.submit(echo(name, reply="front"))
        once(t, worker, name)
        proxy.arm(None)
        t.equal(worker.client("LLEN", f"{PREFIX}:done:{name}"), 0, name)
    t.eventually(lambda: worker.client("XLEN", f"{PREFIX}:jobs") == 0, "nothing is left")
    nothing_open(t, worker.client)
    results = worker.client("XLEN", f"{PREFIX}:results:front")
    t.equal(results, 1 + len(range(first, life + 60, step)))
    t.check("is not ours any more" not in worker.log, worker.log[-2000:])


def test_cut_towards_the_worker(t):
    cut_everywhere(t, 0)


def test_cut_towards_redis(t):
    cut_everywhere(t, 1)


# ---- the worker dies meanwhile ----

def test_results_outlive_a_killed_worker(t):
    """kill -9 of all of it while Redis is away: the next worker delivers, and runs nothing."""
    redis = t.new_redis(*DURABLE)
    worker = t.worker("--lease", "60s", slots=4, redis=redis)
    for i in range(4):
        worker.submit(sleeper(f"s{i}", 0.5, reply="front", meta={"n": i}))
    for i in range(4):
        running(t, worker.client, f"s{i}")
    redis.kill()
    t.eventually(lambda: len(kept(t)) > 0, "results are kept", 10)
    time.sleep(0.5)
    worker.kill_all()
    redis.start()
    second = t.worker("--lease", "60s", slots=4, redis=redis)
    for i in range(4):
        t.equal(once(t, second, f"s{i}")["meta"], {"n": i})
    t.equal(second.client("HGET", f"{PREFIX}:worker:test", "fetched"), "0", second.log)
    t.equal(second.client("XLEN", f"{PREFIX}:results:front"), 4)
    nothing_open(t, second.client)
    t.eventually(lambda: not kept(t), "what was delivered is kept no more")
    t.equal(second.do(echo("after"))["stdout"]["data"], "hi\n")


def test_results_outlive_the_workers_process(t):
    """Only the unprivileged part is killed: its supervisor starts it again, over and over while Redis is away."""
    redis = t.new_redis(*DURABLE)
    worker = t.worker("--lease", "60s", slots=1, redis=redis)
    worker.submit(sleeper("mid", 0.3))
    running(t, worker.client, "mid")
    redis.kill()
    t.eventually(lambda: kept(t), "the result is kept", 10)
    for _ in range(2):
        victim = [p for p in worker.pids() if _comm(p) == "petri-worker"]
        os.kill(victim[0], signal.SIGKILL)
        t.eventually(lambda v=victim: any(_comm(p) == "petri-worker" and p not in v for p in worker.pids()), "a new one", 15)
    t.equal(len(kept(t)), 1)
    redis.start()
    worker.client = redis.client()
    once(t, worker, "mid")
    nothing_open(t, worker.client)


def _comm(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
            return f.read().strip()
    except OSError:
        return ""


def test_stopping_while_redis_is_away(t):
    """SIGTERM: what could not be delivered is kept, and said to be."""
    redis = t.new_redis(*DURABLE)
    worker = t.worker("--lease", "60s", "--grace", "1s", slots=1, redis=redis)
    worker.submit(sleeper("mid", 0.3))
    running(t, worker.client, "mid")
    redis.kill()
    t.eventually(lambda: kept(t), "the result is kept", 10)
    worker.stop()
    t.contains(worker.log, "they are kept for the next worker of this name")
    redis.start()
    once(t, t.worker("--lease", "60s", slots=1, redis=redis), "mid")


def test_two_workers_of_one_name(t):
    """The second has no spool, says so, and works."""
    t.worker(slots=1)
    other = t.worker(slots=1)  # the same name and state directory
    t.eventually(lambda: "another worker of this name" in other.log, "it says so")
    once(t, other, other.submit(echo("a")))


def test_empty_redis(t):
    """It comes back with nothing at all: groups are made again, the client's result is written all the same."""
    redis = t.new_redis()
    worker = t.worker(slots=1, redis=redis)
    worker.submit(sleeper("mid", 0.5))
    running(t, worker.client, "mid")
    redis.kill()
    t.eventually(lambda: kept(t), "the result is kept", 10)
    redis.start()
    worker.client = redis.client()
    once(t, worker, "mid")
    t.equal(worker.do(echo("after"))["stdout"]["data"], "hi\n")
    nothing_open(t, worker.client)


# ---- accounts ----

def test_account(t):
    """A user of its own, with no more rights than docs/clients.md lists for a worker."""
    with t.redis.client() as client:
        client("ACL", "SETUSER", "petri", "on", ">sesame", f"~{PREFIX}:*", f"&{PREFIX}:*", "+@read", "+@write", "+@stream", "+@scripting",
               "+@transaction", "+@pubsub", "+@connection", "+info", "-@dangerous", "+info", "+role")
    url = f"unix://petri:sesame@{t.redis.socket}"
    with open(t.path("account"), "wb") as log:
        process = subprocess.Popen([t.petri.binary, "worker", "--name", "account", "--slots", "1"], stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log, env=t.petri.env(extra={"PETRI_REDIS": url}), preexec_fn=die_with_parent)
    t.defer(lambda: (process.terminate(), process.wait(40 * t.scale)))

    def said():
        with open(t.path("account"), encoding="utf-8") as f:
            return f.read()
    with t.redis.client() as client:
        t.eventually(lambda: client("EXISTS", f"{PREFIX}:worker:account"), f"a heartbeat\n{said()}", 20)
        job = t.write("job.json", '{"id": "acl", "argv": ["/bin/echo", "hi"]}')
        run = t.petri.call("submit", "--wait", job, env={"PETRI_REDIS": url})
        t.equal(run.code, 0, f"{run}\n{said()}")
        t.contains(run.out, '"exited"')
    t.contains(said(), "CONFIG is denied")


# ---- Sentinel ----

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Group:
    """A master, a replica and three sentinels on loopback ports."""

    def __init__(self, t):
        program = shutil.which("redis-server") or t.skip("redis-server")
        self.t, self.processes, self.ports = t, {}, [free_port(), free_port()]
        self.sentinels = [free_port() for _ in range(3)]
        self.program = program
        for i, port in enumerate(self.ports):
            self.start(i, ["--replicaof", "127.0.0.1", str(self.ports[0])] if i else [])
        for port in self.sentinels:
            conf = t.write(f"sentinel-{port}.conf", f"port {port}\nbind 127.0.0.1\ndir {t.tmp}\nsentinel monitor m 127.0.0.1 {self.ports[0]} 2\n"
                           "sentinel down-after-milliseconds m 500\nsentinel failover-timeout m 2000\nsentinel parallel-syncs m 1\n")
            self.spawn(f"sentinel-{port}", [program, conf, "--sentinel"])
        self.url = "sentinel://" + ",".join(["127.0.0.1:1", *(f"127.0.0.1:{p}" for p in self.sentinels)]) + "/m"
        t.eventually(self.agreed, "the sentinels know each other and the replica", 30)

    def spawn(self, name, argv):
        with open(self.t.path(name + ".log"), "ab") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        self.processes[name] = process
        self.t.defer(lambda: (process.kill(), process.wait()))

    def start(self, i, more=()):
        directory = self.t.path(f"node-{i}")
        os.makedirs(directory, exist_ok=True)
        self.spawn(f"node-{i}", [self.program, "--port", str(self.ports[i]), "--bind", "127.0.0.1", "--dir", directory, "--save", "",
                                 *DURABLE, "--repl-diskless-sync-delay", "0", *more])

    def on(self, port):
        return TcpRedis(port)

    def agreed(self):
        try:
            for port in self.sentinels:
                with self.on(port) as s:
                    reply = s("SENTINEL", "MASTER", "m")
                    facts = dict(zip(reply[::2], reply[1::2]))
                    if facts["num-other-sentinels"] != "2" or facts["num-slaves"] != "1" or facts["flags"] != "master":
                        return False
            with self.on(self.ports[1]) as replica:
                return replica("ROLE")[3] == "connected"
        except (OSError, RedisError):
            return False

    def master(self):
        with self.on(self.sentinels[0]) as s:
            return int(s("SENTINEL", "get-master-addr-by-name", "m")[1])

    def client(self, timeout=60.0, raw=False):
        return TcpRedis(self.master(), timeout, raw)


class TcpRedis(Redis):
    def __init__(self, port, timeout=10.0, raw=False):
        self.raw = raw
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.buf = self.sock.makefile("rb")


def test_failover(t):
    """The master is killed, the replica promoted: jobs go on, and what both had is neither lost nor run again."""
    group = Group(t)
    worker = t.worker("--no-allow-volatile-redis", "--lease", "60s", slots=2, redis=group)
    once(t, worker, worker.submit(echo("before")))
    worker.submit(sleeper("mid", 1))
    running(t, worker.client, "mid")
    t.equal(worker.client("WAIT", "1", "2000"), 1, "the replica has it")
    old = group.master()
    group.processes["node-0"].kill()
    group.processes["node-0"].wait()
    t.eventually(lambda: group.master() != old, "another master", 30)
    worker.client = group.client()
    t.eventually(lambda: worker.client("ROLE")[0] == "master", "promoted", 20)
    once(t, worker, "mid")
    once(t, worker, worker.submit(echo("after")))
    nothing_open(t, worker.client)
    # The clients find it, too.
    job = t.write("job.json", '{"id": "by-petri", "argv": ["/bin/echo", "hi"]}')
    t.equal(t.petri.call("submit", "--wait", "--redis", group.url, job).code, 0)
    # The old one comes back as a replica, and is made master by hand: the worker follows where it is told "read-only".
    group.start(0)
    t.eventually(lambda: roles(group) == ["slave", "master"], "it is a replica now", 30)
    with group.on(group.sentinels[1]) as s:
        t.eventually(lambda: replica_known(s), "a sentinel knows it", 30)
        t.eventually(lambda: failover(s), "a failover by hand", 30)
    t.eventually(lambda: roles(group) == ["master", "slave"] and group.master() == old, "it is master again", 40)
    worker.client = group.client()
    once(t, worker, worker.submit(echo("back")))
    nothing_open(t, worker.client)


def replica_known(s):
    replicas = [dict(zip(r[::2], r[1::2])) for r in s("SENTINEL", "REPLICAS", "m")]
    return len(replicas) == 1 and replicas[0]["flags"] == "slave" and replicas[0]["master-link-status"] == "ok"


def failover(s):
    try:
        return s("SENTINEL", "FAILOVER", "m") == "OK"
    except RedisError:
        return False


def roles(group):
    found = []
    for port in group.ports:
        try:
            with group.on(port) as r:
                found.append(r("ROLE")[0])
        except (OSError, RedisError):
            found.append(None)
    return found


def test_sentinels_that_name_a_replica(t):
    """ROLE is checked: nothing is fetched from a server that is no master."""
    group = Group(t)
    port = free_port()
    conf = t.write("liar.conf", f"port {port}\nbind 127.0.0.1\ndir {t.tmp}\nsentinel monitor m 127.0.0.1 {group.ports[1]} 2\n"
                   "sentinel down-after-milliseconds m 60000\n")
    group.spawn("liar", [group.program, conf, "--sentinel"])
    group.url = f"sentinel://127.0.0.1:{port}/m"
    worker = t.worker(slots=1, redis=group, wait=False)
    t.eventually(lambda: "no master" in worker.log, worker.log, 20)
    run = t.petri.call("status", "--redis", group.url, "x")
    t.check(run.code not in (0, None), run)
    t.contains(run.err, "no master", run)


def test_socket_of_another(t):
    """The worker is not root, and says so; it goes on once it is let in."""
    redis = t.new_redis("--unixsocketperm", "700")
    worker = t.worker(redis=redis, wait=False)
    t.eventually(lambda: "Permission denied to uid and gid 2147287040" in worker.log, "the reason", 20)
    os.chmod(redis.socket, 0o777)
    t.equal(worker.do({"argv": ["/bin/true"]}, 30)["status"], "exited")


if __name__ == "__main__":
    main(globals())
