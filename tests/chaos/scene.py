"""Several hosts on one machine: a hub with Redis, and workers with stores of their own, each in a network namespace.

Names and addresses carry the pid of the test, so several scenes can be at once; everything is found again by name and by pid.
The namespaces are entered with nsenter and not with `ip netns exec`, which would mount another /sys and hide the cgroups.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from resp import Client, Lost, Refused

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
from lib_leaks import child_named  # noqa: E402

PORT = 6379
PREFIX = "chaos"
START_S = 30


def run(*argv, check=True):
    return subprocess.run(argv, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Host:
    """A network namespace, joined to the hub's bridge."""

    def __init__(self, scene, number):
        self.scene, self.number = scene, number
        self.netns = f"petri-{scene.tag}-{number}"
        self.veth = f"pc{scene.tag}n{number}"[:15]
        self.address = f"10.213.7.{number}"

    def make(self):
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", self.netns, "link", "set", "lo", "up")

    def join(self, hub):
        run("ip", "-n", hub.netns, "link", "add", self.veth, "type", "veth", "peer", "name", "eth0", "netns", self.netns)
        run("ip", "-n", hub.netns, "link", "set", self.veth, "master", "br0", "up")
        run("ip", "-n", self.netns, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.netns, "link", "set", "eth0", "up")

    def cable(self, plugged):
        run("ip", "-n", self.scene.hub.netns, "link", "set", self.veth, "up" if plugged else "down")

    def argv(self, *argv):
        return ["nsenter", f"--net=/run/netns/{self.netns}", "--", *argv]

    def remove(self):
        run("ip", "netns", "del", self.netns, check=False)


class Worker:
    def __init__(self, scene, number):
        self.scene = scene
        self.name = f"w{number}"
        self.host = Host(scene, number + 10)
        self.state = os.path.join(scene.dir, self.name)
        self.log = os.path.join(scene.dir, self.name + ".log")
        self.process = None
        self.starts = 0

    def start(self):
        o = self.scene.options
        argv = self.host.argv(o.petri, "worker", "--redis", f"redis://{self.scene.hub.address}:{PORT}", "--prefix", PREFIX,
                              "--name", self.name, "--state", self.state, "--slots", str(o.slots), "--lease", f"{o.lease_ms}ms",
                              "--max-attempts", "50", "--result-ttl", "1h", "--grace", "5s")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.starts += 1

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def part(self, name):
        """A pid: of `petri` (the supervisor), of its worker or of its nursery. None: it is not there just now."""
        if not self.alive():
            return None
        if name == "petri":
            return self.process.pid
        return child_named(self.process.pid, name)

    def stop(self, hard=False):
        if self.alive():
            self.process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Scene:
    def __init__(self, options):
        self.options = options
        self.tag = f"{os.getpid():x}"
        self.dir = tempfile.mkdtemp(prefix="petri-chaos-")
        os.chmod(self.dir, 0o755)
        self.hub = Host(self, 1)
        self.workers = [Worker(self, i) for i in range(options.workers)]
        self.redis_process = None
        self.inside = None  # our own end in the hub

    def open(self):
        self.hub.make()
        run("ip", "-n", self.hub.netns, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.hub.netns, "addr", "add", f"{self.hub.address}/24", "dev", "br0")
        run("ip", "-n", self.hub.netns, "link", "set", "br0", "up")
        for w in self.workers:
            w.host.make()
            w.host.join(self.hub)
        self.enter_hub()
        self.start_redis()

    def enter_hub(self):
        """This process itself moves into the hub: setns(2). What it starts for others, it starts with nsenter."""
        import ctypes
        fd = os.open(f"/run/netns/{self.hub.netns}", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(fd)

    def client(self, timeout=3.0):
        return Client(self.hub.address, PORT, timeout)

    def start_redis(self):
        directory = os.path.join(self.dir, "redis")
        os.makedirs(directory, exist_ok=True)
        self.redis_process = subprocess.Popen(
            ["redis-server", "--bind", self.hub.address, "--port", str(PORT), "--dir", directory, "--appendonly", "yes",
             "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--save", "", "--protected-mode", "no",
             "--logfile", os.path.join(self.dir, "redis.log")], stdin=subprocess.DEVNULL)
        until = time.monotonic() + START_S
        client = self.client()
        while time.monotonic() < until:
            try:
                if client("PING") == "PONG":
                    client.close()
                    return
            except (Lost, Refused):
                pass
            time.sleep(0.02)
        raise RuntimeError("redis-server did not start: " + os.path.join(self.dir, "redis.log"))

    def kill_redis(self):
        self.redis_process.kill()
        self.redis_process.wait()

    def close(self, keep):
        for w in self.workers:
            w.host.cable(True)
            w.stop()
        if self.redis_process:
            self.kill_redis()
        for w in self.workers:
            w.host.remove()
        self.hub.remove()
        if keep:
            print(f"chaos: kept {self.dir}", file=sys.stderr)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
