"""What comes out of a job: regular files of its own, by no other way than the one named, and no more than allowed."""
import base64
import json
import os
import signal
import time

from lib import main

MIB = 1 << 20


def job(t, script, collect, **more):
    run = t.petri.job({"id": "x", "argv": ["/bin/sh", "-c", script], "collect": collect, **more})
    t.check(run.result is not None, run)
    return run


def inline(path, **more):
    return {"path": path, "as": "inline", **more}


def test_inline(t):
    run = job(t, "printf 'a b\\n' > out; printf '\\377\\0' > bytes; : > empty",
              [inline("/work/out"), inline("/work/bytes"), inline("/work/empty")])
    t.equal(run.result["status"], "exited", run)
    t.equal(run.result["message"], "", run)
    files = run.result["files"]
    t.equal(files["/work/out"], {"data": "a b\n", "bytes": 4}, run)
    t.equal(base64.b64decode(files["/work/bytes"]["base64"]), b"\xff\0", run)
    t.equal(files["/work/empty"], {"data": "", "bytes": 0}, run)


def test_blob(t):
    run = job(t, "seq 1 100000 > out", ["/work/out"])
    file = run.result["files"]["/work/out"]
    text = "".join(f"{i}\n" for i in range(1, 100001)).encode()
    t.equal(file["bytes"], len(text), run)
    t.check(file["blob"].startswith("xxh128:"), run)
    t.check(t.petri.call("blob", "cat", file["blob"]).stdout == text, "the blob is not what the job wrote")
    again = t.petri.job({"argv": ["/usr/bin/wc", "-c"], "stdin": {"blob": file["blob"]}})
    t.equal(again.out, f"{len(text)}\n", again)


def test_large_blobs(t):
    """What is large is hashed by a process of its own; it is stored, bounded and told like the rest."""
    worker = t.worker(slots=2)
    limits = {"disk_bytes": 32 * MIB, "memory_bytes": 256 * MIB, "cpu_ms": 60000, "wall_ms": 60000}
    want = ["/work/a", {"path": "/work/small", "as": "inline"}, {"path": "/work/b", "max_bytes": 3 * MIB}, "/work/c", "/work/hole", "/work/none"]
    result = worker.do({"id": "x", "argv": ["/bin/sh", "-c", "seq 1 1000000 > a; echo s > small; head -c 4M /dev/zero > b; head -c 3M a > c;"
                                            "truncate -s 1G hole"], "collect": want, "limits": limits})
    t.equal(result["status"], "exited", result)
    t.equal(set(result["files"]), {"/work/a", "/work/small", "/work/c"}, result)
    for name in ("b: larger", "hole: larger", "none"):
        t.contains(result["message"], name, result)
    text = "".join(f"{i}\n" for i in range(1, 1000001)).encode()
    for name, content in (("a", text), ("c", text[:3 * MIB])):
        file = result["files"][f"/work/{name}"]
        t.equal(file["bytes"], len(content), result)
        t.check(t.petri.call("blob", "cat", file["blob"]).stdout == content, f"{name} is not what the job wrote")
    again = worker.do({"id": "y", "argv": ["/bin/sh", "-c", "seq 1 1000000 > other"], "collect": ["/work/other"], "limits": limits})
    t.equal(again["files"]["/work/other"]["blob"], result["files"]["/work/a"]["blob"], "equal content, one blob")


def test_large_blobs_of_many(t):
    worker = t.worker(slots=4)
    for i in range(12):
        worker.submit({"id": f"x{i}", "argv": ["/bin/sh", "-c", f"seq {i} 200000 > a; seq {i} 210000 > b"], "collect": ["/work/a", "/work/b"]})
    for i in range(12):
        result = worker.result(f"x{i}")
        t.equal([result["files"][f"/work/{n}"]["bytes"] for n in "ab"],
                [sum(len(str(k)) + 1 for k in range(i, last + 1)) for last in (200000, 210000)], result)


