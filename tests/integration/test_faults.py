"""The store when system calls fail or a process is killed: strace's fault injection at every call that changes something.

Each fault is followed by the same checks: a message and an exit code unless it did not matter, nothing half-present, no temporary
file after the next sweep, and the same command without a fault succeeds. Within a minute only some of the faults can be tried
(another order is PETRI_FAULTS_SEED=N); PETRI_FAULTS=all tries each of them.
"""
import json
import os
import random
import re
import shutil
import subprocess
import tarfile
import time

from lib import Skip, main

ID = "xxh128:"
ERRORS = {
    "write": ["ENOSPC", "EIO", "EDQUOT"], "pwrite64": ["ENOSPC", "EIO"], "writev": ["ENOSPC"],
    "fsync": ["EIO", "ENOSPC"], "syncfs": ["EIO", "ENOSPC"], "fdatasync": ["EIO"],
    "rename": ["ENOSPC"], "renameat": ["ENOSPC", "EIO", "EDQUOT"], "renameat2": ["ENOSPC"],
    "linkat": ["ENOSPC", "EMLINK", "EDQUOT"], "symlinkat": ["ENOSPC", "EDQUOT"], "unlinkat": ["EIO", "EROFS"],
    "mkdirat": ["ENOSPC", "EMFILE", "EDQUOT"], "openat": ["EMFILE", "ENOSPC", "EIO"], "openat2": ["EMFILE", "EIO"],
    "fchmod": ["EIO"], "fchmodat": ["EIO"], "fchown": ["EDQUOT", "EIO"], "fchownat": ["EDQUOT"], "ftruncate": ["ENOSPC", "EIO"],
    "utimensat": ["EIO"], "fsetxattr": ["ENOSPC", "EIO"], "mknodat": ["ENOSPC"], "flock": ["ENOLCK"], "copy_file_range": ["ENOSPC"],
    "getdents64": ["EIO"], "pipe2": ["EMFILE"], "socketpair": ["EMFILE"], "clone": ["EAGAIN"], "clone3": ["EAGAIN"],
}
# ld.so and the C library's start: what fails there never reaches petri.
LIBRARY = re.compile(r'"(/etc/ld\.so|/lib|/usr/lib|/usr/share/locale|/proc/self/(?!fd))')


def need_strace():
    strace = shutil.which("strace")
    if not strace:
        raise Skip("strace")
    return strace


def ok(run):
    if run.code != 0:
        raise AssertionError(str(run))
    return run


class Faults:
    """A command to be run with each of its faults."""

    def __init__(self, t, argv):
        self.t, self.argv, self.log, self.strace = t, [t.petri.binary, *argv], t.path("strace.log"), need_strace()

    def run(self, *flags):
        argv = [self.strace, "-f", "--seccomp-bpf", "-q", "-o", self.log, *flags, *self.argv]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=self.t.petri.env(), cwd=self.t.tmp, timeout=60 * self.t.scale, check=False)
        return done.returncode, done.stderr.decode("utf-8", "replace")

    def list(self):
        """All faults of one undisturbed run: (call, number of the call in its process, fault)."""
        code, err = self.run("-e", "trace=" + ",".join(ERRORS))
        if code != 0 and "ptrace" in err.lower():
            raise Skip("the right to trace")
        if code != 0:
            raise AssertionError(f"{self.argv} fails without a fault: {err}")
        seen, found = {}, set()
        with open(self.log, encoding="utf-8", errors="replace") as f:
            for line in f:
                match = re.match(r"(\d+) +(\w+)\((.*)", line)
                if not match or match[2] not in ERRORS:
                    continue
                key = match[1], match[2]
                seen[key] = n = seen.get(key, 0) + 1
                if not LIBRARY.search(match[3]):
                    found.add((match[2], n))
        faults = []
        for call, n in sorted(found):
            errors = ERRORS[call]
            faults.append((call, n, "error=" + errors[n % len(errors)]))
            faults.append((call, n, "signal=KILL"))
        return faults

    def inject(self, fault):
        """Return: (exit code, stderr, whether the message itself could not be written)."""
        call, n, what = fault
        code, err = self.run("-e", f"trace={call}", "-e", f"inject={call}:{what}:when={n}")
        with open(self.log, encoding="utf-8", errors="replace") as f:
            text = f.read()
        return code, err, re.search(r"writev?\(2, .*INJECTED", text) is not None


