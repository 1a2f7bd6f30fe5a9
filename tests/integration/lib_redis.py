"""A small RESP client and a private redis-server, both over a unix socket; standard library only."""
import os
import shutil
import socket
import subprocess
import tempfile
import time

from lib_leaks import die_with_parent


class RedisError(Exception):
    pass


class Redis:
    """One connection. Replies: str for bulk and simple strings (bytes with raw=True), int, None, list."""

    def __init__(self, path, timeout=60.0, raw=False):
        self.raw = raw
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.buf = self.sock.makefile("rb")

    def close(self):
        self.buf.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    @staticmethod
    def encode(args):
        out = [b"*%d\r\n" % len(args)]
        for arg in args:
            data = arg if isinstance(arg, bytes) else str(arg).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(data), data))
        return b"".join(out)

    def _text(self, data):
        return data if self.raw else data.decode("utf-8", "surrogateescape")

    def _reply(self):
        line = self.buf.readline()
        if not line.endswith(b"\r\n"):
            raise RedisError("connection closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return self._text(rest)
        if kind == b"-":
            return RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            data = self.buf.read(int(rest) + 2)
            if len(data) != int(rest) + 2:
                raise RedisError("connection closed")
            return self._text(data[:-2])
        if kind == b"*":
            return None if int(rest) < 0 else [self._reply() for _ in range(int(rest))]
        raise RedisError(f"unexpected reply {line!r}")

    def pipeline(self, commands):
        """Send all, then read all. A command's error is an item of the list, not an exception."""
        self.sock.sendall(b"".join(self.encode(c) for c in commands))
        return [self._reply() for _ in commands]

    def __call__(self, *args):
        reply = self.pipeline([args])[0]
        if isinstance(reply, RedisError):
            raise reply
        return reply


class RedisServer:
    """redis-server of our own: a unix socket in a private directory, no TCP port, nothing written to disk
    unless options ask for it. The directory can be traversed, since a worker is an unprivileged user."""

    def __init__(self, directory=None, options=()):
        self.program = shutil.which("redis-server", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin")
        if not self.program:
            raise FileNotFoundError("redis-server is not installed")
        self.owned = directory is None
        self.dir = directory or tempfile.mkdtemp(prefix="petri-redis-")
        os.chmod(self.dir, 0o755)
        self.socket = os.path.join(self.dir, "redis.sock")
        self.url = "unix://" + self.socket
        self.options = list(options)
        self.process = None

    def start(self, timeout=10.0):
        argv = [self.program, "--port", "0", "--unixsocket", self.socket, "--unixsocketperm", "777",
                "--dir", self.dir, "--daemonize", "no", "--save", "", "--appendonly", "no",
                "--logfile", os.path.join(self.dir, "redis.log"), *self.options]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True,
                                        preexec_fn=die_with_parent)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with self.client(timeout=2.0) as r:
                    if r("PING") == "PONG":
                        return self
            except (OSError, RedisError):
                time.sleep(0.02)
        raise RedisError(f"redis-server did not start: {self._log()}")

    def _log(self):
        try:
            with open(os.path.join(self.dir, "redis.log"), encoding="utf-8", errors="replace") as f:
                return "".join(f.readlines()[-3:]).strip()
        except OSError:
            return "no log"

    def client(self, timeout=60.0, raw=False):
        return Redis(self.socket, timeout, raw)

    def kill(self):
        """kill -9, for tests of what survives it; start() again afterwards."""
        self._end(self.process.kill)

    def _end(self, how):
        if self.process and self.process.poll() is None:
            how()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def stop(self):
        if self.process:
            self._end(self.process.terminate)
        if self.owned:
            shutil.rmtree(self.dir, ignore_errors=True)
        elif os.path.exists(self.socket):
            os.unlink(self.socket)
