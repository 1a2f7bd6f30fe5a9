"""Attacks on what comes out of a job: its outputs, its layer, and how it is said to have ended. See also test_collect.py and
tests/attacks/forge_result.c and exit_claims.c."""
import os

from lib import main
from lib_attacks import blob_of, image_of

LIMITS = {"cpu_ms": 20000, "wall_ms": 30000, "disk_bytes": 64 << 20, "disk_inodes": 30000}


def job(name, program, *argv, **more):
    return {"id": name, "argv": ["/work/attack", *argv], "limits": LIMITS, "env": ["PATH=/bin"],
            "files": {"/work/attack": {"blob": program, "mode": "0755"}}, **more}


def inline(path):
    return {"path": path, "as": "inline", "optional": True}


def test_swapped_until_killed(t):
    """Control: open.c without RESOLVE_NO_SYMLINKS, NO_MAGICLINKS and O_NOFOLLOW: the image's /etc/passwd among the files of swap-2."""
    program = blob_of(t, "swap")
    worker = t.worker(slots=1)
    taken, refused = 0, 0
    for i in range(20):
        result = worker.do(job(f"swap-{i}", program, str(i), collect=[inline("/work/out"), inline("/work/way/passwd")],
                               policy=("judge", "default")[i % 2], commit="/work/way"))
        t.equal((result["status"], result["exit_code"]), ("exited", 0), result)
        t.check(all(f["data"] in ("mine\n", "") for f in result["files"].values()), result)
        t.check(result["usage"]["wall_us"] < 10000000 * t.scale, result)
        taken += len(result["files"])
        refused += "/work/" in result["message"]
        if result["layer"]:
            seen = worker.do({"id": f"seen-{i}", "argv": ["/bin/sh", "-c", "ls -A /work/way; cat /work/way/passwd; true"], "layers": [result["layer"]]})
            t.check(seen["stdout"]["data"] in ("", "passwd\nmine\n", "passwd\n"), (result, seen))
    print(f"{taken} outputs were taken, {refused} jobs had one refused")
    t.check(taken + refused > 0, "neither happened")


ESCAPES = {
    "/proc/self/fd/1": "true", "/proc/self/root/etc/passwd": "true", "/dev/fd/0": "true", "/dev/stdin": "true",
    "/proc/1/root/etc/passwd": "true", "/proc/self/cwd/fine": "true", "/proc/thread-self/root/work/fine": "true",
    "/proc/1/fd/0": "true", "/proc/self/exe": "true", "/work/fd": "ln -s /proc/self/fd/1 fd", "/work/exe": "ln -s /proc/self/exe exe",
    "/work/loop": "ln -s loop loop", "/work/d/d/fine": "mkdir d && ln -s .. d/d", "/work/fine/": "true", "/work/fine/x": "true",
    "/work/dev/null": "ln -s /dev dev", "/work/sock": "/usr/bin/python3 -c 'import socket; socket.socket(1).bind(\"sock\")'",
    "/proc/version": "true", "/dev/urandom": "true", "/dev/null": "true", "/etc/shadow": "true", "/root/.bashrc": "true",
    "/proc/kcore": "true", "/dev/shm": "true",
}


def test_paths_that_lead_elsewhere(t):
    """One job each, in one worker, and what is beside it comes. Controls: as above: '/work/d/d/fine' is there, by a link that was
    followed; open_one() without S_ISREG: '/dev/null' is."""
    worker = t.worker(slots=2)
    for number, (path, script) in enumerate(ESCAPES.items()):
        worker.submit({"id": f"e{number}", "argv": ["/bin/sh", "-c", f"echo fine > fine; {script}"], "policy": "default",
                       "collect": [{"path": path, "as": "inline"}, inline("/work/fine")]})
    for number, path in enumerate(ESCAPES):
        result = worker.result(f"e{number}")
        if result["status"] == "rejected":
            t.check(result["field"].startswith("collect"), result)
            continue
        t.equal((result["status"], result["exit_code"]), ("exited", 0), (path, result))
        t.equal({k: f["data"] for k, f in result["files"].items()}, {"/work/fine": "fine\n"}, (path, result))
        t.contains(result["message"], path[:-1], result)


def test_dots_and_odd_names(t):
    """A path with dots is refused before the job runs; a name is bytes, whatever they mean to a terminal or to JSON.
    Control: job_path_normalise() that does not mind '..': {'/work/../etc/passwd': …} is among the files."""
    for path in ("/work/../etc/passwd", "work/x", "/work/./x", "/", "", "/..", "/work//x", "/work/a/.."):
        run = t.petri.job({"argv": ["/bin/true"], "collect": [path]})
        if run.status != "rejected":
            t.equal((run.status, run.result["files"]), ("exited", {}), run)
    for name in ("new\nline", "esc\x1b[2J", "q\"uote", "back\\slash", "%s%n", "-rf", "\u202e", "x" * 255, " "):
        run = t.petri.job({"argv": ["/usr/bin/python3", "-c", "import sys; open(sys.argv[1], 'w').write('x')", "/work/" + name],
                           "collect": ["/work/" + name]})
        t.equal((run.status, list(run.result["files"])), ("exited", ["/work/" + name]), run)
        missing = t.petri.job({"argv": ["/bin/true"], "collect": ["/work/" + name]})
        t.check(missing.status == "exited" and "/work/" in missing.result["message"], missing)
        t.check("\x1b" not in missing.err and "\n[" not in missing.err, missing)


