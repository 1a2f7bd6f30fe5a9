"""The streams and signals of `petri run`, which stands in for the program it runs."""
import hashlib
import os
import signal
import socket
import struct
import subprocess
import time

from lib import main

PYTHON = "/usr/bin/python3"


def start(t, *args, **kwargs):
    """`petri run ARGS…` in the background; ended with the case."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
    job = subprocess.Popen([t.petri.binary, "run", *args], env=t.petri.env(), cwd=t.tmp, **options)

    def end():
        if job.poll() is None:
            job.terminate()
        job.wait(20 * t.scale)
        for stream in (job.stdin, job.stdout, job.stderr):
            if stream:
                stream.close()
    t.defer(end)
    return job


def wait(t, job, seconds=10.0):
    try:
        return job.wait(seconds * t.scale)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"no end after {seconds * t.scale} s") from None


def test_output_comes_as_it_is_written(t):
    job = start(t, "--", "/bin/sh", "-c", "echo first; sleep 2; echo second")
    begin = time.monotonic()
    t.equal(job.stdout.readline(), b"first\n")
    t.check(time.monotonic() - begin < 1.8 * t.scale, "it was held back")
    t.equal(job.stdout.read(), b"second\n")
    t.equal(wait(t, job), 0)


def test_conversation(t):
    """Input is passed on as it comes, too."""
    job = start(t, "--", PYTHON, "-uc", "for l in iter(input, 'end'): print('got', l)", stdin=subprocess.PIPE)
    for word in (b"one", b"two", b"three"):
        job.stdin.write(word + b"\n")
        job.stdin.flush()
        t.equal(job.stdout.readline(), b"got " + word + b"\n")
    job.stdin.write(b"end\n")
    job.stdin.close()
    t.equal(wait(t, job), 0)


def test_binary(t):
    data = bytes(range(256)) * 4000
    run = t.petri.run("--output", "2M", "--", "/bin/cat", stdin=data)
    t.check(run.stdout == data, f"{len(run.stdout)} bytes of {len(data)}")


def test_stdin_that_is_not_read(t):
    run = t.petri.run("--", "/bin/true", stdin=b"x" * (10 << 20))
    t.equal((run.status, run.code), ("exited", 0), run.err)
    run = t.petri.sh("exec <&-; sleep 0.2; echo on", stdin=b"x" * (10 << 20))
    t.equal((run.out, run.code), ("on\n", 0), run.err)
    with open("/dev/zero", "rb") as endless:
        run = t.petri.sh("head -c 1000 | wc -c", stdin=endless)
    t.equal((run.out, run.code), ("1000\n", 0), run.err)


def test_stdin_that_never_ends(t):
    """The caller keeps its end open; the job ends, and so does petri."""
    job = start(t, "--", "/bin/true", stdin=subprocess.PIPE)
    t.equal(wait(t, job, 5), 0)
    job.stdin.close()
    waiting = start(t, "--wall", "300ms", "--", "/bin/cat", stdin=subprocess.PIPE)
    t.equal(wait(t, waiting, 5), 124)
    waiting.stdin.close()


def test_stdin_that_breaks(t):
    """What cannot be read on is no end of the input: a job must not take half of it for the whole. With all but a few errors taken for the
    end in on_source(): "exited" (the connection), "exited" (the directory). What is not open for reading is empty, as by nohup(1)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        stdin = server.accept()[0]
    with stdin:
        job = start(t, "--result", t.path("result"), "--", "/bin/cat", stdin=stdin.fileno())
        client.sendall(b"half of it\n")
        t.equal(job.stdout.readline(), b"half of it\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close(2) resets it
        client.close()
        t.equal(wait(t, job), 125)
    t.contains(job.stderr.read().decode(), "cannot read stdin: Connection reset by peer")
    directory = os.open(t.tmp, os.O_RDONLY | os.O_DIRECTORY)
    t.defer(lambda: os.close(directory))
    t.equal(t.petri.run("--", "/bin/cat", stdin=directory).status, "internal_error")
    with open("/dev/null", "wb") as null:
        t.equal(t.petri.run("--", "/bin/cat", stdin=null).status, "exited")


def test_closed_streams(t):
    """petri run <&- >&- 2>&-: whatever its descriptors then are, no store file is written to nor read by a job."""
    code = (f"exec <&- >&- 2>&-; exec '{t.petri.binary}' run --result '{t.path('result')}' -- "
            "/bin/sh -c 'echo out; echo err >&2; cat; exit 3'")
    done = subprocess.run(["/bin/sh", "-c", code], env=t.petri.env(), check=False, timeout=20 * t.scale)
    t.check(done.returncode in (3, 125), done)
    run = t.petri.run("--", "/bin/echo", "still fine")
    t.equal(run.out, "still fine\n", run)


def test_slow_reader(t):
    """A caller that does not read holds up the copy, not the job's limits; nothing is lost."""
    job = start(t, "--output", "1M", "--", "/bin/sh", "-c", "head -c 600000 /dev/zero; echo done >&2")
    time.sleep(1)
    t.equal(len(job.stdout.read()), 600000)
    t.equal(wait(t, job), 0)


def test_signals_cancel(t):
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        job = start(t, "--result", t.path("result"), "--", "/bin/sh", "-c", "trap '' INT TERM HUP; echo up; sleep 30")
        t.equal(job.stdout.readline(), b"up\n")
        job.send_signal(sig)
        t.equal(wait(t, job, 5), 130)
        t.contains(job.stderr.read().decode(), "status=cancelled")
        with open(t.path("result"), encoding="utf-8") as f:
            t.contains(f.read(), '"status":"cancelled"')


def test_ctrl_c(t):
    """A terminal's Ctrl-C goes to the whole group; petri still reports and cleans up."""
    job = start(t, "--", "/bin/sh", "-c", "echo up; sleep 30", start_new_session=True)
    t.equal(job.stdout.readline(), b"up\n")
    os.killpg(job.pid, signal.SIGINT)
    t.equal(wait(t, job, 5), 130)


def test_killed(t):
    """kill -9 of petri run: the job does not live on (the leak check looks), and the next run sweeps its leaf."""
    job = start(t, "--wall", "60s", "--", "/bin/sh", "-c", "echo up; sleep 50")
    t.equal(job.stdout.readline(), b"up\n")
    job.kill()
    wait(t, job, 5)
    time.sleep(0.5 * t.scale)
    t.equal(t.petri.run("--", "/bin/true").code, 0)


def test_many_at_once(t):
    """Runs that share a store and a machine do not get in each other's way, the first import of the image included."""
    jobs = [start(t, "--", "/bin/sh", "-c", f"echo {i}; exit {i}") for i in range(12)]
    for i, job in enumerate(jobs):
        out, err = job.communicate(timeout=60 * t.scale)
        t.equal((job.returncode, out), (i, f"{i}\n".encode()), err.decode())


def test_an_image_whose_layer_is_there(t):
    """What loses the race for the first import does, at leisure: the layer that is there is verified, with the rights that petri run keeps.

    While that asked for CAP_DAC_READ_SEARCH: 125, "confine the child: Operation not permitted"."""
    for _ in range(2):
        run = t.petri.run("--", "/bin/true")
        t.equal(run.code, 0, run.err)
        os.unlink(os.path.join(t.state, "images", "host.json"))


def bytes_read_by(pid):
    with open(f"/proc/{pid}/io", encoding="utf-8") as f:
        return int(f.readline().split()[1])


def test_stdin_from_a_large_blob(t):
    """Whole, also where it is read slowly or not at all; and the worker reads none of it."""
    content = bytes(range(256)) * 40000 + b"end"
    blob = t.petri.call("blob", "put", t.write("blob", content)).out.strip()
    worker = t.worker(slots=2)
    pid = next(p for p in worker.pids() if open(f"/proc/{p}/comm", encoding="utf-8").read() == "petri-worker\n")
    worker.do({"id": "first", "argv": ["/bin/true"]})
    try:
        before = bytes_read_by(pid)
    except PermissionError:
        before = None
    for n, script in enumerate(("sha256sum", "sleep 0.2; sha256sum", "dd bs=100 2>/dev/null | sha256sum", "head -c 5000000 >/dev/null; sha256sum")):
        result = worker.do({"id": f"in-{n}", "argv": ["/bin/sh", "-c", script], "stdin": {"blob": blob}, "limits": {"cpu_ms": 60000}}, 60)
        want = hashlib.sha256(content[5000000:] if "head" in script else content).hexdigest()
        t.equal(result["stdout"]["data"].split()[0], want, script)
    for n, script in enumerate(("true", "exec <&-; sleep 0.1", "head -c 1 > /dev/null", "sleep 0.3")):
        result = worker.do({"id": f"not-{n}", "argv": ["/bin/sh", "-c", script], "stdin": {"blob": blob}})
        t.equal((result["status"], result["exit_code"]), ("exited", 0), result)
    if before is not None:
        t.check(bytes_read_by(pid) - before < len(content) // 4, "the worker read the blob itself")


def test_stdin_from_an_empty_blob(t):
    blob = t.petri.call("blob", "put", t.write("blob", b"")).out.strip()
    run = t.petri.job({"argv": ["/usr/bin/wc", "-c"], "stdin": {"blob": blob}})
    t.equal((run.status, run.out), ("exited", "0\n"), run)


if __name__ == "__main__":
    main(globals())