def test_many_large_blobs_of_one_slot(t):
    """One after the other, and a commit at the end: each is asked for before the process that did the last one is gone for sure."""
    names = [f"f{i}" for i in range(20)]
    run = t.petri.job({"argv": ["/bin/sh", "-c", f"for n in {' '.join(names)}; do seq 1 70000 > $n; echo $n >> $n; done"],
                       "collect": [f"/work/{n}" for n in names], "commit": "/work"})
    t.equal((run.result["status"], run.result["message"], len(run.result["files"])), ("exited", "", 20), run)
    t.check(run.result["layer"], run)


def test_large_blob_while_the_helper_is_killed(t):
    """Nobody waits for a process that died: the job's result comes, says what is missing, and does not pass for a good one."""
    worker = t.worker(slots=1)
    worker.submit({"id": "x", "argv": ["/bin/sh", "-c", "head -c 800M /dev/zero > a"], "collect": ["/work/a"],
                   "limits": {"disk_bytes": 1 << 30, "memory_bytes": 2 << 30, "cpu_ms": 60000, "wall_ms": 60000}})

    def helpers():
        """Children of the supervisor that run as the worker's user, but the worker."""
        found = []
        for pid in worker.pids():
            try:
                with open(f"/proc/{pid}/status", encoding="utf-8") as f:
                    status = dict(x.split(":\t", 1) for x in f.read().splitlines() if ":\t" in x)
            except OSError:
                continue
            if status["Uid"].split()[0] == "2147287040" and status["Name"] != "petri-worker":
                found.append(pid)
        return found

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (there := helpers()):
        pass
    t.check(there, "no helper was seen")
    os.kill(there[0], signal.SIGKILL)
    result = worker.result("x")
    t.equal((result["status"], result["files"]), ("internal_error", {}), result)
    t.contains(result["message"], "/work/a", result)
    again = worker.do({"id": "y", "argv": ["/bin/sh", "-c", "seq 1 100000 > a"], "collect": ["/work/a"]})
    t.equal(list(again["files"]), ["/work/a"], again)


def test_flag(t):
    run = t.petri.sh("echo hi > /tmp/out", "--collect", "/tmp/out")
    t.equal(t.petri.call("blob", "cat", run.result["files"]["/tmp/out"]["blob"]).out, "hi\n", run)


def test_missing(t):
    run = job(t, "true", ["/work/none", {"path": "/work/nor/this", "optional": True},
                          {"path": "/work/neither", "optional": True}])
    t.equal((run.result["status"], run.result["files"]), ("exited", {}), run)
    t.contains(run.result["message"], "/work/none", run)
    t.check("neither" not in run.result["message"] and "nor/this" not in run.result["message"], run)


def test_of_a_job_that_was_killed(t):
    """What it wrote so far."""
    run = job(t, "echo part > out; while :; do :; done", ["/work/out"], limits={"cpu_ms": 100})
    t.equal(run.result["status"], "cpu_limit", run)
    t.equal(run.result["files"]["/work/out"]["bytes"], 5, run)


def test_max_bytes(t):
    run = job(t, "head -c 100 /dev/zero > exact; head -c 101 /dev/zero > more",
              [inline("/work/exact", max_bytes=100), inline("/work/more", max_bytes=100)])
    t.equal(set(run.result["files"]), {"/work/exact"}, run)
    t.contains(run.result["message"], "/work/more", run)


ESCAPES = {
    "/work/link": "ln -s /etc/passwd link",
    "/work/shadow": "ln -s /etc/shadow shadow",
    "/work/proc": "ln -s /proc/1/root/etc/shadow proc",
    "/work/self": "ln -s /proc/self/root/etc/passwd self",
    "/work/dir/passwd": "ln -s /etc dir",
    "/work/up/passwd": "ln -s ../../../../../etc up",
    "/work/fifo": "mkfifo fifo",
    "/work/directory": "mkdir directory",
    "/dev/zero": "true",
    "/dev/full": "true",
    "/proc/self/environ": "true",
    "/proc/1/environ": "true",
    "/work/secret": "umask 0; : > secret; chmod 0 secret; ln -s /work/secret s",
    "/root/x": "true",
}


