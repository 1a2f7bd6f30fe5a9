"""Images, layers and blobs through the command line, and jobs that use them."""
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile

from lib import main

MIB = 1 << 20
PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs")


def make_root(t, name="root"):
    """A root directory with one static program in it."""
    root = t.path(name)
    os.makedirs(os.path.join(root, "bin"))
    os.makedirs(os.path.join(root, "etc"))
    with open(os.path.join(PROGRAMS, "tool.c"), encoding="utf-8") as f:
        shutil.copy(t.compile(f.read(), "tool", "-static", "-Wall"), os.path.join(root, "bin", "tool"))
    with open(os.path.join(root, "etc", "motd"), "w", encoding="utf-8") as f:
        f.write("welcome\n")
    return root


def import_image(t, name, source):
    run = t.petri.call("image", "import", name, source, timeout=60)
    t.equal(run.code, 0, run)
    return json.loads(run.out)


def tool(t, *args, image="mini", **kwargs):
    run = t.petri.run("--image", image, *kwargs.pop("flags", ()), "--", "/bin/tool", *args, **kwargs)
    t.equal((run.status, run.code), ("exited", 0), run)
    return run.out


def commit(t, files, **more):
    """Run a job that writes files beneath /work and commits it; returns the layer's id."""
    script = "".join(f"mkdir -p $(dirname {p}); printf %s '{data}' > {p};" for p, data in files.items())
    run = t.petri.job({"argv": ["/bin/sh", "-ec", script], "commit": "/work", **more})
    t.equal((run.status, run.code, run.result["message"]), ("exited", 0, ""), run)
    t.check((run.result["layer"] or "").startswith("xxh128:"), run)
    return run.result["layer"]


# ---- images ----

def test_image_from_a_directory(t):
    root = make_root(t)
    os.chown(os.path.join(root, "etc", "motd"), 1234, 4321)
    os.chmod(os.path.join(root, "etc", "motd"), 0o640)
    made = import_image(t, "mini", root)
    t.equal((made["name"], made["host_usr"], len(made["layers"])), ("mini", False, 1), made)
    lines = dict(x.split(" ", 1) for x in tool(t, "ls", "/", "/bin/tool", "/etc/motd", "/work", "/tmp",
                                               "/dev/null").splitlines())
    t.equal(lines["/bin/tool"].split()[:3], ["100755", "0", "0"])
    t.equal(lines["/etc/motd"].split(), ["100640", "1234", "4321", "8"])
    t.equal(lines["/work"].split()[1], "1000")
    t.equal(lines["/tmp"].split()[0], "41777")
    t.equal(tool(t, "pwd"), "/work\n")
    # The image is not the directory: what happens to one does not show in the other.
    with open(os.path.join(root, "etc", "motd"), "w", encoding="utf-8") as f:
        f.write("changed\n")
    t.check("changed" not in tool(t, "cat", "/etc/motd"))


def test_image_from_tars(t):
    root = make_root(t)
    for suffix, mode in ((".tar", "w"), (".tar.gz", "w:gz"), (".tar.xz", "w:xz"), (".tar.bz2", None)):
        path = t.path("image" + suffix)
        if mode is None:
            continue
        with tarfile.open(path, mode) as tar:
            tar.add(root, arcname=".", filter=lambda info: (setattr(info, "uid", 0), setattr(info, "gid", 0), info)[2])
        name = "from" + suffix.replace(".", "-")
        import_image(t, name, path)
        t.equal(tool(t, "cat", "/etc/motd", image=name), "welcome\n")
        t.contains(tool(t, "ls", "/bin/tool", image=name), "/bin/tool 100755 0 0 ")
    if shutil.which("zstd"):
        subprocess.run(["zstd", "-q", t.path("image.tar")], check=True)
        import_image(t, "from-zst", t.path("image.tar.zst"))
        t.equal(tool(t, "cat", "/etc/motd", image="from-zst"), "welcome\n")


def test_same_content_same_layer(t):
    """However it came, and imported again."""
    root = make_root(t)
    with tarfile.open(t.path("image.tar"), "w") as tar:
        tar.add(root, arcname=".")
    ids = [import_image(t, name, source)["layers"] for name, source in (("a", root), ("b", t.path("image.tar")),
                                                                        ("a", root))]
    t.check(ids[0] == ids[1] == ids[2], ids)


