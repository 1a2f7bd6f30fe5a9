"""petri layer and petri gc: lists, verification, removal, pins; and many processes at one store."""
import json
import os
import subprocess
import threading
import time

from lib import main

ID = "xxh128:"


def ok(run):
    if run.code != 0:
        raise AssertionError(str(run))
    return run


def make_root(t, name="root", text="welcome\n"):
    root = t.path(name)
    os.makedirs(os.path.join(root, "sub", "deep"))
    for path, data in (("motd", text), ("sub/a", "a\n" * 3000), ("sub/deep/b", "b")):
        with open(os.path.join(root, path), "w", encoding="utf-8") as f:
            f.write(data)
    os.symlink("motd", os.path.join(root, "link"))
    os.chmod(os.path.join(root, "sub", "a"), 0o640)
    return root


def import_image(t, name, source):
    return json.loads(ok(t.petri.call("image", "import", name, source, timeout=60)).out)["layers"]


def layers(t):
    """id → the rest of its line in `petri layer list`."""
    return dict(line.split(" ", 1) for line in ok(t.petri.call("layer", "list")).out.splitlines())


def layer_path(t, layer, *parts):
    return os.path.join(t.state, "layers", layer[len(ID):], *parts)


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


def commit(t, script, **more):
    run = t.petri.job({"argv": ["/bin/sh", "-ec", script], "commit": "/work", **more})
    t.equal((run.status, run.code, run.result["message"]), ("exited", 0, ""), run)
    return run.result["layer"]


def verify(t, *what):
    return t.petri.call("layer", "verify", *what, timeout=60)


# ---- what is there, and whether it is whole ----

def test_list(t):
    layer, = import_image(t, "one", make_root(t))
    import_image(t, "two", t.path("root"))
    t.check(layers(t)[layer].endswith(" images=one,two"), layers(t))
    ok(t.petri.call("layer", "pin", layer))
    t.check(layers(t)[layer].endswith(" images=one,two pinned"), layers(t))
    ok(t.petri.call("layer", "unpin", layer))
    ok(t.petri.call("image", "rm", "one"))
    t.check(layers(t)[layer].endswith(" images=two"), layers(t))
    for words in ((), ("nonsense",), ("rm",), ("list", "more"), ("--nonsense", "list")):
        t.equal(t.petri.call("layer", *words).code, 125)
    for words in (("rm", "x"), ("verify", "xxh128:12"), ("rm", ID + "0" * 32), ("verify", ID + "0" * 32),
                  ("pin", ID + "0" * 32), ("unpin", ID + "0" * 32)):
        run = t.petri.call("layer", *words)
        t.check(run.code == 1 and words[1] in run.err, run)


