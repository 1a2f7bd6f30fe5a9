"""What a job reaches by sockets: nothing, or its own loopback where that was asked for."""
import json
import os
import socket

from lib import main

PYTHON = "/usr/bin/python3"
PROBE = """
import errno, fcntl, json, os, socket, struct
def attempt(f, *args):
    try:
        r = f(*args)
        return r if isinstance(r, (str, int)) else "ok"
    except OSError as e:
        return errno.errorcode[e.errno]
def connect(family, address):
    s = socket.socket(family)
    s.settimeout(2)
    s.connect(address)
def send(address):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", address)
def lo_flags():
    return struct.unpack("16xH", lo_ioctl(0x8913)[:18])[0]  # SIOCGIFFLAGS
def lo_ioctl(request):
    return fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), request, struct.pack("16sH14x", b"lo", 0))
"""


def found(t, code, *flags):
    run = t.petri.run(*flags, "--", PYTHON, "-c", PROBE + f"print(json.dumps({code}))")
    t.equal((run.status, run.code), ("exited", 0), run)
    return json.loads(run.out)


def listeners(t):
    """On the machine itself: TCP, UDP, a socket file and an abstract name, which a job must not reach."""
    tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    name, path = f"\0petri-test-{os.getpid()}", t.path("listening")
    named, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    for s, address in ((tcp, ("127.0.0.1", 0)), (udp, ("127.0.0.1", 0)), (named, path), (abstract, name)):
        t.defer(s.close)
        s.bind(address)
        s.setblocking(False)
        if s is not udp:
            s.listen()
    return tcp, udp, named, abstract


def quiet(t, sockets):
    """Nobody came."""
    for s in sockets:
        try:
            met = s.recv(9) if s.type == socket.SOCK_DGRAM else s.accept()
        except BlockingIOError:
            continue
        t.check(False, f"{s}: {met}")


def test_judge_has_no_sockets(t):
    for family, kind, error in (("AF_UNIX", "SOCK_STREAM", "EACCES"), ("AF_UNIX", "SOCK_DGRAM", "EACCES"),
                                ("AF_INET", "SOCK_STREAM", None), ("AF_INET6", "SOCK_DGRAM", None)):
        code = f"attempt(lambda: socket.socket(socket.{family}, socket.{kind}))"
        if family == "AF_UNIX":
            t.equal(found(t, code), error)
        else:  # Python sets SOCK_CLOEXEC, which none of the honest probes for IPv4 and IPv6 does (test_seccomp.py)
            run = t.petri.run("--", PYTHON, "-c", PROBE + code)
            t.equal((run.status, run.result["violation"]), ("violation", {"syscall": "socket"}), run)


def test_judge_has_pairs(t):
    """Connected pairs work, since event loops begin with one; but no message carries a descriptor."""
    code = """
a, b = socket.socketpair()
a.send(b"x")
print(json.dumps([b.recv(1).decode(), attempt(lambda: socket.send_fds(a, [b"x"], [0])), attempt(a.bind, "/work/s"),
    attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))]))"""
    run = t.petri.run("--", PYTHON, "-c", PROBE + code)
    t.equal(run.code, 0, run)
    t.equal(json.loads(run.out), ["x", "EACCES", "EACCES", "EACCES"], run)


def test_none(t):
    """The default policy has sockets, and nothing to reach with them."""
    sockets = tcp, udp, named, abstract = listeners(t)
    code = f"""[[x.split(':')[0].strip() for x in open('/proc/net/dev').readlines()[2:]], lo_flags() & 1,
        attempt(connect, socket.AF_INET, ('127.0.0.1', {tcp.getsockname()[1]})),
        attempt(connect, socket.AF_INET6, ('::1', {tcp.getsockname()[1]})),
        attempt(connect, socket.AF_INET, ('192.0.2.1', 80)),
        attempt(send, ('127.0.0.1', {udp.getsockname()[1]})),
        attempt(connect, socket.AF_UNIX, {named.getsockname()!r}),
        attempt(connect, socket.AF_UNIX, {abstract.getsockname()!r})]"""
    interfaces, up, *errors = found(t, code, "--policy", "default")
    t.equal((interfaces, up), (["lo"], 0))
    for error, allowed in zip(errors, (*[("ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT")] * 4, ("ENOENT",),
                                       ("ECONNREFUSED",))):
        t.check(error in allowed, errors)
    quiet(t, sockets)


def test_loopback(t):
    """A server and a client in one job; the machine's own loopback is another."""
    sockets = tcp, udp, _, _ = listeners(t)
    code = f"""
server = socket.create_server(("127.0.0.1", {tcp.getsockname()[1]}))
client = socket.create_connection(server.getsockname())
conn, _ = server.accept()
client.send(b"hello")
print(json.dumps([conn.recv(5).decode(), lo_flags() & 1, attempt(connect, socket.AF_INET, ("192.0.2.1", 80)),
    attempt(connect, socket.AF_INET, ("127.0.0.1", 1)), attempt(send, ("127.0.0.1", {udp.getsockname()[1]})),
    [x.split(":")[0].strip() for x in open("/proc/net/dev").readlines()[2:]]]))"""
    run = t.petri.run("--policy", "default", "--network", "loopback", "--", PYTHON, "-c", PROBE + code)
    t.equal(run.code, 0, run)
    said, up, away, refused, _, interfaces = json.loads(run.out)
    t.equal((said, up, refused, interfaces), ("hello", 1, "ECONNREFUSED", ["lo"]), run)
    t.check(away in ("ENETUNREACH", "EINVAL"), run)
    quiet(t, sockets)


def test_loopback_is_not_changed(t):
    """The job is not its network's administrator."""
    code = """[attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)), attempt(lo_ioctl, 0x8914),
        attempt(connect, socket.AF_INET, ('127.0.0.1', 1))]"""  # SIOCSIFFLAGS
    t.equal(found(t, code, "--policy", "default", "--network", "loopback"), ["EAFNOSUPPORT", "EPERM", "ECONNREFUSED"])


def test_names_of_others_are_hidden(t):
    """Neither the machine's sockets nor petri's own."""
    listeners(t)
    code = "[open('/proc/net/' + x).read().count('\\n') for x in ('unix', 'tcp', 'udp')]"
    for policy in ("judge", "default"):
        t.equal(found(t, code, "--policy", policy), [1, 1, 1])


if __name__ == "__main__":
    main(globals())
