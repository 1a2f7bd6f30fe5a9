"""A small Redis client over TCP for programs that must outlive its server: it connects again, and says when it did."""
import socket


class Lost(Exception):
    """The connection broke: whether the requests under way were served is not known."""


class Refused(Exception):
    """The server's own error."""


class Client:
    def __init__(self, host, port, timeout=3.0):
        self.address, self.timeout = (host, port), timeout
        self.sock = self.buf = None

    def close(self):
        if self.sock:
            self.buf.close()
            self.sock.close()
        self.sock = self.buf = None

    def _connect(self):
        self.sock = socket.create_connection(self.address, self.timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = self.sock.makefile("rb")

    def _reply(self):
        line = self.buf.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("connection closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            if int(rest) < 0:
                return None
            data = self.buf.read(int(rest) + 2)
            if len(data) != int(rest) + 2:
                raise OSError("connection closed")
            return data[:-2].decode("utf-8", "surrogateescape")
        if kind == b"*":
            return None if int(rest) < 0 else [self._reply() for _ in range(int(rest))]
        if kind == b"-":
            return Refused(rest.decode())
        return int(rest) if kind == b":" else rest.decode()

    def many(self, commands):
        """Replies in order; a command's own error is an item. Lost: nothing is known of any of them."""
        if not commands:
            return []
        out = []
        for args in commands:
            out.append(b"*%d\r\n" % len(args))
            for arg in args:
                data = str(arg).encode()
                out.append(b"$%d\r\n%s\r\n" % (len(data), data))
        try:
            if not self.sock:
                self._connect()
            self.sock.sendall(b"".join(out))
            return [self._reply() for _ in commands]
        except (OSError, ValueError) as e:
            self.close()
            raise Lost(str(e)) from e

    def __call__(self, *args):
        reply = self.many([args])[0]
        if isinstance(reply, Refused):
            raise reply
        return reply
