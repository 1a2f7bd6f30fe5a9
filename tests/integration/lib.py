"""Helpers of the integration tests, which drive the built `petri` from outside.

A test file is tests/integration/test_X.py:

    from lib import main

    def test_echo(t):
        run = t.petri.run("--", "/bin/echo", "hi")
        t.equal(run.out, "hi\\n")

    if __name__ == "__main__":
        main(globals())

    python3 test_X.py --list      the names of its cases, one a line
    python3 test_X.py CASE        run one; then the leak check (lib_leaks.py)
                                  exit 0: good, 1: failed, 77: skipped, and it says what was missing

Each case gets a Case `t` with everything of its own: a temporary directory, a state directory, and on demand a
redis-server and workers, which are stopped when it ends. PETRI_BIN names the program; PETRI_TEST_SCALE (a
number, default 1) multiplies every time limit, for emulated and overloaded machines. Needs root, as petri does.
"""
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from lib_leaks import Snapshot, become_subreaper, descendants, die_with_parent, kill_descendants, unmount_beneath
from lib_redis import Redis, RedisError, RedisServer  # noqa: F401 (offered to the tests)

SCALE = float(os.environ.get("PETRI_TEST_SCALE") or 1)
SKIPPED = 77
# The key names of design.md, section 4.
PREFIX = "petri"


class Skip(Exception):
    """Raised by a case that cannot run here; the message says what is missing."""


class Run:
    """How a `petri` command ended. stdout and stderr are bytes, out and err the same as text."""

    def __init__(self, argv, code, stdout, stderr, result, seconds):
        self.argv, self.code, self.stdout, self.stderr = argv, code, stdout, stderr
        self.result, self.seconds = result, seconds

    @property
    def out(self):
        return self.stdout.decode("utf-8", "replace")

    @property
    def err(self):
        return self.stderr.decode("utf-8", "replace")

    @property
    def status_line(self):
        """The one line on stderr that begins "petri: status="; "" when there is none."""
        return next((x for x in self.err.splitlines() if x.startswith("petri: status=")), "")

    @property
    def status(self):
        """From --result, which is authoritative; else from the status line."""
        if self.result:
            return self.result["status"]
        return self.status_line.partition("status=")[2].partition(" ")[0]

    def __str__(self):
        return (f"{' '.join(self.argv)}\n  code {self.code} after {self.seconds:.2f} s\n"
                f"  stdout {self.stdout[:2000]!r}\n  stderr {self.stderr[:2000]!r}\n  result {json.dumps(self.result)[:2000]}")


def _bytes(data):
    return data.encode() if isinstance(data, str) else data


class Petri:
    """The program, with a state directory."""

    def __init__(self, state, tmp):
        self.state, self.tmp, self.numbers = state, tmp, itertools.count(1)  # next() is safe in threads
        self.binary = os.environ.get("PETRI_BIN") or ""
        if not os.access(self.binary, os.X_OK):
            raise AssertionError(f"PETRI_BIN='{self.binary}' is not a program")

    def env(self, state=None, extra=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("PETRI_")}
        env.update(PETRI_STATE=state or self.state, **(extra or {}))
        return env

    def call(self, *args, stdin=None, timeout=30.0, state=None, env=None, result=None):
        """Run `petri ARGS…` to its end. stdin: str, bytes, a file, or None for nothing."""
        argv = [self.binary, *map(str, args)]
        start = time.monotonic()
        source = {"input": _bytes(stdin)} if isinstance(stdin, (str, bytes)) else {"stdin": stdin or subprocess.DEVNULL}
        try:
            done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout * SCALE,
                                  env=self.env(state, env), cwd=self.tmp, check=False, **source)
        except subprocess.TimeoutExpired as e:
            raise AssertionError(f"no end after {timeout * SCALE:.0f} s: {' '.join(argv)}\n"
                                 f"  stdout {(e.stdout or b'')[:2000]!r}\n  stderr {(e.stderr or b'')[:2000]!r}") from None
        parsed = None
        if result and os.path.exists(result) and os.path.getsize(result):
            with open(result, encoding="utf-8") as f:
                parsed = json.load(f)
        return Run(argv, done.returncode, done.stdout, done.stderr, parsed, time.monotonic() - start)

    def run(self, *args, stdin=None, timeout=30.0, state=None, env=None):
        """`petri run --result FILE ARGS…`, with the result parsed: petri.run("--cpu", "1s", "--", "/bin/true")."""
        path = os.path.join(self.tmp, f"result-{next(self.numbers)}.json")
        return self.call("run", "--result", path, *args, stdin=stdin, timeout=timeout, state=state, env=env, result=path)

    def sh(self, script, *flags, **kwargs):
        """A shell script inside a sandbox."""
        return self.run(*flags, "--", "/bin/sh", "-c", script, **kwargs)

    def job(self, job, **kwargs):
        """`petri run --job`, from a dict (or from text that may be no JSON at all)."""
        path = os.path.join(self.tmp, f"job-{next(self.numbers)}.json")
        with open(path, "wb") as f:
            f.write(_bytes(job) if isinstance(job, (str, bytes)) else json.dumps(job).encode())
        return self.run("--job", path, **kwargs)


