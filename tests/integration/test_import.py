"""Archives that mean harm, and those that are merely odd: what `petri image import` makes of them, and what it leaves."""
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import tarfile

from lib import main


def archive(entries, fmt=tarfile.PAX_FORMAT):
    """A tar of (name, content | None for a directory | (type, link name), pax headers)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt, encoding="utf-8", errors="surrogateescape") as tar:
        for name, what, *pax in entries:
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if what is None else 0o644
            info.pax_headers = pax[0] if pax else {}
            if what is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(what, tuple):
                info.type, info.linkname = what
            else:
                info.size = len(what)
            tar.addfile(info, io.BytesIO(what if isinstance(what, bytes) else b""))
    return out.getvalue()


def bring(t, data, name="x"):
    path = os.path.join(t.tmp, "source.tar")
    if data is not None:
        with open(path, "wb") as f:
            f.write(data)
    return t.petri.call("image", "import", name, path, timeout=100)


def layer_of(t, run):
    t.equal(run.code, 0, run)
    image = json.loads(run.out)
    return os.path.join(t.petri.state, "layers", image["layers"][0].split(":")[1])


def nothing_left(t):
    layers = os.path.join(t.petri.state, "layers")
    t.equal(sorted(os.listdir(layers)), ["by-source", "tmp"], "something was stored")
    t.equal(os.listdir(os.path.join(layers, "tmp")), [], "something temporary was left")


def refused(t, data, word):
    run = bring(t, data)
    t.check(run.code not in (0, None), f"{word}: was not refused")
    t.check(word in run.err, f"'{word}' is not in: {run.err}")
    nothing_left(t)


def test_paths_beyond_what_the_kernel_takes_at_once(t):
    """Directories of long names, and many of short ones; from a tar, and the same tree from a directory."""
    long = "/".join(["n" * 200] * 60)
    deep = "/".join(["d"] * 2500)
    tar = bring(t, archive([(long, b"far away\n"), (long + "-too", (tarfile.LNKTYPE, long)), (deep, b"deep\n")]))
    layer = layer_of(t, tar)
    source = os.path.join(t.tmp, "tree")
    os.mkdir(source)
    here = os.open(source, os.O_RDONLY)
    for path, content in ((long, b"far away\n"), (long + "-too", b"far away\n"), (deep, b"deep\n")):
        at = os.dup(here)
        *parents, name = path.split("/")
        for part in parents:
            try:
                os.mkdir(part, 0o755, dir_fd=at)
            except FileExistsError:
                pass
            below = os.open(part, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        fd = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=at)
        os.write(fd, content)
        os.close(fd)
        os.close(at)
    os.close(here)
    run = t.petri.call("image", "import", "y", source)
    t.equal(layer_of(t, run), layer, "the same tree from a directory is another layer")
    subprocess.run(["rm", "-rf", source], check=True)
    refused_path = "/".join(["d"] * 3002)
    run = bring(t, archive([(refused_path, b"")]))
    t.check(run.code != 0 and "nested deeper" in run.err, run.err)
    t.equal(os.listdir(os.path.join(t.petri.state, "layers", "tmp")), [])
    subprocess.run(["rm", "-rf", layer], check=True)  # what removes the test's own directory does not go so deep


def test_bytes_of_names_and_targets(t):
    names = ["new\nline", "tab\t", "\udcff\udcfe", "a\\b", "back`tick`", "-rf", " ", "*", "\x01", "é"]
    layer = layer_of(t, bring(t, archive([(f"d/{n}", b"x") for n in names] + [("l", (tarfile.SYMTYPE, "to\nthere\udcff"))],
                                          tarfile.GNU_FORMAT)))
    t.equal(sorted(os.listdir(os.path.join(layer, "diff", "d"))), sorted(names))
    t.equal(os.readlink(os.path.join(layer, "diff", "l")), "to\nthere\udcff")


def test_zeros_without_end(t):
    """A gigabyte of zeros in a megabyte, on a store that has not so much room; and what has room takes none."""
    size = 1 << 30
    header = tarfile.TarInfo("zeros")
    header.size = size
    head = header.tobuf(tarfile.GNU_FORMAT)
    path = os.path.join(t.tmp, "source.tar")
    piece = gzip.compress(b"\0" * (64 << 20), 9)
    with open(path, "wb") as f:
        f.write(gzip.compress(head))
        for _ in range(size // (64 << 20)):
            f.write(piece)
        f.write(gzip.compress(b"\0" * 1024))
    mount = os.path.join(t.tmp, "small")
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m,mode=700", "none", mount], check=False).returncode:
        t.skip("cannot mount a tmpfs here")
    try:
        run = t.petri.call("image", "import", "--state", mount, "x", path, timeout=100)
        t.check(run.code != 0 and "more than the" in run.err, run)
        t.equal(os.listdir(os.path.join(mount, "layers", "tmp")), [])
        used = os.statvfs(mount)
        t.check(used.f_blocks - used.f_bfree < 1000, "it has filled the disk")
        before = os.statvfs(mount).f_bfree
        with open(path, "wb") as f:
            f.write(gzip.compress(archive([("zeros", bytes(100 << 20)), ("end", bytes(70000) + b"x")])))
        run = t.petri.call("image", "import", "--state", mount, "x", path, timeout=100)
        t.equal(run.code, 0, run)
        layer = os.path.join(mount, "layers", json.loads(run.out)["layers"][0].split(":")[1], "diff")
        t.equal(os.stat(os.path.join(layer, "zeros")).st_size, 100 << 20)
        with open(os.path.join(layer, "end"), "rb") as f:
            t.equal(f.read(), bytes(70000) + b"x")
        t.check(before - os.statvfs(mount).f_bfree < 8192, "zeros were written")
        # Small pieces reach the bound in the writer.
        many = io.BytesIO()
        with gzip.GzipFile(fileobj=many, mode="wb", compresslevel=1) as z:
            with tarfile.open(fileobj=z, mode="w") as tar:
                for i in range(40):
                    info = tarfile.TarInfo(f"z{i}")
                    info.size = 8 << 20
                    tar.addfile(info, io.BytesIO(bytes(8 << 20)))
        with open(path, "wb") as f:
            f.write(many.getvalue())
        run = t.petri.call("image", "import", "--state", mount, "x", path, timeout=100)
        t.check(run.code != 0 and "more than the" in run.err, run)
        t.equal(os.listdir(os.path.join(mount, "layers", "tmp")), [])
    finally:
        subprocess.run(["umount", mount], check=True)


def test_attributes(t):
    def with_attrs(attrs):
        return archive([("f", b"x", {"SCHILY.xattr." + k: v for k, v in attrs.items()})])

    layer = layer_of(t, bring(t, with_attrs({"user.mine": "1", "user.overlay.opaque": "y", "trusted.overlay.redirect": "/etc",
                                             "security.capability": "x", "system.posix_acl_access": "x", "user.": "no"})))
    path = os.path.join(layer, "diff", "f")
    t.equal(os.listxattr(path), ["user.mine"])
    t.equal(os.getxattr(path, "user.mine"), b"1")
    # The same attributes from a directory, and those of directories.
    source = os.path.join(t.tmp, "tree")
    os.mkdir(source, 0o755)
    with open(os.path.join(source, "f"), "wb") as f:
        f.write(b"x")
    os.chmod(os.path.join(source, "f"), 0o644)
    os.setxattr(os.path.join(source, "f"), "user.mine", b"1")
    t.equal(layer_of(t, t.petri.call("image", "import", "y", source)), layer)
    os.setxattr(source, "user.top", b"2")
    other = layer_of(t, t.petri.call("image", "import", "y", source))
    t.check(other != layer, "the root's attributes do not count")
    t.equal(os.getxattr(os.path.join(other, "diff"), "user.top"), b"2")


def test_too_many_attributes(t):
    huge = {f"SCHILY.xattr.user.a{i}": "v" for i in range(10000)}
    refused(t, archive([("f", b"x", huge)]), "entry 'f': more than")
    # What no filesystem takes, and what this one may or may not.
    refused(t, archive([("f", b"x", {"SCHILY.xattr.user.big": "v" * 70000})]), "entry 'f'")
    run = bring(t, archive([("f", b"x", {"SCHILY.xattr.user.big": "v" * 65000})]))
    t.check(run.code == 0 or "extended attributes" in run.err, run)


def test_every_cut_and_flipped_bits(t):
    """Whatever is broken in an archive: a clear refusal or a sound layer, and no process dies of it."""
    rnd = random.Random(7)
    data = archive([("d", None), ("d/f", b"content" * 100, {"SCHILY.xattr.user.a": "b"}), ("d/l", (tarfile.SYMTYPE, "f")),
                    ("d/h", (tarfile.LNKTYPE, "d/f")), ("n" * 150, b"y" * 3000)])
    broken = [gzip.compress(data)[:n] for n in (1, 10, 50, 100, 200)]
    broken += [data[:n] for n in range(1, len(data) - 1024, 1777)]
    for _ in range(40):
        copy = bytearray(data)
        for _ in range(rnd.randrange(1, 5)):
            copy[rnd.randrange(len(copy) - 1024)] ^= 1 << rnd.randrange(8)
        broken.append(bytes(copy))
    for i, b in enumerate(broken):
        run = bring(t, b)
        t.check(run.code is not None and "killed by" not in run.err and "proper report" not in run.err, f"{i}: {run}")
        t.check(run.code == 0 or run.err, f"{i}: no word of why")
    t.equal(os.listdir(os.path.join(t.petri.state, "layers", "tmp")), [])


def test_the_same_tree_by_any_way_is_one_layer(t):
    """From a tar of any format and compression, and from a directory: times and hard links do not count."""
    source = os.path.join(t.tmp, "tree")
    os.makedirs(os.path.join(source, "a", "b"))
    os.chmod(source, 0o755)
    with open(os.path.join(source, "a", "f"), "wb") as f:
        f.write(b"text")
    os.link(os.path.join(source, "a", "f"), os.path.join(source, "a", "b", "again"))
    os.symlink("f", os.path.join(source, "a", "l"))
    with open(os.path.join(source, "sparse"), "wb") as f:
        f.write(b"begin")
        f.seek(3 << 20)
        f.write(b"end")
        f.truncate(5 << 20)
    found = {layer_of(t, t.petri.call("image", "import", "x", source))}
    for flags in (["--format=gnu"], ["--format=posix", "-z"], ["--format=gnu", "--sparse"], ["--format=posix", "--sparse", "-J"],
                  ["--format=ustar", "--hard-dereference", "--mtime=2001-01-01"]):
        path = os.path.join(t.tmp, "source.tar")
        subprocess.run(["tar", *flags, "-cf", path, "-C", source, "."], check=True)
        found.add(layer_of(t, bring(t, None)))
    t.equal(len(found), 1, f"one tree became several layers: {found}")
    layer = found.pop()
    st = os.stat(os.path.join(layer, "diff", "sparse"))
    t.equal(st.st_size, 5 << 20)
    t.check(st.st_blocks * 512 < 1 << 20, "holes were filled")


def test_a_known_archive_is_only_read(t):
    rnd = random.Random(3)
    data = archive([(f"f{i}", rnd.randbytes(1000)) for i in range(50)])
    layer = layer_of(t, bring(t, data))
    before = os.stat(layer).st_ctime_ns
    run = bring(t, data, "again")
    t.equal(layer_of(t, run), layer)
    t.equal(os.stat(layer).st_ctime_ns, before)
    # A record whose layer is gone is none.
    shutil.rmtree(layer)
    t.equal(layer_of(t, bring(t, data, "third")), layer)
    t.check(os.path.isdir(layer), "the layer was not made again")


def test_a_known_directory_is_only_read(t):
    """Even one that holds what a layer leaves out; and only one that is the same."""
    root = os.path.join(t.tmp, "tree")
    os.makedirs(os.path.join(root, "d", "e"))
    for name, mode in (("f", 0o4755), ("d/g", 0o600), ("d/e/h", 0o644)):
        with open(os.path.join(root, name), "w", encoding="ascii") as f:
            f.write(name * 100)
        os.chmod(os.path.join(root, name), mode)
    os.chmod(os.path.join(root, "d"), 0o2775)
    os.link(os.path.join(root, "f"), os.path.join(root, "d", "same"))
    os.link(os.path.join(root, "f"), os.path.join(t.tmp, "outside"))
    os.symlink("nowhere", os.path.join(root, "l"))
    os.mkfifo(os.path.join(root, "fifo"))
    os.setxattr(os.path.join(root, "d", "g"), "user.a", b"1")
    bring_it = lambda name: layer_of(t, t.petri.call("image", "import", name, root, timeout=100))

    def writes(name):
        """Links that an import makes: (layer, how many)."""
        log = os.path.join(t.tmp, "log")
        argv = ["strace", "-f", "-o", log, "-e", "trace=symlinkat", t.petri.binary, "image", "import", name, root, "--state", t.petri.state]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100, check=False)
        t.equal(done.returncode, 0, done.stderr)
        with open(log, encoding="utf-8", errors="replace") as f:
            count = f.read().count("symlinkat(")
        return os.path.join(t.petri.state, "layers", json.loads(done.stdout)["layers"][0].split(":")[1]), count

    if not shutil.which("strace"):
        t.skip("strace")
    layer, count = writes("one")
    t.equal(count, 1)
    t.equal(writes("two"), (layer, 0))
    with open(os.path.join(root, "d", "g"), "r+", encoding="ascii") as f:
        f.write("other")  # of the same size
    other = bring_it("three")
    t.check(other != layer, "another tree became the same layer")
    os.setxattr(os.path.join(root, "d", "g"), "user.a", b"2")
    t.check(bring_it("four") not in (layer, other), "another attribute, and the same layer")


def test_a_full_disk_is_said_and_leaves_nothing(t):
    """The disk fills up, or its inodes do, by somebody else's hand: the bound taken at the start was good then."""
    mount = os.path.join(t.tmp, "small")
    os.mkdir(mount)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=300,mode=700", "none", mount], check=False).returncode:
        t.skip("cannot mount a tmpfs here")
    try:
        path = os.path.join(t.tmp, "source.tar")
        with open(path, "wb") as f:
            f.write(archive([(f"d/f{i}", b"x") for i in range(1000)]))
        run = t.petri.call("image", "import", "--state", mount, "x", path)
        t.check(run.code != 0 and ("entries" in run.err or "No space left" in run.err), run)
        t.equal(os.listdir(os.path.join(mount, "layers", "tmp")), [])
        t.equal(sorted(os.listdir(os.path.join(mount, "layers"))), ["by-source", "tmp"])
    finally:
        subprocess.run(["umount", mount], check=True)


if __name__ == "__main__":
    main(globals())
