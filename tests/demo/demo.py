#!/usr/bin/python3
"""petri, end to end: a worker on a redis-server of its own judges real submissions, then everything is gone again.

Run by `./dev demo`, which builds petri and installs what this needs: demo.py PETRI [--slots N] [--flood N].
Exit: 0 when every submission ended as it must and nothing was left behind.
"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "integration")]
sys.dont_write_bytecode = True

import compile_once  # noqa: E402
import rootfs  # noqa: E402
from lib_leaks import Snapshot, become_subreaper, die_with_parent, kill_descendants, unmount_beneath  # noqa: E402
from lib_redis import RedisError, RedisServer  # noqa: E402
from submissions import SUBMISSIONS  # noqa: E402

WORKER = "demo"
STOP_SECONDS = 35
START = time.monotonic()


class DemoError(Exception):
    pass


def say(text):
    print(f"[{time.monotonic() - START:6.1f} s] {text}", flush=True)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def ms(us):
    return f"{us / 1000:.1f} ms" if us < 99950 else f"{us / 1000:.0f} ms"


def mib(n):
    return f"{n / (1 << 20):.1f} MiB"


def print_table(head, rows, right):
    widths = [max(len(str(r[i])) for r in [head, *rows]) for i in range(len(head))]
    for n, row in enumerate([head, *rows]):
        cells = [str(c).rjust(w) if i in right else str(c).ljust(w) for i, (c, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
        if n == 0:
            print("  ".join("-" * w for w in widths).rstrip())


class Demo:
    def __init__(self, options):
        self.options = options
        self.petri = os.path.abspath(options.petri)
        self.tmp = self.state = self.redis = self.worker = self.client = None
        self.failures = []
        self.rows = []
        self.sum_layer = None

    # ---- starting and stopping ----

    def start(self):
        if not os.access(self.petri, os.X_OK):
            raise DemoError(f"{self.petri} is not there; ./dev build makes it")
        if os.geteuid() != 0:
            raise DemoError("petri makes namespaces, mounts and cgroups: run the demo as root or through sudo")
        tar = rootfs.build(say)
        self.tmp = tempfile.mkdtemp(prefix="petri-demo-", dir=os.environ.get("TMPDIR") or "/var/tmp")
        os.chmod(self.tmp, 0o755)  # the worker is an unprivileged user and must reach the socket in it
        self.state = os.path.join(self.tmp, "state")
        self.before = Snapshot([self.tmp])
        self.command("image", "import", "gcc", tar, what="importing the root filesystem as image gcc", timeout=600)
        self.drivers()
        os.mkdir(os.path.join(self.tmp, "redis"))
        self.redis = RedisServer(os.path.join(self.tmp, "redis")).start()
        self.client = self.redis.client(timeout=180)
        say("redis-server started on a unix socket")
        self.start_worker()

    def env(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("PETRI_")}
        env["PETRI_STATE"] = self.state
        return env

    def command(self, *args, what=None, timeout=60.0):
        begin = time.monotonic()
        done = subprocess.run([self.petri, *args], env=self.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=timeout, check=False)
        if done.returncode != 0:
            raise DemoError(f"petri {' '.join(args)} failed with code {done.returncode}:\n{done.stderr.strip()}")
        if what:
            say(f"{what}: {time.monotonic() - begin:.1f} s")
        return done.stdout

    def drivers(self):
        try:
            doctor = json.loads(self.command("doctor", "--json"))
        except (DemoError, ValueError) as e:
            say(f"petri doctor --json says nothing of use, ignoring: {e}")
            return
        found = []
        where = {**doctor, **(doctor["drivers"] if isinstance(doctor.get("drivers"), dict) else {})}
        for name in ("cgroup", "scratch"):
            value = where.get(name, where.get(name + "_driver"))
            if isinstance(value, dict):
                value = value.get("driver", value.get("name"))
            if value:
                found.append(f"{name} {value}")
        say("drivers: " + (", ".join(found) or "not told by petri doctor"))

    def worker_log(self):
        with open(os.path.join(self.tmp, "worker.log"), encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-20:]).strip()

    def start_worker(self):
        with open(os.path.join(self.tmp, "worker.log"), "wb") as log:
            self.worker = subprocess.Popen(
                [self.petri, "worker", "--redis", self.redis.url, "--slots", str(self.options.slots), "--name", WORKER,
                 "--allow-volatile-redis"],
                env={**self.env(), "PETRI_LOG": "info"}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=die_with_parent)
        begin = time.monotonic()
        while not self.client("EXISTS", f"petri:worker:{WORKER}"):
            if self.worker.poll() is not None:
                raise DemoError(f"the worker ended with code {self.worker.returncode}")
            if time.monotonic() - begin > 30:
                raise DemoError("the worker shows no heartbeat after 30 s")
            time.sleep(0.01)
        say(f"worker started: {self.options.slots} slots, ready after {time.monotonic() - begin:.2f} s")

    def warmth(self):
        """How many jobs found a slot made for their image, policy and network; from the worker's last words."""
        found = re.findall(r"worker: ends: .*placed=(\d+) warm=(\d+)", self.worker_log())
        if not found or found[-1][0] == "0":
            return ""
        placed, warm = map(int, found[-1])
        return f"; {warm} of {placed} jobs ({warm / placed:.0%}) found a warm slot"

    def stop_worker(self):
        if not self.worker or self.worker.poll() is not None:
            return
        self.worker.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        try:
            self.worker.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"the worker did not end within {STOP_SECONDS} s of SIGTERM: killing process {self.worker.pid}")
            self.failures.append("the worker had to be killed")
            self.worker.kill()
            self.worker.wait()
            return
        say(f"worker stopped with code {self.worker.returncode} after {time.monotonic() - begin:.2f} s{self.warmth()}")
        if self.worker.returncode != 0:
            self.failures.append(f"the worker ended with code {self.worker.returncode}")

    def stop(self):
        """Stop all that was started, in every case, and see that it is gone."""
        if not self.tmp:
            return
        if self.failures and self.worker:
            print(f"the worker's last words:\n{self.worker_log() or '(none)'}", file=sys.stderr)
        self.stop_worker()
        if self.client:
            self.client.close()
        if self.redis:
            self.redis.stop()
        left = self.before.leaks(5)
        if left:
            kill_descendants()
            unmount_beneath(self.tmp)
        try:
            shutil.rmtree(self.tmp)
        except OSError as e:
            left.append(f"directory {self.tmp}: {e}")
        shown = left[:20] + ([f"and {len(left) - 20} more"] if len(left) > 20 else [])
        print("left behind: " + ("\n  ".join([f"{len(left)} things", *shown]) if left else "nothing"), flush=True)
        if left:
            self.failures.append("something was left behind")

    # ---- jobs ----

    def submit(self, jobs):
        """XADD them all at once. Return: {id: when it was sent}."""
        sent = time.monotonic()
        replies = self.client.pipeline([("XADD", "petri:jobs", "*", "job", json.dumps(job)) for job in jobs])
        bad = [r for r in replies if isinstance(r, RedisError)]
        if bad:
            raise DemoError(f"XADD: {bad[0]}")
        return {job["id"]: sent for job in jobs}

    def collect(self, sent, timeout=180):
        """Wait for all results. Return: {id: (result, latency in µs)}."""
        waiting = dict(sent)
        found = {}
        while waiting:
            keys = [f"petri:done:{job_id}" for job_id in waiting]
            reply = self.client("BLPOP", *keys, 1)
            if reply is None:
                if self.worker.poll() is not None:
                    raise DemoError(f"the worker ended with code {self.worker.returncode}")
                if time.monotonic() - min(waiting.values()) > timeout:
                    raise DemoError(f"no result after {timeout} s: {', '.join(list(waiting)[:5])}")
                continue
            job_id = reply[0].removeprefix("petri:done:")
            latency = (time.monotonic() - waiting.pop(job_id)) * 1e6
            text = self.client("GET", f"petri:result:{job_id}")
            if text is None:
                raise DemoError(f"petri:done:{job_id} without petri:result:{job_id}")
            found[job_id] = (json.loads(text), latency)
        return found

    def row(self, submission, result, latency, compiling=False):
        problems = submission.problems(result, compiling)
        usage = result["usage"]
        if result["exit_code"] is not None:
            end = str(result["exit_code"])
        elif result["signal"] is not None:
            end = signal.Signals(result["signal"]).name
        else:
            end = (result.get("violation") or {}).get("syscall") or "-"
        self.rows.append((submission.name, submission.language, submission.verdict, result["status"],
                          submission.judge(result, compiling), end, ms(usage["cpu_user_us"] + usage["cpu_system_us"]),
                          ms(usage["wall_us"]), mib(usage["memory_peak_bytes"]), ms(latency),
                          "DIFFERS: " + "; ".join(problems) if problems else ""))
        if problems:
            self.failures.append(f"{submission.name} ({submission.language}): {'; '.join(problems)}")

    def judge_all(self):
        say(f"compiling {len(SUBMISSIONS)} submissions, each in a sandbox of its own")
        sent = self.submit([s.compile_job(f"compile-{n}") for n, s in enumerate(SUBMISSIONS)])
        compiled = self.collect(sent)
        say("running what compiled, one after the other")
        for n, submission in enumerate(SUBMISSIONS):
            result, latency = compiled[f"compile-{n}"]
            if result["status"] != "exited" or result["exit_code"] != 0 or not result.get("layer"):
                self.row(submission, result, latency, compiling=True)
                if submission.verdict != "CE":
                    stderr = result["stderr"] or {}
                    print(f"{submission.name}: the compiler said: {(stderr.get('data') or '')[:1000]}", file=sys.stderr)
                continue
            if n == 0:
                self.sum_layer = result["layer"]
            job = submission.run_job(f"run-{n}", result["layer"])
            self.row(submission, *self.collect(self.submit([job]))[job["id"]])

    def blob(self, text):
        """Put a text into the store; returns its id."""
        done = subprocess.run([self.petri, "blob", "put", "-"], env=self.env(), input=text, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise DemoError(f"petri blob put failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def placed(self, least):
        """(jobs that got a slot, those of them that found one made for them), from the first heartbeat that knows of so many."""
        begin = time.monotonic()
        while time.monotonic() - begin < 10:
            placed, warm = (int(x or 0) for x in self.client("HMGET", f"petri:worker:{WORKER}", "placed", "warm"))
            if placed >= least:
                return placed, warm
            time.sleep(0.05)
        raise DemoError("the worker's heartbeat does not tell of its jobs")

    def once(self):
        """Compile once, run on a hundred tests. Before all else, so that the worker has counted nothing yet. Return: what to say."""
        program, cases = compile_once.PROGRAM, compile_once.cases()
        say(f"compiling one program, then {len(cases)} tests of it at once")
        compiled, latency = self.collect(self.submit([program.compile_job("once")]))["once"]
        if not compiled.get("layer"):
            self.failures.append(f"compile once: {compiled['status']}: {(compiled['stderr'] or {}).get('data')}")
            return None
        jobs, size = [], 0
        for n, (_, text) in enumerate(cases):
            job = program.run_job(f"test-{n}", compiled["layer"], text)
            if len(text) > 65536:
                job["stdin"] = {"blob": self.blob(text)}
                size += len(text)
            jobs.append(job)
        begin = time.monotonic()
        found = self.collect(self.submit(jobs))
        seconds = time.monotonic() - begin
        verdicts = {}
        for n, (case, _) in enumerate(cases):
            result = found[f"test-{n}"][0]
            verdict = case.judge(result)
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
            problems = case.problems(result)
            if problems:
                self.failures.append(f"test {n} of {len(cases)}: {'; '.join(problems)}")
        placed, warm = self.placed(len(cases) + 1)
        return (f"compile once: {ms(latency)} to compile and commit, then {len(cases)} tests in {seconds:.2f} s ({len(cases) / seconds:.0f} jobs/s): "
                f"{', '.join(f'{count} {verdict}' for verdict, count in sorted(verdicts.items()))}; {compile_once.LARGE} inputs came from the store, "
                f"{mib(size)}; {warm} of {placed} jobs ({warm / placed:.0%}) found a warm slot")

    def flood(self):
        """Many small jobs at once, of one program with inputs that differ; every answer is checked."""
        count = self.options.flood
        if not self.sum_layer:
            self.failures.append("no flood: its program did not compile")
            return None
        say(f"flood: {count} jobs at once")
        inputs = {f"flood-{i}": f"{i} {i * i} {i * 7919}\n" for i in range(count)}
        jobs = [SUBMISSIONS[0].run_job(job_id, self.sum_layer, text) for job_id, text in inputs.items()]
        begin = time.monotonic()
        found = self.collect(self.submit(jobs))
        seconds = time.monotonic() - begin
        wrong = []
        for job_id, (result, _) in found.items():
            answer = str(sum(map(int, inputs[job_id].split())))
            if result["status"] != "exited" or (result["stdout"].get("data") or "").strip() != answer:
                wrong.append(f"{job_id}: {result['status']}, wanted {answer}: {json.dumps(result['stdout'])}")
        if wrong:
            self.failures.append(f"{len(wrong)} of {count} flood jobs are wrong, e.g. {wrong[0]}")
        latency = [x for _, x in found.values()]
        # What the worker needed for one job once it had it; the rest of the latency is waiting in the queue.
        own = [sum(r["timing"].get(k) or 0 for k in ("dispatch_us", "exec_us", "collect_us")) + r["usage"]["wall_us"]
               for r, _ in found.values()]
        return (f"flood: {count} jobs, {count - len(wrong)} right, {count / seconds:.0f} jobs/s; latency from XADD to "
                f"result p50 {ms(percentile(latency, .5))}, p99 {ms(percentile(latency, .99))} (all were queued at "
                f"once); in the worker alone p50 {ms(percentile(own, .5))}, p99 {ms(percentile(own, .99))}")

    def report(self, once, flood):
        if once:
            print(f"\n{once}")
        if not self.rows:
            return
        print()
        print_table(("submission", "language", "expected", "status", "verdict", "exit", "cpu", "wall", "memory",
                     "latency", ""), self.rows, right={6, 7, 8, 9})
        print()
        if flood:
            print(flood)
        print("latency: from XADD to the result in hand; compilations were queued at once, runs one after the other")
        right = sum(1 for r in self.rows if not r[-1])
        print(f"submissions: {right} of {len(SUBMISSIONS)} as expected", flush=True)

    def run(self):
        once = flood = None
        try:
            self.start()
            try:
                once = self.once()
                self.judge_all()
                flood = self.flood()
            finally:
                self.report(once, flood)
        except KeyboardInterrupt:
            self.failures.append("interrupted")
        except (DemoError, RedisError, rootfs.RootfsError, OSError, subprocess.TimeoutExpired, KeyError) as e:
            self.failures.append(str(e) if not isinstance(e, KeyError) else f"a result lacks the key {e}")
        finally:
            for sig in (signal.SIGINT, signal.SIGTERM):
                signal.signal(sig, signal.SIG_IGN)  # cleaning up is not interrupted
            self.stop()
        for failure in self.failures:
            print(f"demo: failed: {failure}", file=sys.stderr)
        if not self.failures:
            say("demo: all good")
        return 1 if self.failures else 0


def interrupt(signum, frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description="petri, end to end")
    parser.add_argument("petri", help="the built program")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--flood", type=int, default=200, metavar="JOBS")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    become_subreaper()
    return Demo(options).run()


if __name__ == "__main__":
    sys.exit(main())
