#!/usr/bin/python3
"""What systemd is told (a socket of the test's own stands for it), and the unit that is installed."""
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time

from lib import Skip, main
from test_worker_death import child_named

WATCHDOG_US = 400000


class Manager:
    """The socket that NOTIFY_SOCKET names, and what was said on it with the time of each."""

    def __init__(self, t, abstract=False):
        self.t, self.said, self.times, self.seen = t, [], [], 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.name = f"@petri-test-{os.getpid()}" if abstract else t.path("notify")
        self.socket.bind("\0" + self.name[1:] if abstract else self.name)
        t.defer(self.socket.close)

    def env(self, watchdog=False, watchdog_us=WATCHDOG_US):
        return {"NOTIFY_SOCKET": self.name, **({"WATCHDOG_USEC": str(watchdog_us)} if watchdog else {})}

    def take(self, seconds=0.0):
        """Everything that is said within so many seconds."""
        end, got = time.monotonic() + seconds, []
        while select.select([self.socket], [], [], max(0.0, end - time.monotonic()))[0]:
            got.append(self.socket.recv(4096).decode())
            self.times.append(time.monotonic())
        self.said += got
        self.seen = len(self.said)
        return got

    def next(self, text):
        """Was it said since what was last waited for?"""
        seen = self.seen
        self.take(0.02)
        found = next((i for i in range(seen, len(self.said)) if text in self.said[i]), None)
        self.seen = seen if found is None else found + 1
        return found is not None

    def wait(self, text, timeout=20.0):
        self.t.eventually(lambda: self.next(text), f"{text}; said: {self.said[-9:]}", timeout)


def test_ready_and_stopping(t):
    for abstract in (False, True):
        manager = Manager(t, abstract)
        worker = t.worker("--grace", "7s", env=manager.env(), wait=False, name=f"w{int(abstract)}")
        manager.wait("READY=1")
        t.check(not any("WATCHDOG" in x for x in manager.take(1.5)), manager.said)
        t.equal(sum("READY=1" in x for x in manager.said), 1, manager.said)
        job = {"id": f"a{int(abstract)}", "argv": ["/bin/sleep", "1"]}
        worker.submit(job)
        t.eventually(lambda: worker.client("EXISTS", f"petri:state:{job['id']}"), "the job runs", 10)
        worker.process.terminate()
        manager.wait("STOPPING=1")
        t.equal(worker.process.wait(20 * t.scale), 0, worker.log)
        stopping = [x for x in manager.said if "STOPPING=1" in x]
        t.equal(len(stopping), 1, manager.said)
        # Longer than the grace period: systemd's own patience may be shorter.
        t.check(int(re.search(r"EXTEND_TIMEOUT_USEC=(\d+)", stopping[0])[1]) > 7000000, stopping)


def test_ready_without_redis(t):
    """Redis may come later: the service is up, and waits."""
    manager = Manager(t)
    pid = t.redis.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        worker = t.worker(env=manager.env(), wait=False)
        manager.wait("READY=1")
    finally:
        os.kill(pid, signal.SIGCONT)
    worker.wait_ready()


def test_watchdog(t):
    """Fed while worker and nursery answer, and only then."""
    manager = Manager(t)
    worker = t.worker(env=manager.env(watchdog=True), wait=False)
    manager.wait("READY=1")
    worker.wait_ready()
    pause = 4 * WATCHDOG_US / 1e6 * t.scale
    t.check(sum("WATCHDOG=1" in x for x in manager.take(pause)) >= 4, manager.said)
    for name in ("petri-worker", "petri-nursery"):
        pid = child_named(worker, name)
        os.kill(pid, signal.SIGSTOP)
        try:
            manager.take(3 * WATCHDOG_US / 1e6)  # what was said before the last answer was too old
            t.equal(manager.take(pause), [], f"{name} is stopped")
        finally:
            os.kill(pid, signal.SIGCONT)
        manager.wait("WATCHDOG=1")
    # One job after the other: its slot is being made again most of the time.
    for i in range(20):
        worker.do({"id": f"j{i}", "argv": ["/bin/true"]})
    manager.wait("WATCHDOG=1")
    # Killed, they are replaced, and systemd need not know.
    for name, said in (("petri-nursery", "petri-nursery"), ("petri-worker", "worker and nursery")):
        os.kill(child_named(worker, name), signal.SIGKILL)
        manager.wait(f"STATUS=Starting {said} again.")
        manager.wait("STATUS=Slots are ready.")
        manager.wait("WATCHDOG=1")
    t.equal(sum("READY=1" in x for x in manager.said), 1, manager.said)