def test_escapes(t):
    """Each is refused, says why, and does not keep anybody waiting; what is beside it still comes."""
    for path, script in ESCAPES.items():
        run = job(t, script + "; echo fine > /work/fine", [path, inline("/work/fine")])
        t.equal(run.result["status"], "exited", run)
        files = dict(run.result["files"])
        t.equal(files.pop("/work/fine", None), {"data": "fine\n", "bytes": 5}, run)
        if path == "/work/secret":  # its own, whatever the mode
            continue
        t.equal(files, {}, f"{path}: {run}")
        t.contains(run.result["message"], path, run)
        t.check(run.seconds < 5 * t.scale, run)


def test_huge_sparse_file(t):
    for wish in (["/work/huge"], [inline("/work/huge")]):
        run = job(t, "truncate -s 1T huge || truncate -s 8G huge; ls -l huge", wish)
        t.equal((run.result["status"], run.result["files"]), ("exited", {}), run)
        t.contains(run.result["message"], "/work/huge", run)
        t.check(run.seconds < 5 * t.scale, run)


def test_sparse_file_within_the_limit(t):
    run = job(t, "truncate -s 1M hole", ["/work/hole"])
    t.equal(run.result["files"]["/work/hole"]["bytes"], MIB, run)


def test_from_image_and_usr(t):
    """A file of the image is the job's to read, so it may be collected too; what the job may not read, not."""
    run = job(t, "true", [inline("/etc/hostname")])
    t.equal(run.result["files"]["/etc/hostname"]["data"], "petri\n", run)


def test_many(t):
    paths = [f"/work/f{i}" for i in range(200)]
    run = job(t, "for i in $(seq 0 199); do echo $i > f$i; done", [inline(p, max_bytes=100) for p in paths])
    t.equal({p: f["data"] for p, f in run.result["files"].items()}, {p: f"{i}\n" for i, p in enumerate(paths)},
            run.result["message"])


def test_order_and_shape(t):
    """Every key of the result is there, in the documented order."""
    run = job(t, "echo x", [], meta={"a": [1, None, "ü"]})
    t.equal(list(run.result), ["id", "status", "exit_code", "signal", "message", "field", "reason", "usage", "stdout",
                               "stderr", "files",
                               "layer", "violation", "unenforced", "meta", "timing", "worker", "attempt"], run)
    t.equal(list(run.result["usage"]), ["wall_us", "cpu_user_us", "cpu_system_us", "memory_peak_bytes", "pids_peak",
                                        "pids_limit_hits",
                                        "io_read_bytes", "io_write_bytes", "disk_bytes", "throttled_us", "oom_kills"],
                                        run)
    t.equal(list(run.result["timing"]), ["queued_us", "dispatch_us", "exec_us", "collect_us"], run)
    t.equal((run.result["meta"], run.result["unenforced"], run.result["attempt"]), ({"a": [1, None, "ü"]}, [], 1), run)


def test_streams_that_are_not_text(t):
    run = job(t, "printf '\\377\\376'; printf 'a\\0b' >&2", [])
    t.equal(base64.b64decode(run.result["stdout"]["base64"]), b"\xff\xfe", run)
    t.equal(base64.b64decode(run.result["stderr"]["base64"]), b"a\0b", run)
    run = job(t, "printf 'gr\\303\\274n \\342\\202\\254 \"\\\\\\t\\001'", [])
    t.equal(run.result["stdout"], {"data": "grün € \"\\\t\x01", "truncated": False}, run)


def test_result_to_stdout(t):
    run = t.petri.call("run", "--result", "-", "--", "/bin/true")
    t.equal(json.loads(run.out)["status"], "exited", run)


if __name__ == "__main__":
    main(globals())