def test_verify_names_what_differs(t):
    layer, = import_image(t, "one", make_root(t))
    small = commit(t, "echo small > /work/s")
    big = commit(t, "echo linked > /work/s; ln -s s /work/l")
    blob = ok(t.petri.call("blob", "put", "-", stdin="blob")).out.strip()
    run = ok(verify(t))
    t.equal(run.out, "")
    for one in (layer, small, big, blob):
        ok(verify(t, one))

    diff = layer_path(t, layer, "diff")

    def lines(*what):
        run = verify(t, *what)
        t.equal(run.code, 1, run)
        return sorted(line.partition(": ")[2] for line in run.out.splitlines())
    # A file is a link of an object that others share; each is changed in the layer alone.
    path = os.path.join(diff, "sub/a")
    st = os.lstat(path)
    data = "a\n" * 2999 + "b\n"
    os.unlink(path)
    with open(path, "w", encoding="utf-8") as f:
        f.write(data)
    os.chown(path, st.st_uid, st.st_gid)
    os.chmod(path, 0o640)
    t.equal(lines(layer), ["changed content: sub/a"])
    os.chmod(path, 0o600)
    os.chown(path, 0, st.st_gid)
    os.unlink(os.path.join(diff, "link"))
    os.symlink("elsewhere", os.path.join(diff, "link"))
    os.lchown(os.path.join(diff, "link"), st.st_uid, st.st_gid)
    os.mkdir(os.path.join(diff, "new\nline"))
    os.unlink(os.path.join(diff, "motd"))
    os.mkdir(os.path.join(diff, "motd"))
    with open(os.path.join(diff, "motd", "in"), "w", encoding="utf-8"):
        pass
    os.rename(os.path.join(diff, "sub/deep"), os.path.join(diff, "sub/deeper"))
    got = lines()
    t.equal([x for x in got if "changed owner" not in x and "changed mode" not in x],
            ["another type: motd", "changed content: sub/a", "changed target: link", "extra: new\\x0aline", "extra: sub/deeper",
             "missing: sub/deep"])
    t.check(any(x.startswith("changed mode: sub/a (0600") for x in got), got)
    t.check(any(x.startswith("changed owner: sub/a") for x in got), got)
    # The others are whole.
    ok(verify(t, small))

    # Extended attributes, an opaque directory.
    os.setxattr(layer_path(t, big, "diff"), "trusted.overlay.opaque", b"y")
    t.equal(lines(big), ["extra attribute trusted.overlay.opaque: ."])
    os.removexattr(layer_path(t, big, "diff"), "trusted.overlay.opaque")
    ok(verify(t, big))
    # The pack of a small commit, which would be written into a sandbox.
    pack = layer_path(t, small, "pack")
    os.chmod(pack, 0o600)
    with open(pack, "r+b") as f:
        at = f.read().index(b"small")
        f.seek(at)
        f.write(b"SMALL")
    t.equal(lines(small), ["the pack differs: work/s"])
    # The description itself.
    tree = layer_path(t, big, "tree")
    with open(tree, "r+b") as f:
        f.seek(30)
        byte = f.read(1)
        f.seek(30)
        f.write(bytes([byte[0] ^ 1]))
    t.contains(lines(big)[0], "SHA-256")
    os.unlink(tree)
    t.contains(lines(big)[0], "missing")
    os.mkfifo(tree)
    t.contains(lines(big)[0], "no file")
    # A blob.
    path = os.path.join(t.state, "blobs", blob[len(ID):][:2], blob[len(ID):])
    os.chmod(path, 0o600)
    with open(path, "w", encoding="utf-8") as f:
        f.write("BLOB")
    t.equal(len(lines(blob)), 2)


def test_verify_counts_past_a_hundred(t):
    root = t.path("many")
    os.mkdir(root)
    for i in range(250):
        with open(os.path.join(root, f"f{i}"), "w", encoding="utf-8") as f:
            f.write(str(i))
    layer, = import_image(t, "many", root)
    for i in range(250):
        os.unlink(layer_path(t, layer, "diff", f"f{i}"))
    run = verify(t, layer)
    t.equal((run.code, len(run.out.splitlines())), (1, 101))
    t.contains(run.out, "and 150 more")


# ---- removal ----

def test_rm_says_what_uses_a_layer(t):
    layer, = import_image(t, "one", make_root(t))
    run = t.petri.call("layer", "rm", layer)
    t.check(run.code == 1 and "image one" in run.err, run)
    ok(t.petri.call("image", "rm", "one"))
    ok(t.petri.call("layer", "pin", layer))
    run = t.petri.call("layer", "rm", layer)
    t.check(run.code == 1 and "pinned" in run.err, run)
    ok(t.petri.call("layer", "unpin", layer))
    ok(t.petri.call("layer", "rm", layer))
    t.check(layer not in layers(t) and not os.path.exists(layer_path(t, layer)))


def test_gc_by_age(t):
    layer, = import_image(t, "one", make_root(t))
    young = commit(t, "echo young > f")
    old = commit(t, "echo old > f")
    blob = ok(t.petri.call("blob", "put", "-", stdin="blob")).out.strip()
    pinned = ok(t.petri.call("blob", "put", "-", stdin="pinned")).out.strip()
    ok(t.petri.call("blob", "pin", pinned))
    for one in (layer, old):
        age(layer_path(t, one, "used"), 8 * 86400)
    age(layer_path(t, young, "used"), 6 * 86400)
    for one in (blob, pinned):
        age(os.path.join(t.state, "blobs", one[len(ID):][:2], one[len(ID):]), 8 * 86400)
    run = ok(t.petri.call("gc", "--dry-run"))
    t.check(f"would remove layer {old}" in run.out and f"would remove blob {blob}" in run.out and young not in run.out, run)
    t.check(old in layers(t))
    run = ok(t.petri.call("gc"))
    t.check(f"removed layer {old}" in run.out and "1 layers, 1 blobs" in run.out, run)
    t.check(young in layers(t) and layer in layers(t) and old not in layers(t))
    t.equal(t.petri.call("blob", "cat", blob).code, 1)
    t.equal(ok(t.petri.call("blob", "cat", pinned)).out, "pinned")
    t.rejected(t.petri.job({"argv": ["/bin/true"], "layers": [old]}), "layers[0]", "missing")
    # A use makes it young.
    age(layer_path(t, young, "used"), 8 * 86400)
    ok(t.petri.job({"argv": ["/bin/cat", "f"], "layers": [young]}))
    t.contains(ok(t.petri.call("gc", "--keep", "7d")).out, "0 layers")
    t.contains(ok(t.petri.call("gc", "--keep=0")).out, "1 layers")
    for flags in (("--keep", "x"), ("--max-size", "x"), ("--keep",), ("more",), ("--nonsense",)):
        t.equal(t.petri.call("gc", *flags).code, 125)
    ok(verify(t))