def each_fault(t, argv, prepare, check, seconds):
    """prepare(), the command with a fault, check(its exit code): as many as the time allows."""
    faults = Faults(t, argv)
    prepare()
    todo = faults.list()
    random.Random(int(os.environ.get("PETRI_FAULTS_SEED") or 1)).shuffle(todo)
    everything = os.environ.get("PETRI_FAULTS") == "all"
    end, done, mattered = time.monotonic() + seconds * t.scale, 0, 0
    for fault in todo:
        if not everything and time.monotonic() > end:
            break
        prepare()
        code, err, said_nothing = faults.inject(fault)
        try:
            if fault[2] == "signal=KILL" and code in (-9, 137):
                pass  # the program itself: it can say nothing
            elif code != 0:
                t.check(code in (1, 125), f"exit code {code}")
                t.check("petri: error: " in err or said_nothing, "no message")
            check(code)
        except AssertionError as e:
            raise AssertionError(f"{' '.join(fault[:1])} number {fault[1]}, {fault[2]}: exit {code}, said {err!r}\n{e}") from None
        done += 1
        mattered += code != 0
    print(f"{done} of {len(todo)} faults, {mattered} made the command fail")
    t.check(done >= min(len(todo), 5) and mattered > 0, f"only {done} faults, {mattered} of them noticed")


def entries(t, *parts):
    path = os.path.join(t.state, *parts)
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def nothing_temporary(t):
    t.equal(entries(t, "layers", "tmp"), [])
    t.equal(entries(t, "blobs", "tmp"), [])
    t.equal([x for x in entries(t, "images") if x.startswith(".")], [])
    t.equal([x for x in entries(t, "layers", "by-source") if x.startswith(".")], [])
    t.equal([x for x in entries(t) if x.startswith("secret.")], [])


def images(t):
    return [x[:-len(".json")] for x in entries(t, "images") if x.endswith(".json")]


def make_tar(t, name="image.tar", text="x"):
    root = t.path("root-" + name)
    os.makedirs(os.path.join(root, "etc", "empty"))
    for i in range(4):
        with open(os.path.join(root, "etc", f"f{i}"), "w", encoding="utf-8") as f:
            f.write(text * (1000 * i))
    os.symlink("f0", os.path.join(root, "etc", "link"))
    os.link(os.path.join(root, "etc", "f1"), os.path.join(root, "etc", "hard"))
    with tarfile.open(t.path(name), "w") as tar:
        tar.add(root, arcname=".")
    return t.path(name)


def import_layers(t, name, source):
    return json.loads(ok(t.petri.call("image", "import", name, source, timeout=60)).out)["layers"]


def whole(t):
    run = t.petri.call("layer", "verify", timeout=60)
    t.equal((run.code, run.out), (0, ""), run)
    ok(t.petri.call("layer", "list"))
    ok(t.petri.call("image", "list"))


def clean(t):
    """Everything unused goes, and what a fault left with it."""
    run = ok(t.petri.call("gc", "--keep", "0"))
    nothing_temporary(t)
    return run


def faults_of_import(t, source, seconds):
    base = import_layers(t, "base", make_tar(t, "base.tar", "y"))
    want = import_layers(t, "new", source)

    def prepare():
        if "new" in images(t):
            ok(t.petri.call("image", "rm", "new"))
        clean(t)

    def check(code):
        whole(t)
        if code == 0:
            t.check("new" in images(t), "success without an image")
        if "new" in images(t):
            t.equal(json.loads(ok(t.petri.call("image", "inspect", "new")).out)["layers"], want)
        t.equal(import_layers(t, "new", source), want)
        nothing_temporary(t)
        whole(t)
        t.equal(json.loads(ok(t.petri.call("image", "inspect", "base")).out)["layers"], base)
    each_fault(t, ["image", "import", "new", source], prepare, check, seconds)


def test_import_of_a_tar(t):
    faults_of_import(t, make_tar(t), 15)


def test_import_of_a_directory(t):
    make_tar(t)
    faults_of_import(t, t.path("root-image.tar"), 10)


def test_removal_of_a_layer(t):
    base = import_layers(t, "base", make_tar(t, "base.tar", "y"))
    source = make_tar(t)
    layer, = import_layers(t, "new", source)

    def prepare():
        import_layers(t, "new", source)
        ok(t.petri.call("image", "rm", "new"))

    def check(code):
        whole(t)
        there = os.path.exists(os.path.join(t.state, "layers", layer[len(ID):]))
        t.check(there or code != 125, "usage?")
        t.check(not (there and code == 0), "success, and the layer is there")
        clean(t)
        t.equal([x for x in entries(t, "layers") if re.fullmatch("[0-9a-f]{32}", x)], [x[len(ID):] for x in base])
    each_fault(t, ["layer", "rm", layer], prepare, check, 10)