class Worker:
    """A running `petri worker` on a RedisServer, once its heartbeat is there."""

    def __init__(self, petri, redis, name, slots, flags, env):
        self.petri, self.redis, self.name, self.slots = petri, redis, name, slots
        self.log_path = os.path.join(petri.tmp, f"worker-{name}.log")
        argv = [petri.binary, "worker", "--redis", redis.url, "--name", name, "--slots", str(slots)]
        if "--no-allow-volatile-redis" not in flags:
            argv.append("--allow-volatile-redis")
        argv += [f for f in flags if f != "--no-allow-volatile-redis"]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=petri.env(extra=env), cwd=petri.tmp, preexec_fn=die_with_parent)
        self.client = redis.client()

    @property
    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def wait_ready(self, timeout=20.0):
        deadline = time.monotonic() + timeout * SCALE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the worker ended with code {self.process.returncode}:\n{self.log[-3000:]}")
            if self.client("EXISTS", f"{PREFIX}:worker:{self.name}"):
                return self
            time.sleep(0.02)
        raise AssertionError(f"no heartbeat after {timeout * SCALE:.0f} s:\n{self.log[-3000:]}")

    def submit(self, job, stream=f"{PREFIX}:jobs"):
        """XADD a job as it is (dict or text); returns the id its result will have."""
        text = job if isinstance(job, (str, bytes)) else json.dumps(job)
        entry = self.client("XADD", stream, "*", "job", text)
        return job.get("id", entry) if isinstance(job, dict) else entry

    def result(self, job_id, timeout=30.0):
        """Wait for the result and return it parsed."""
        with self.redis.client(timeout=timeout * SCALE + 5) as r:
            if r("BLPOP", f"{PREFIX}:done:{job_id}", timeout * SCALE) is None:
                raise AssertionError(f"no result of {job_id} after {timeout * SCALE:.0f} s:\n{self.log[-3000:]}")
            return json.loads(r("GET", f"{PREFIX}:result:{job_id}"))

    def do(self, job, timeout=30.0):
        return self.result(self.submit(job), timeout)

    def pids(self):
        """The supervisor and everything beneath it."""
        return [self.process.pid, *descendants(self.process.pid)]

    def fd_count(self):
        """Open fds of all of its processes, to be compared before and after some jobs."""
        total = 0
        for pid in self.pids():
            try:
                total += len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                pass
        return total

    def kill(self, sig=signal.SIGKILL):
        """End the supervisor without ceremony."""
        self.process.send_signal(sig)
        self.process.wait(35 * SCALE)

    def kill_all(self):
        """kill -9 of every process of it."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def stop(self, timeout=35.0):
        """SIGTERM, and wait. Return: the exit code; a worker that does not end is a failure."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout * SCALE)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"the worker did not stop:\n{self.log[-3000:]}") from None
        self.client.close()
        if "filter does not know" in self.log:
            raise AssertionError(f"the worker made a call that its own filter refuses:\n{self.log[-3000:]}")
        return self.process.returncode