def test_gc_by_size(t):
    made = [commit(t, f"head -c 200000 /dev/zero | tr '\\0' {c} > f") for c in "abcd"]
    for i, one in enumerate(made):
        age(layer_path(t, one, "used"), 3600 * (i + 1))
    run = ok(t.petri.call("gc", "--max-size", "1"))
    t.check("more than --max-size" in run.out and "4 layers" in run.out, run)
    order = [line.split()[2] for line in run.out.splitlines() if line.startswith("removed layer")]
    t.equal(order, made[::-1])


def spares_what_runs(t, layer):
    job = {"argv": ["/bin/sh", "-c", "sleep 1.5; cat f"], "layers": [layer], "image": "host"}
    path = t.write("job.json", json.dumps(job))
    with subprocess.Popen([t.petri.binary, "run", "--job", path], env=t.petri.env(), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as running:
        time.sleep(0.7)
        t.contains(ok(t.petri.call("gc", "--keep", "0")).out, "0 layers")
        run = t.petri.call("layer", "rm", layer)
        t.check(run.code == 1 and "running job" in run.err, run)
        out, err = running.communicate(timeout=30)
        t.equal((running.returncode, out), (0, b"there\n"), err)
    t.contains(ok(t.petri.call("gc", "--keep", "0")).out, "1 layers")


def test_gc_spares_what_runs(t):
    spares_what_runs(t, commit(t, "echo there > f; ln -s f l"))


def test_gc_spares_what_was_delivered(t):
    """A small layer, which is in the sandbox as files."""
    spares_what_runs(t, commit(t, "echo there > f"))


def test_gc_spares_a_waiting_slot(t):
    """The image is gone, but a slot was made ready for its next job."""
    root = make_root(t)
    tool = t.compile("#include <unistd.h>\nint main(void) { return write(1, \"hi\\n\", 3) != 3; }", "tool", "-static")
    os.rename(tool, os.path.join(root, "tool"))
    layer, = import_image(t, "mini", root)
    worker = t.worker(slots=1)
    t.equal(worker.do({"image": "mini", "argv": ["/tool"]})["stdout"]["data"], "hi\n")
    ok(t.petri.call("image", "rm", "mini"))
    t.contains(ok(t.petri.call("gc", "--keep", "0")).out, "0 layers")
    t.check(layer in layers(t), layers(t))
    t.equal(worker.do({"argv": ["/bin/echo", "hi"]})["stdout"]["data"], "hi\n")

    def collected():
        return "1 layers" in ok(t.petri.call("gc", "--keep", "0")).out
    t.eventually(collected, "the slot lets go of what it was made of")
    t.check(layer not in layers(t), layers(t))


def test_gc_spares_a_worker_s_slots(t):
    """What idle slots are made of, and the layers of a running job; not what it has done with."""
    layer, = import_image(t, "mini", make_root(t))
    used = commit(t, "echo there > f; ln -s f l")
    worker = t.worker("--warm-image", "mini,host")
    t.equal(worker.do({"argv": ["/bin/cat", "f"], "layers": [used]})["stdout"]["data"], "there\n")
    ok(t.petri.call("image", "rm", "mini"))
    for _ in range(50):
        run = ok(t.petri.call("gc", "--keep", "0"))
        if "1 layers" in run.out:
            break
        time.sleep(0.1)
    t.check(used not in layers(t) and layer in layers(t), layers(t))
    result = worker.do({"argv": ["/bin/cat", "f"], "layers": [used]})
    t.equal((result["status"], result["field"], result["reason"]), ("rejected", "layers[0]", "missing"))
    t.equal(worker.do({"argv": ["/bin/echo", "on"]})["stdout"]["data"], "on\n")
    worker.stop()
    t.contains(ok(t.petri.call("gc", "--keep", "0")).out, "1 layers")


def held(worker):
    """The layers that a worker's processes hold, one entry an fd."""
    found = []
    for pid in worker.pids():
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        found += [x.split("/")[-2] for x in links if x.endswith("/used")]
    return sorted(found)


def test_worker_notes_the_use_and_holds_what_it_needs(t):
    used = commit(t, "echo there > f; ln -s f l")
    host, = json.loads(ok(t.petri.call("image", "inspect", "host")).out)["layers"]
    worker = t.worker()
    job = {"argv": ["/bin/cat", "f"], "layers": [used]}
    age(layer_path(t, used, "used"), 3600)
    for _ in range(20):
        t.equal(worker.do(job)["stdout"]["data"], "there\n")
    t.check(abs(time.time() - os.stat(layer_path(t, used, "used")).st_mtime) < 60)
    t.eventually(lambda: held(worker) == [host[len(ID):]], "only the idle slots' layer is held, by one fd")
    worker.submit({"id": "long", "argv": ["/bin/sleep", "2"], "layers": [used]})
    t.eventually(lambda: held(worker) == sorted([host[len(ID):], used[len(ID):]]), "the running job's is held too")
    worker.result("long")
    t.eventually(lambda: held(worker) == [host[len(ID):]], "it is let go of")


# ---- many at once ----

class Crowd:
    """Threads that do their part again and again until the time is up or one fails."""

    def __init__(self, seconds):
        self.end, self.failures, self.counts, self.threads = time.monotonic() + seconds, [], {}, []

    def add(self, name, part):
        def loop():
            n = 0
            try:
                while time.monotonic() < self.end and not self.failures:
                    part(n)
                    n += 1
            except Exception as e:  # reported by the main thread
                self.failures.append(f"{name}: {e}")
            self.counts[name] = n
        self.threads.append(threading.Thread(target=loop))

    def run(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        if self.failures:
            raise AssertionError("\n".join(self.failures))


def test_everything_at_once(t):
    """Imports of the same trees, jobs, verification and gc --keep 0: each image runs, nothing is found damaged."""
    ok(t.petri.run("--", "/bin/true"))
    roots = [make_root(t, f"r{i}", f"text {i}\n") for i in range(2)]
    crowd = Crowd(8 * t.scale)

    def importer(who):
        def part(n):
            name = f"i{who}-{n % 2}"
            layer, = import_image(t, name, roots[n % 2])
            if not os.path.exists(layer_path(t, layer, "diff", "motd")):
                raise AssertionError(f"{layer} of {name} is gone")
            ok(t.petri.call("image", "rm", name))
        return part

    def runner(n):
        path = t.path(f"commit-{n}")
        layer = commit(t, f"echo {n} > f; ln -s f l") if n % 2 else commit(t, f"echo {n} > f")
        run = t.petri.job({"argv": ["/bin/cat", "f"], "layers": [layer]})
        gone = run.status == "rejected" and run.result["reason"] == "missing"
        if not gone and (run.status, run.out) != ("exited", f"{n}\n"):
            raise AssertionError(f"{path}: {run}")

    def verifier(_):
        ok(verify(t))

    def collector(_):
        ok(t.petri.call("gc", "--keep", "0"))
    crowd.add("import 1", importer(1))
    crowd.add("import 2", importer(2))
    crowd.add("run", runner)
    crowd.add("verify", verifier)
    crowd.add("gc", collector)
    crowd.add("gc 2", collector)
    crowd.run()
    print(crowd.counts)
    t.check(all(n >= 2 for n in crowd.counts.values()), crowd.counts)
    ok(t.petri.call("gc", "--keep", "0"))
    t.equal([x for x in layers(t).values() if "images=host" not in x], [])
    t.equal(os.listdir(os.path.join(t.state, "layers", "tmp")), [])
    t.equal(os.listdir(os.path.join(t.state, "blobs", "tmp")), [])


if __name__ == "__main__":
    main(globals())