def longest_silence(manager, since):
    beats = [at for said, at in zip(manager.said, manager.times) if "WATCHDOG=1" in said and at >= since]
    return max(b - a for a, b in zip([since, *beats], [*beats, manager.times[-1]]))


def test_watchdog_while_the_nursery_is_replaced(t):
    """
    It dies again and again, so that the next is waited for longer each time: 3 s in all, and 1.6 s the last time. systemd hears of the worker throughout.
    Taken out once: worker_is_reviving() in on_pulse(): "silent for 1.7 s".
    """
    period = t.scale
    manager = Manager(t)
    worker = t.worker(env=manager.env(True, int(period * 1e6)), wait=False)
    manager.wait("READY=1")
    manager.wait("WATCHDOG=1")
    process, since = child_named(worker, "petri-worker"), time.monotonic()
    for _ in range(5):
        t.eventually(lambda: child_named(worker, "petri-nursery"), "a nursery")
        os.kill(child_named(worker, "petri-nursery"), signal.SIGKILL)
        manager.wait("STATUS=Starting petri-nursery again.")
        manager.wait("STATUS=Slots are ready.")
    t.equal(child_named(worker, "petri-worker"), process, worker.log)
    silent = longest_silence(manager, since)
    t.check(silent < period, f"silent for {silent:.1f} s")


def test_watchdog_of_another(t):
    """WATCHDOG_PID names who is meant."""
    manager = Manager(t)
    t.worker(env={**manager.env(watchdog=True), "WATCHDOG_PID": "1"}, wait=False)
    manager.wait("READY=1")
    t.check(not any("WATCHDOG" in x for x in manager.take(1.0)), manager.said)


def test_nonsense_is_ignored(t):
    for value in ("relative", "/" + "x" * 200, "@", "vsock:2:1"):
        worker = t.worker(env={"NOTIFY_SOCKET": value, "WATCHDOG_USEC": "many"}, name="w" + str(len(value)))
        t.equal(worker.stop(), 0)
    worker = t.worker(env={"NOTIFY_SOCKET": t.path("nobody-listens")})
    t.equal(worker.do({"id": "a", "argv": ["/bin/true"]})["status"], "exited")


def test_unit(t):
    """systemd finds nothing to object to in the unit."""
    unit = os.path.join(os.path.dirname(t.petri.binary), "..", "share", "petri-worker.service")
    analyze = shutil.which("systemd-analyze")
    if not analyze or not os.path.exists(unit):
        raise Skip("systemd-analyze, or the built unit")
    with open(unit, encoding="utf-8") as f:
        text = f.read()
    for line in ("Type=notify", "Delegate=yes", "KillMode=mixed", "WatchdogSec=30s"):
        t.contains("\n" + text, f"\n{line}\n")
    command = re.search(r"^ExecStart=(\S+) (.*)$", text, re.M)
    path = t.write("petri-worker.service", text.replace(command[1], t.petri.binary))
    done = subprocess.run([analyze, "verify", "--man=no", "--recursive-errors=no", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    t.equal((done.returncode, done.stdout.decode()), (0, ""))
    # Its command line is one that petri takes.
    run = t.petri.call(*command[2].replace("/etc/petri/worker.conf", t.write("worker.conf", "slots = 1\n")).split(), "--check-config")
    t.equal(run.code, 0, run)


if __name__ == "__main__":
    main(globals())