def test_growing_until_killed(t):
    """A file that grows up to the kill comes whole or not at all, and within the limit; one whose size is a lie does not.
    Control: blob_max() of 20 GiB: 'no end after 30 s', in which the hole is copied."""
    grow = "import os\nf = os.open('/work/out', os.O_CREAT | os.O_WRONLY)\nwhile True:\n try: os.write(f, b'x' * 65536)\n except OSError: pass"
    run = t.petri.job({"argv": ["/usr/bin/python3", "-c", grow], "collect": ["/work/out"], "limits": {"disk_bytes": 4 << 20, "cpu_ms": int(300 * t.scale), "wall_ms": 30000}})
    t.equal(run.status, "cpu_limit", run)
    t.check(1 << 20 < run.result["files"]["/work/out"]["bytes"] <= 4 << 20, run)
    shrink = "import os\nf = os.open('/work/out', os.O_CREAT | os.O_WRONLY)\nos.truncate(f, 10 << 30)\nos.link('/work/out', '/work/too')"
    run = t.petri.job({"argv": ["/usr/bin/python3", "-c", shrink], "collect": ["/work/out", "/work/too"], "commit": "/work"})
    t.equal((run.status, run.result["exit_code"], run.result["files"], run.result["layer"]), ("exited", 0, {}, None), run)
    t.check(run.seconds < 5 * t.scale, run)


LOOK = r"""
import json, os, stat
found = {}
for top, dirs, files in os.walk(b"/work"):
    for name in dirs + files:
        path = os.path.join(top, name)
        st = os.lstat(path)
        found[repr(path)] = [stat.S_IFMT(st.st_mode), st.st_mode & 0o7777, st.st_uid, sorted(os.listxattr(path, follow_symlinks=False))]
print(json.dumps(found))
"""


def test_tree_that_wants_to_be_more(t):
    """Under both policies; the layer is then looked at on disk, by petri's own check, and from a job.
    Controls: attr_kept() true for any name: refused here at 'dir'. The set-id bits take three: with 07777 in commit_file() the writer of
    layers drops them, with 07777 there as well the description refuses the layer: 'it is setuid or setgid'."""
    program = blob_of(t, "tree")
    image = image_of(t)
    for policy in ("judge", "default"):
        run = t.petri.job(job("tree", program, policy=policy, image=image, commit="/work",
                              env=["PATH=/bin"] + (["SOCKETS=1"] if policy == "default" else [])))
        t.check(run.status == "exited" and "BROKEN" not in run.out and run.result["exit_code"] == 0, run)
        t.check(run.result["layer"], run)
        layer = run.result["layer"]
        diff = os.path.join(t.state, "layers", layer.partition(":")[2], "diff")
        for top, dirs, files in os.walk(os.fsencode(diff)):
            for name in [b"", *dirs, *files]:
                path = os.path.join(top, name) if name else top
                st = os.lstat(path)
                t.check((st.st_mode & 0o170000) in (0o100000, 0o040000, 0o120000), path)
                t.equal(st.st_mode & 0o6000, 0, path)
                t.check(set(os.listxattr(path, follow_symlinks=False)) <= {"user.kept", "security.selinux"}, path)
                t.check(name not in (b"forged", b"fifo", b"socket", b"keep", b"null", b"disk"), path)
        verify = t.petri.call("layer", "verify", layer)
        t.equal(verify.code, 0, verify)
        look = t.petri.job({"argv": ["/usr/bin/python3", "-c", LOOK], "layers": [layer]})
        t.check(look.status == "exited" and look.result["exit_code"] == 0 and "unreadable" in look.out and "\\xff" in look.out, look)
        passwd = t.petri.job({"argv": ["/bin/cat", "/work/upwards"], "layers": [layer]})
        t.equal(passwd.out, t.petri.sh("cat /etc/passwd").out, "a link leads no further than the job's own root")


def test_tree_too_deep(t):
    """Control: no COMMIT_DEPTH_MAX: still 'nested deeper', by the next bound (tree.c); neither of the two: 'write the description of the
    tree: File too large', by a third one, after 58 s."""
    program = blob_of(t, "tree")
    run = t.petri.job(job("deep", program, "deep", commit="/work"), timeout=60)
    t.equal((run.status, run.result["exit_code"], run.result["layer"]), ("exited", 0, None), run)
    t.contains(run.result["message"], "nested deeper", run)


PROTOCOL = r"""
import os
sent = []
for fd in range(3, 256):
    for text in (b"N", b"R", b"NR" * 100, b'{"status": "exited", "exit_code": 0}'):
        try:
            os.write(fd, text)
            sent.append(fd)
        except OSError:
            pass
print(sent, "petri" in open("/proc/self/cmdline").read(), flush=True)
os._exit(43)
"""


def test_runtime_s_descriptors(t):
    """A job that a warm runtime became finds nothing of its protocol: it can neither be run again nor say that it never began.
    Control: petri_runtime.py without os.close(3): not [], but the writes on 3."""
    t.equal(t.petri.call("image", "runtime", "host", "python3").code, 0)
    worker = t.worker(slots=1)
    body = {"argv": ["python3", "main.py"], "files": {"/work/main.py": {"data": PROTOCOL}}}
    attempts = iter(range(100))

    def warm():
        result = worker.do({"id": f"forge-{next(attempts)}", **body})
        t.equal((result["status"], result["exit_code"]), ("exited", 43), result)
        t.check(result["stdout"]["data"].startswith("[] "), result)
        return "True" in result["stdout"]["data"]
    t.eventually(warm, "a warm job", 15)


if __name__ == "__main__":
    main(globals())