def test_list_inspect_rm(t):
    t.petri.run("--", "/bin/true")
    import_image(t, "one", make_root(t))
    t.equal([x.split()[0] for x in t.petri.call("image", "list").out.splitlines()], ["NAME", "host", "one"])
    t.equal(json.loads(t.petri.call("image", "inspect", "one").out)["name"], "one")
    t.equal(json.loads(t.petri.call("image", "inspect", "host").out)["host_usr"], True)
    run = t.petri.call("image", "inspect", "none")
    t.check(run.code == 1 and "none" in run.err, run)
    t.equal(t.petri.call("image", "rm", "one").code, 0)
    t.check("one" not in t.petri.call("image", "list").out.split())
    t.rejected(t.petri.run("--image", "one", "--", "/bin/tool"), "image", "missing")
    t.equal(t.petri.call("image", "rm", "one").code, 1)


def test_import_over_an_image(t):
    root = make_root(t)
    import_image(t, "mini", root)
    with open(os.path.join(root, "etc", "motd"), "w", encoding="utf-8") as f:
        f.write("second\n")
    import_image(t, "mini", root)
    t.equal(tool(t, "cat", "/etc/motd"), "second\n")


def test_bad_imports(t):
    root = make_root(t)
    for name in ("../x", "a/../b", "", "-x", "a b", "host", "x" * 300):
        run = t.petri.call("image", "import", name, root)
        t.check(run.code != 0 and run.err, run)
    for source in (t.path("absent"), t.write("text", "no tar at all"), t.write("empty", ""), "/dev/null"):
        run = t.petri.call("image", "import", "x", source)
        t.check(run.code != 0 and source in run.err, run)
    t.check("x" not in t.petri.call("image", "list").out.split())


def nothing_stored(t):
    """No layer, and no half of one."""
    found = [os.path.join(d, n) for d, dirs, files in os.walk(os.path.join(t.state, "layers")) for n in dirs + files]
    t.equal([x for x in found if not x.endswith(("/layers/tmp", "/layers/by-source"))], [])