def test_gc(t):
    base = import_layers(t, "base", make_tar(t, "base.tar", "y"))
    source = make_tar(t)

    def prepare():
        import_layers(t, "new", source)
        ok(t.petri.call("image", "rm", "new"))
        ok(t.petri.call("blob", "put", source))

    def check(code):
        whole(t)
        if code == 0:
            # What could not be looked at stays for the next time; what was taken is gone as a whole.
            t.equal(json.loads(ok(t.petri.call("image", "inspect", "base")).out)["layers"], base)
        clean(t)
        t.equal([x for x in entries(t, "layers") if re.fullmatch("[0-9a-f]{32}", x)], [x[len(ID):] for x in base])
        t.equal([x for d in entries(t, "blobs") for x in entries(t, "blobs", d)], [])
    each_fault(t, ["gc", "--keep", "0"], prepare, check, 10)


def test_put_of_a_blob(t):
    source = make_tar(t)
    blob = ok(t.petri.call("blob", "put", source)).out.strip()
    with open(source, "rb") as f:
        data = f.read()

    def prepare():
        clean(t)

    def check(code):
        # A record whose object never came, or came without being whole, is no blob; what is one is whole.
        run = t.petri.call("blob", "cat", blob)
        t.check(run.stdout == data if run.code == 0 else code != 0, f"cat: {run.code}")
        t.equal(ok(t.petri.call("blob", "put", source)).out.strip(), blob)
        t.check(ok(t.petri.call("blob", "cat", blob)).stdout == data)
        clean(t)
    each_fault(t, ["blob", "put", source], prepare, check, 8)


def test_fresh_store(t):
    """The first command of all, which makes the store."""
    state = t.petri.state

    def prepare():
        shutil.rmtree(state, ignore_errors=True)

    def check(_):
        ok(t.petri.call("image", "list"))
        clean(t)
        t.equal(len(open(os.path.join(state, "secret"), "rb").read()), 32)
    each_fault(t, ["image", "list"], prepare, check, 6)


# ---- a store that is really full ----

def mount(t, *args):
    os.makedirs(t.state, exist_ok=True)
    done = subprocess.run(["mount", *args, t.state], stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise Skip("a mount: " + done.stderr.decode("utf-8", "replace").strip())
    t.defer(lambda: subprocess.run(["umount", t.state], check=True))
    os.chmod(t.state, 0o700)


def make_big(t, name, files, size):
    with tarfile.open(t.path(name), "w") as tar:
        data = t.write("data", os.urandom(size))
        for i in range(files):
            tar.add(data, arcname=f"d/f{i}")
    return t.path(name)


def full(t, big, small):
    """An import that does not fit: a clear error, nothing left, and one that fits succeeds."""
    import_layers(t, "base", make_tar(t, "base.tar", "y"))
    before = os.statvfs(t.state)
    for _ in range(3):
        run = t.petri.call("image", "import", "big", big, timeout=60)
        t.check(run.code == 1 and any(x in run.err for x in ("space", "too many entries", "too large", "bytes", "full", "room")), run)
        nothing_temporary(t)
        whole(t)
    after = os.statvfs(t.state)
    t.check(after.f_bfree >= before.f_bfree - 4 and after.f_ffree >= before.f_ffree - 4, f"{before} {after}")
    t.equal(images(t), ["base"])
    import_layers(t, "small", small)
    whole(t)


def test_full_disk(t):
    mount(t, "-t", "tmpfs", "-o", "size=4m,mode=700", "none")
    full(t, make_big(t, "big.tar", 8, 1 << 20), make_tar(t))
    run = t.petri.call("blob", "put", t.path("big.tar"))
    t.check(run.code == 1 and "space" in run.err, run)
    nothing_temporary(t)


def test_full_disk_late(t):
    """What is free when an import begins is gone before it ends."""
    mount(t, "-t", "tmpfs", "-o", "size=8m,mode=700", "none")
    filler = os.path.join(t.state, "slots", "filler")
    ok(t.petri.call("image", "list"))
    source = make_big(t, "big.tar", 5, 1 << 20)
    import_layers(t, "once", source)
    ok(t.petri.call("image", "rm", "once"))
    clean(t)
    with open(filler, "wb") as f:
        f.write(bytes(5 << 20))
    run = t.petri.call("image", "import", "big", source, timeout=60)
    t.check(run.code == 1, run)
    nothing_temporary(t)
    os.unlink(filler)
    import_layers(t, "big", source)
    whole(t)


def test_no_inodes(t):
    mount(t, "-t", "tmpfs", "-o", "size=64m,nr_inodes=400,mode=700", "none")
    full(t, make_big(t, "big.tar", 600, 10), make_tar(t))


def test_full_ext4(t):
    if not shutil.which("mkfs.ext4"):
        raise Skip("mkfs.ext4")
    image = t.path("disk")
    with open(image, "wb") as f:
        f.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", image], check=True)
    mount(t, "-o", "loop", image)
    full(t, make_big(t, "big.tar", 40, 1 << 20), make_tar(t))


if __name__ == "__main__":
    main(globals())