class Case:
    """What a case is given. Fixtures are made on first use and undone in reverse order."""

    def __init__(self, tmp):
        self.tmp, self.scale = tmp, SCALE
        self.state = os.path.join(tmp, "state")
        self.petri = Petri(self.state, tmp)
        self._redis, self._undo = None, []

    @property
    def redis(self):
        if not self._redis:
            self._redis = self.new_redis()
        return self._redis

    def new_redis(self, *options):
        directory = tempfile.mkdtemp(prefix="redis-", dir=self.tmp)
        try:
            server = RedisServer(directory, options)
        except FileNotFoundError as e:
            raise Skip(str(e)) from None
        self.defer(server.stop)
        return server.start(10 * SCALE)

    def worker(self, *flags, slots=2, name="test", redis=None, wait=True, env=None):
        worker = Worker(self.petri, redis or self.redis, name, slots, flags, env)
        self.defer(worker.stop)
        return worker.wait_ready() if wait else worker

    def defer(self, undo):
        """Call undo when the case ends, whatever becomes of it; the last first."""
        self._undo.append(undo)

    def close(self):
        problems = []
        while self._undo:
            try:
                self._undo.pop()()
            except Exception:  # the rest must be undone as well
                problems.append(traceback.format_exc())
        return problems

    def path(self, name):
        return os.path.join(self.tmp, name)

    def write(self, name, data, mode=0o644):
        """A file in the case's directory; returns its path."""
        path = self.path(name)
        with open(path, "wb") as f:
            f.write(_bytes(data))
        os.chmod(path, mode)
        return path

    def compile(self, source, name="a.out", *flags):
        """Compile C with the machine's compiler; returns the path of the program. Skips without one."""
        compiler = shutil.which("gcc") or shutil.which("cc")
        if not compiler:
            raise Skip("a C compiler")
        path, c = self.path(name), self.write(name + ".c", source)
        subprocess.run([compiler, "-O1", "-o", path, c, *flags], check=True)
        return path

    @staticmethod
    def skip(what):
        raise Skip(what)

    @staticmethod
    def check(condition, detail=""):
        if not condition:
            raise AssertionError(str(detail) or "the condition does not hold")

    @staticmethod
    def equal(got, want, detail=""):
        if got != want:
            raise AssertionError(f"got {got!r}, wanted {want!r}" + (f"\n{detail}" if detail else ""))

    @staticmethod
    def contains(text, part, detail=""):
        if part not in text:
            raise AssertionError(f"no {part!r} in {text!r}" + (f"\n{detail}" if detail else ""))

    def rejected(self, run, field, reason=None):
        """The job was refused, and the refusal names the field."""
        self.equal(run.code, 125, run)
        self.equal(run.status, "rejected", run)
        self.equal((run.result or {}).get("field"), field, run)
        if reason:
            self.equal(run.result["reason"], reason, run)

    def eventually(self, condition, what, timeout=5.0):
        """Wait until condition() is true."""
        deadline = time.monotonic() + timeout * SCALE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout * SCALE:.0f} s: {what}")
            time.sleep(0.02)


def _guarded(function, case):
    """Return: (exit code, what to say)."""
    try:
        function(case)
        return 0, ""
    except Skip as e:
        return SKIPPED, f"SKIP: missing: {e}"
    except AssertionError as e:
        line = traceback.extract_tb(e.__traceback__)[1:2]
        where = f"{os.path.basename(line[0].filename)}:{line[0].lineno}: " if line else ""
        return 1, f"FAIL: {where}{e}"
    except Exception:  # a test that trips over its own feet has failed as well
        return 1, "FAIL: " + traceback.format_exc()


def _tails(directory):
    """The ends of the workers' logs: what is found after a case may have been said in them."""
    for name in sorted(os.listdir(directory)):
        if name.startswith("worker-") and name.endswith(".log"):
            with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as f:
                yield f"{name} ends with:\n{f.read()[-2000:]}"


def run_case(function):
    if os.geteuid() != 0:
        print("SKIP: missing: root (petri makes namespaces, mounts and cgroups)")
        return SKIPPED
    become_subreaper()
    tmp = tempfile.mkdtemp(prefix="petri-test-", dir=os.environ.get("TMPDIR") or "/var/tmp")
    os.chmod(tmp, 0o755)  # a worker is an unprivileged user and must reach the socket in it
    before = Snapshot([tmp])
    code, said = 1, ""
    try:
        case = Case(tmp)
        code, said = _guarded(function, case)
        problems = case.close()
        leaks = before.leaks(5 * SCALE)
        if problems or leaks:
            code = 1
            said = "\n".join([said, *("FAIL: at the end: " + p for p in problems), *("LEAK: " + x for x in leaks[:50]),
                              *_tails(tmp)])
    except AssertionError as e:
        said = f"FAIL: {e}"
    finally:
        kill_descendants()
        unmount_beneath(tmp)
        try:
            shutil.rmtree(tmp)
        except OSError as e:
            code, said = 1, f"{said}\nLEAK: {tmp} cannot be removed: {e}"
    print(said.strip() or "ok", flush=True)
    return code


def main(namespace):
    cases = {name: f for name, f in namespace.items() if name.startswith("test_") and callable(f)}
    if sys.argv[1:] == ["--list"]:
        print("\n".join(cases))
        sys.exit(0)
    if len(sys.argv) != 2 or sys.argv[1] not in cases:
        print(f"usage: {sys.argv[0]} --list | CASE\ncases: {', '.join(cases)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(run_case(cases[sys.argv[1]]))