def test_import_torn(t):
    """A tar that ends in the middle leaves no image and no layer behind."""
    root = make_root(t)
    with tarfile.open(t.path("whole.tar"), "w") as tar:
        tar.add(root, arcname=".")
    with open(t.path("whole.tar"), "rb") as f:
        data = f.read()
    run = t.petri.call("image", "import", "torn", t.write("torn.tar", data[:len(data) // 2]))
    t.check(run.code != 0, run)
    t.check("torn" not in t.petri.call("image", "list").out.split())
    nothing_stored(t)


def hostile_tar(t):
    path = t.path("hostile.tar")

    def entry(tar, name, data=None, **fields):
        info = tarfile.TarInfo(name)
        info.mode = 0o644
        for key, value in fields.items():
            setattr(info, key, value)
        if data is not None:
            info.size = len(data)
        tar.addfile(info, io.BytesIO(data) if data is not None else None)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        entry(tar, "etc", type=tarfile.DIRTYPE, mode=0o755)
        entry(tar, "good", b"good\n")
        entry(tar, "../../../../escaped", b"x")
        entry(tar, "/absolute", b"x")
        entry(tar, "link", type=tarfile.SYMTYPE, linkname=t.tmp)
        entry(tar, "link/through", b"x")
        entry(tar, "up", type=tarfile.SYMTYPE, linkname="../../../..")
        entry(tar, "up" + t.tmp + "/over", b"x")
        entry(tar, "hard", type=tarfile.LNKTYPE, linkname="/etc/shadow")
        entry(tar, "hard2", type=tarfile.LNKTYPE, linkname="link/secret")
        entry(tar, "disk", type=tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o666)
        entry(tar, "mem", type=tarfile.CHRTYPE, devmajor=1, devminor=1, mode=0o666)
        entry(tar, "suid", b"x", mode=0o6777)
        entry(tar, "fifo", type=tarfile.FIFOTYPE)
        entry(tar, "opaque", b"x", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc",
                                                "SCHILY.xattr.security.capability": "x",
                                                "SCHILY.xattr.user.overlay.metacopy": "y"})
        entry(tar, "etc/.wh.passwd", b"")
    return path


def test_hostile_tar(t):
    """Refused as a whole, or harmless: nothing outside the store changes, and nothing of the machine is in it."""
    t.write("secret", "secret")
    before = sorted(os.listdir(t.tmp)) + ["hostile.tar", "state"]
    run = t.petri.call("image", "import", "hostile", hostile_tar(t))
    after = set(os.listdir(t.tmp))
    t.equal(after - set(before), set(), run)
    for path in ("/escaped", "/absolute", t.path("through"), t.path("over"), os.path.join(t.state, "escaped")):
        t.check(not os.path.lexists(path), f"{path} {run}")
    bad = []
    for top, dirs, files in os.walk(os.path.join(t.state, "layers")):
        for name in files + dirs:
            st = os.lstat(os.path.join(top, name))
            if stat.S_ISBLK(st.st_mode) or (stat.S_ISCHR(st.st_mode) and st.st_rdev != 0):
                bad.append(os.path.join(top, name))
            if name.startswith("hard") and stat.S_ISREG(st.st_mode):
                bad.append(os.path.join(top, name))
    t.equal(bad, [], run)
    if run.code == 0:
        t.contains(t.petri.call("image", "list").out, "hostile")
    else:
        t.check(run.err and "internal" not in run.err, run)
        nothing_stored(t)


def one_entry_tars():
    def info(name, **fields):
        i = tarfile.TarInfo(name)
        i.mode = 0o666
        for key, value in fields.items():
            setattr(i, key, value)
        return i
    yield "dotdot", [info("../../../../../../../escaped")]
    yield "symlink", [info("d", type=tarfile.SYMTYPE, linkname="/var/tmp"), info("d/escaped-petri-test")]
    yield "hardlink", [info("h", type=tarfile.LNKTYPE, linkname="/etc/hostname")]
    yield "hardlink-up", [info("h", type=tarfile.LNKTYPE, linkname="../../../../../etc/hostname")]
    yield "device", [info("disk", type=tarfile.BLKTYPE, devmajor=254, devminor=0)]


def test_hostile_tars_one_by_one(t):
    root = make_root(t)
    for name, entries in one_entry_tars():
        path = t.path(name + ".tar")
        with tarfile.open(path, "w") as tar:
            tar.add(root, arcname=".")
            for entry in entries:
                tar.addfile(entry, io.BytesIO(b""))
        run = t.petri.call("image", "import", name, path)
        for escaped in ("/escaped", "/var/tmp/escaped-petri-test"):
            t.check(not os.path.lexists(escaped), f"{name}: {run}")
        if run.code == 0:
            lines = tool(t, "ls", "/h", "/disk", "/d/escaped-petri-test", "/escaped", image=name)
            t.check("/h 100" not in lines and "/disk 60" not in lines, f"{name}: {lines}")


def test_tar_bomb(t):
    """A hole of a terabyte costs neither a terabyte nor for ever."""
    path = t.path("bomb.tar")
    subprocess.run(["truncate", "-s", "1T", t.path("hole")], check=False)
    if not os.path.exists(t.path("hole")) or os.path.getsize(t.path("hole")) < 1 << 40:
        t.skip("a filesystem with files of a terabyte")
    subprocess.run(["tar", "-cSf", path, "-C", t.tmp, "hole"], check=True)
    run = t.petri.call("image", "import", "bomb", path, timeout=60)
    used = int(subprocess.run(["du", "-sk", t.state], capture_output=True, check=True).stdout.split()[0])
    t.check(used < 100 << 10, f"{used} KiB; {run}")


# ---- layers ----

def test_commit_and_run(t):
    layer = commit(t, {"/work/answer": "42", "/work/sub/dir/deep": "deep"})
    run = t.petri.sh("cat answer sub/dir/deep; stat -c '%U %a' answer sub; echo more > answer; cat answer; ls -A",
                     "--layer", layer)
    t.equal(run.out.split("\n"), ["42deepjob 644", "job 755", "more", "answer", "sub", ""], run)
    again = t.petri.sh("cat answer", "--layer", layer)
    t.equal(again.out, "42", "the next job sees what was committed")


def test_compile_then_run(t):
    """The judge's own use: one sandbox compiles, another runs."""
    if not os.path.exists("/usr/bin/gcc"):
        t.skip("/usr/bin/gcc")
    source = ('#include <stdio.h>\n'
              'int main(void) { int a, b; return scanf("%d %d", &a, &b) != 2 || printf("%d\\n", a + b) < 0; }\n')
    made = t.petri.job({"argv": ["/usr/bin/gcc", "-O2", "-o", "/work/a.out", "/work/main.c"],
                        "files": {"/work/main.c": {"data": source}},
                        "commit": "/work", "limits": {"cpu_ms": 20000, "memory_bytes": 512 * MIB,
                                                      "disk_bytes": 64 * MIB}})
    t.equal((made.status, made.code), ("exited", 0), made)
    for a, b in ((1, 2), (40, 2)):
        run = t.petri.job({"argv": ["/work/a.out"], "layers": [made.result["layer"]], "stdin": {"data": f"{a} {b}\n"}})
        t.equal(run.out, f"{a + b}\n", run)


def test_commit_only_of_success(t):
    for script in ("echo x > /work/x; exit 3", "echo x > /work/x; kill -9 $$"):
        run = t.petri.job({"argv": ["/bin/sh", "-c", script], "commit": "/work"})
        t.equal(run.result["layer"], None, run)


def test_commit_flag(t):
    run = t.petri.sh("echo x > /work/x", "--commit", "/work")
    t.contains(run.status_line, "layer=" + run.result["layer"], run)


def test_order_of_layers(t):
    """The last is uppermost; a whole later layer hides a file of an earlier one."""
    low, high = commit(t, {"/work/name": "low", "/work/only-low": "1"}), commit(t,
                                                                                {"/work/name": "high",
                                                                                 "/work/only-high": "2"})
    for layers, name in (([low, high], "high"), ([high, low], "low")):
        run = t.petri.job({"argv": ["/bin/sh", "-c", "cat name; ls"], "layers": layers})
        t.equal(run.out, f"{name}name\nonly-high\nonly-low\n", run)


def test_order_of_small_and_big_layers(t):
    """Small layers are delivered as files, big ones are mounted: the order is the same."""
    big = t.petri.sh("head -c 20M /dev/zero > big; echo big > name", "--commit", "/work", "--disk",
                     "64M").result["layer"]
    low, high = commit(t, {"/work/name": "low\n"}), commit(t, {"/work/name": "high\n"})
    for layers, name in (([low, big], "big"), ([big, low], "low"), ([low, big, high], "high"),
                         ([low, high, big], "big")):
        run = t.petri.job({"argv": ["/bin/sh", "-c", "cat name; stat -c '%s %U' big"], "layers": layers})
        t.equal(run.out, f"{name}\n{20 * MIB} job\n", f"{layers} {run}")


def test_upper_layer_replaces(t):
    """A file covers whatever lies beneath it: read-only, a link, a directory; and a directory covers a file."""
    script = "echo low > f; chmod 444 f; ln -s f s; mkdir m; echo x > m/y"
    for low in (script, script + "; head -c 20M /dev/zero > big"):
        low = t.petri.sh(low, "--commit", "/work").result["layer"]
        for high, show, want in (("echo high > f", "cat f", "high\n"), ("echo high > s", "cat s f", "high\nlow\n"),
                                 ("echo high > m", "cat m", "high\n"),
                                 ("mkdir f; echo high > f/x", "cat f/x", "high\n"),
                                 ("mkdir m; echo high > m/y", "cat m/y", "high\n")):
            layer = t.petri.sh(high, "--commit", "/work").result["layer"]
            run = t.petri.job({"argv": ["/bin/sh", "-c", show], "layers": [low, layer]})
            t.equal((run.status, run.out), ("exited", want), f"{high}: {run}")
    run = t.petri.job({"argv": ["/bin/cat", "/work/f"], "layers": [low], "files": {"/work/f": {"data": "file"}}})
    t.equal((run.status, run.out), ("exited", "file"), run)


def test_layer_on_an_image(t):
    """Over what the image itself has in /work."""
    root = make_root(t)
    os.mkdir(os.path.join(root, "work"))
    for name in ("mine", "both"):
        with open(os.path.join(root, "work", name), "w", encoding="utf-8") as f:
            f.write("image\n")
    import_image(t, "mini", root)
    layer = commit(t, {"/work/both": "layer\n"})
    t.equal(tool(t, "cat", "/work/both", flags=("--layer", layer)), "layer\n")


def test_files_lie_above_layers(t):
    layer = commit(t, {"/work/name": "layer", "/work/keep": "kept"})
    run = t.petri.job({"argv": ["/bin/sh", "-c", "cat name keep"], "layers": [layer],
                       "files": {"/work/name": {"data": "file"}}})
    t.equal(run.out, "filekept", run)


def test_commit_keeps_modes_and_links(t):
    script = ("echo x > f; chmod 750 f; ln -s f rel; ln -s /etc/passwd abs; ln -s ../../../etc up; ln f hard; mkdir -m 700 d; "
              "echo '#!/bin/sh' > s; chmod 6755 s")
    run = t.petri.sh(script + "; mkfifo p", "--commit", "/work")
    if run.result["layer"] is None:  # FIFOs may be refused, by name
        t.contains(run.result["message"], "commit", run)
        run = t.petri.sh(script, "--commit", "/work")
    t.check(run.result["layer"], run)
    seen = t.petri.sh("stat -c '%n %a %U' f d s hard; readlink rel abs up; cat rel", "--layer", run.result["layer"])
    lines = seen.out.splitlines()
    t.equal((lines[0], lines[1], lines[3]), ("f 750 job", "d 700 job", "hard 750 job"), seen)
    t.check(lines[2] in ("s 755 job", "s 6755 job"), seen)
    t.equal(lines[4:], ["f", "/etc/passwd", "../../../etc", "x"], seen)


def test_commit_does_not_follow_links(t):
    for path in ("/work/link", "/work/link/sub"):
        run = t.petri.sh("ln -s /etc /work/link", "--commit", path)
        t.equal(run.result["layer"], None, run)
        t.contains(run.result["message"], path, run)


def test_layer_of_a_job_cannot_harm(t):
    """A committed link is only a link: files for a later job are not written through it."""
    layer = t.petri.sh("ln -s /tmp/target f; ln -s /etc d; mkfifo p 2>/dev/null; true", "--commit",
                       "/work").result["layer"]
    if layer is None:
        layer = t.petri.sh("ln -s /tmp/target f; ln -s /etc d", "--commit", "/work").result["layer"]
    run = t.petri.job({"argv": ["/bin/sh", "-c", "ls /tmp; cat /work/f"], "layers": [layer],
                       "files": {"/work/f": {"data": "data"}}})
    t.check(run.status == "rejected" or run.out == "data", run)
    run = t.petri.job({"argv": ["/bin/true"], "layers": [layer], "files": {"/work/d/passwd": {"data": "data"}}})
    t.check(run.status == "rejected", run)


def test_empty_commit(t):
    layer = commit(t, {})
    t.equal(t.petri.sh("ls -A", "--layer", layer).out, "")


# ---- blobs ----

def test_blobs(t):
    for data in (b"", b"x", os.urandom(3 * MIB)):
        put = t.petri.call("blob", "put", t.write("data", data))
        t.equal(put.code, 0, put)
        same = t.petri.call("blob", "put", "-", stdin=data)
        t.equal(same.out, put.out)
        t.check(t.petri.call("blob", "cat", put.out.strip()).stdout == data, f"{len(data)} bytes")
    for bad in ("xxh128:" + "0" * 32, "nonsense", "xxh128:../../etc/passwd"):
        run = t.petri.call("blob", "cat", bad)
        t.check(run.code == 1 and run.err and run.out == "", run)
    t.check(t.petri.call("blob", "put", t.path("absent")).code == 1)


def test_blob_as_input(t):
    blob = t.petri.call("blob", "put", t.write("data", "".join(f"{i}\n" for i in range(200000)))).out.strip()
    run = t.petri.job({"argv": ["/bin/sh", "-c", "wc -l; wc -l < /work/in/data; stat -c '%a %U' /work/in/data"],
                       "stdin": {"blob": blob},
                       "files": {"/work/in/data": {"blob": blob, "mode": "0400"}}})
    t.equal(run.out, "200000\n200000\n400 job\n", run)
    t.equal(t.petri.job({"argv": ["/bin/cat"], "stdin": {"base64": "/wA="}}).stdout, b"\xff\0")


def test_same_blob_many_times(t):
    blob = t.petri.call("blob", "put", t.write("data", "same\n")).out.strip()
    files = {f"/work/f{i}": {"blob": blob} for i in range(20)}
    run = t.petri.job({"argv": ["/bin/sh", "-c", "cat /work/f* | sort | uniq -c"], "files": files,
                       "stdin": {"blob": blob}})
    t.equal(run.out.split(), ["20", "same"], run)


def test_blobs_of_jobs_are_apart(t):
    """A job that writes what somebody uploads does not take the upload's id."""
    upload = t.petri.call("blob", "put", t.write("data", "the same\n")).out.strip()
    made = t.petri.job({"argv": ["/bin/sh", "-c", "echo the same > /work/o"],
                        "collect": ["/work/o"]}).result["files"]["/work/o"]["blob"]
    t.check(made != upload, made)
    t.equal(t.petri.call("blob", "cat", made).out, "the same\n")


def test_store_is_private(t):
    """Only root gets in: not even by the ids of files."""
    t.petri.run("--", "/bin/true")
    t.equal(os.stat(t.state).st_mode & 0o007, 0)


def test_store_from_elsewhere(t):
    """--state and PETRI_STATE name two stores that know nothing of each other."""
    import_image(t, "mini", make_root(t))
    t.rejected(t.petri.run("--image", "mini", "--", "/bin/tool", state=t.path("other")), "image", "missing")
    run = t.petri.run("--state", t.state, "--image", "mini", "--", "/bin/tool", "pwd", state=t.path("other"))
    t.equal(run.out, "/work\n", run)


if __name__ == "__main__":
    main(globals())
