"""Container images: OCI layouts and docker-save archives, made by hand and by other people's tools, and jobs in them."""
import gzip
import json
import lzma
import os
import pty
import select
import shutil
import subprocess
import tarfile

from lib import main
from lib_oci import Layout, docker_save, machine, sha256, tar

# Prints where it is, its arguments and its environment; or with "cat" and "ls" files of the image.
SHOW = r"""
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv)
{
	char buf[4096];
	int names = argc > 1 && strcmp(argv[1], "names") == 0, cat = argc > 1 && strcmp(argv[1], "cat") == 0;
	for (int i = 2; i < argc && cat; i++) {
		FILE *f = fopen(argv[i], "r");
		size_t n = f ? fread(buf, 1, sizeof(buf), f) : 0;
		printf(f ? "%.*s" : "none\n", (int)n, buf);
	}
	for (int i = 2; i < argc && names; i++) {
		struct dirent **list;
		int n = scandir(argv[i], &list, NULL, alphasort);
		for (int k = 0; k < n; k++)
			if (list[k]->d_name[0] != '.')
				printf("%s ", list[k]->d_name);
		puts(n < 0 ? "none" : "");
	}
	if (names || cat)
		return 0;
	printf("cwd %s\n", getcwd(buf, sizeof(buf)));
	for (int i = 0; i < argc; i++)
		printf("arg %s\n", argv[i]);
	for (char **e = environ; *e; e++)
		printf("env %s\n", *e);
	return 0;
}
"""


def program(t):
    with open(t.compile(SHOW, "show", "-static"), "rb") as f:
        return f.read()


def base(t):
    """A lowest layer, with the program in it."""
    return tar({"bin": None, "bin/show": (program(t), 0o755), "etc": None, "etc/motd": b"welcome\n", "opt": None,
                "opt/gone": b"x", "opt/kept": b"kept\n", "data": None, "data/one": b"1\n", "data/sub": None, "data/sub/two": b"2\n"})


def bring(t, name, source, *flags, timeout=60):
    run = t.petri.call("image", "import", *flags, name, source, timeout=timeout)
    t.equal(run.code, 0, run)
    return json.loads(run.out)


def show(t, image, *args, flags=()):
    run = t.petri.run("--image", image, *flags, "--", "/bin/show", *args)
    t.equal((run.status, run.code), ("exited", 0), run)
    return run.out


def need(t, *tools):
    for tool in tools:
        if not shutil.which(tool):
            t.skip(tool)


def tool(t, *argv):
    done = subprocess.run(argv, cwd=t.tmp, capture_output=True, text=True, check=False, timeout=100 * t.scale)
    t.equal(done.returncode, 0, f"{argv}\n{done.stdout}\n{done.stderr}")
    return done.stdout


# ---- layouts ----

def test_layout(t):
    """Layers lie on each other in order; the configuration's defaults are used."""
    layout = Layout(t.path("layout"))
    tars = [base(t), tar({"etc": None, "etc/motd": b"second\n", "etc/new": b"new\n"})]
    layout.add(layout.image(tars, "gzip", Env=["FOO=bar", "HOME=/opt"], Entrypoint=["/bin/show", "a"], Cmd=["b c"],
                            WorkingDir="/opt", User="1234:5"), "latest")
    made = bring(t, "it", layout.path)
    t.equal((len(made["layers"]), made["user"], made["cwd"], made["cmd"]), (2, "1234:5", "/opt", ["b c"]), made)
    t.equal((made["digest"], made["platform"]), (layout.manifests[0]["digest"], "linux/" + machine()), made)
    t.equal(show(t, "it", "cat", "/etc/motd", "/etc/new", "/opt/kept"), "second\nnew\nkept\n")
    run = t.petri.job({"image": "it"})
    lines = run.out.splitlines()
    t.equal(lines[:4], ["cwd /opt", "arg /bin/show", "arg a", "arg b c"], run)
    t.check("env FOO=bar" in lines and "env HOME=/opt" in lines, run)
    run = t.petri.job({"image": "it", "env": ["FOO=job"], "cwd": "/etc"})
    t.check("cwd /etc" in run.out and "env FOO=job" in run.out and "FOO=bar" not in run.out, run)


def test_whiteouts(t):
    layout = Layout(t.path("layout"))
    tars = [base(t), tar({"opt": None, "opt/.wh.gone": b"", "data": None, "data/three": b"3\n", "data/.wh..wh..opq": b""})]
    layout.add(layout.image(tars))
    bring(t, "it", layout.path)
    t.equal(show(t, "it", "names", "/opt", "/data", "/data/sub"), "kept \nthree \nnone\n")
    t.equal(show(t, "it", "cat", "/opt/gone"), "none\n")


def test_compressions_agree(t):
    """The same tars, packed in another way, are the same layers."""
    ids = []
    for name, pack in (("plain", None), ("gzip", "gzip"), ("zstd", (lambda x: tool_bytes("zstd", x), "+zstd"))):
        if name == "zstd" and not shutil.which("zstd"):
            continue
        layout = Layout(t.path(name))
        layout.add(layout.image([base(t)], pack))
        ids.append(bring(t, name, layout.path)["layers"])
    t.check(all(x == ids[0] for x in ids), ids)


def tool_bytes(program_name, data):
    return subprocess.run([program_name, "-c", "-q"], input=data, stdout=subprocess.PIPE, check=True).stdout


def test_layout_archive(t):
    """A layout as a tar, however written and packed, is the same image."""
    layout = Layout(t.path("layout"))
    layout.add(layout.image([base(t), tar({"etc": None, "etc/new": b"new\n"})], "gzip"))
    want = bring(t, "dir", layout.path)
    for number, (mode, prefix) in enumerate((("w", ""), ("w", "./"), ("w:gz", ""), ("w:xz", "./"))):
        made = bring(t, f"tar{number}", layout.pack(t.path(f"{number}.tar"), mode, prefix))
        t.equal((made["layers"], made["digest"]), (want["layers"], want["digest"]), f"{mode} {prefix}")
    t.equal(show(t, "tar3", "cat", "/etc/new"), "new\n")
    t.check(t.petri.call("image", "import", "again", t.path("3.tar")).err.startswith("decompressing the archive\nlayer 1/2 "))
    t.equal([x for x in os.listdir(os.path.join(t.state, "layers", "tmp"))], [])


def test_repeated_and_empty_layers(t):
    """The same layer in several places, and layers of nothing, as builders write them for steps without files."""
    layout = Layout(t.path("layout"))
    empty, a, b = tar({}), tar({"etc": None, "etc/motd": b"a\n", "etc/a": b"a\n"}), tar({"etc": None, "etc/motd": b"b\n", "etc/b": b"b\n"})
    layout.add(layout.image([base(t), empty, a, b, empty, a, empty], "gzip"))
    made = bring(t, "it", layout.path)
    t.equal(len(made["layers"]), 4, made)
    t.equal(show(t, "it", "cat", "/etc/motd", "/etc/a", "/etc/b"), "a\na\nb\n")


def test_many_layers(t):
    """As many as an image may have, and one more."""
    layout = Layout(t.path("layout"))
    tars = [base(t)] + [tar({"n": None, f"n/{i:02}": b"%d\n" % i, "n/top": b"%d\n" % i}) for i in range(63)]
    layout.add(layout.image(tars))
    t.equal(len(bring(t, "it", layout.path)["layers"]), 64)
    t.equal(len(show(t, "it", "names", "/n").split()), 64)
    t.equal(show(t, "it", "cat", "/n/top", "/n/00"), "62\n0\n")
    more = Layout(t.path("more"))
    more.add(more.image(tars + [tar({"x": b"%d" % i}) for i in range(1)]))
    run = t.petri.call("image", "import", "more", more.path)
    t.check(run.code == 1 and "65 layers are too many: the most is 64" in run.err, run)


# ---- which image ----

def test_refs(t):
    layout = Layout(t.path("layout"))
    for ref in ("one", "two"):
        layout.add(layout.image([tar({"ref": ref.encode()})]), ref)
    run = t.petri.call("image", "import", "it", layout.path)
    t.check(run.code == 1 and "--ref: one, two" in run.err, run)
    run = t.petri.call("image", "import", "it", layout.path, "--ref", "three")
    t.check(run.code == 1 and "there is no image 'three' in it: one, two" in run.err, run)
    one, two = (bring(t, "it", layout.path, "--ref", ref) for ref in ("one", "two"))
    t.equal((one["digest"], two["digest"]), tuple(x["digest"] for x in layout.manifests))
    with tarfile.open(t.path("plain.tar"), "w") as archive:
        archive.add(os.path.join(layout.path, "oci-layout"), arcname="some-file")
    run = t.petri.call("image", "import", "--ref", "x", "it", t.path("plain.tar"))
    t.check(run.code == 1 and "it is no image" in run.err, run)


def test_platforms(t):
    """A manifest list picks this machine's image, also within another list."""
    layout = Layout(t.path("layout"))
    other = "s390x"
    mine, theirs = (layout.image([tar({"for": x.encode()})]) for x in (machine(), other))
    odd = layout.image([tar({"for": b"windows"})], change_config=lambda c: {**c, "os": "windows"})
    entries = [dict(theirs, platform={"os": "linux", "architecture": other}),
               dict(odd, platform={"os": "windows", "architecture": machine()}),
               dict(theirs, platform={"os": "unknown", "architecture": "unknown"}),
               dict(mine, platform={"os": "linux", "architecture": machine()})]
    layout.write_index([layout.index(entries)])
    t.equal(bring(t, "listed", layout.path)["digest"], mine["digest"])
    layout.write_index([layout.index([layout.index(entries)])])
    t.equal(bring(t, "nested", layout.path)["digest"], mine["digest"])
    layout.write_index(entries[:3])
    run = t.petri.call("image", "import", "none", layout.path)
    t.check(run.code == 1 and f"linux/{machine()}" in run.err, run)
    layout.write_index(entries[1:2])
    run = t.petri.call("image", "import", "windows", layout.path)
    t.check(run.code == 1 and "'windows'" in run.err, run)
    layout.write_index([layout.image([tar({"a": b""})], change_config=lambda c: {**c, "architecture": other})])
    run = t.petri.call("image", "import", "warned", layout.path)
    t.check(run.code == 0 and f"linux/{other}" in run.err, run)


# ---- docker-save ----

def test_docker_save(t):
    """As older Dockers write it: a directory a layer, and links where two are the same."""
    tars = [base(t), tar({"etc": None, "etc/motd": b"second\n", "opt": None, "opt/.wh.gone": b""}), tar({"x": b"x"}), tar({"x": b"x"})]
    entries = docker_save(tars, share={3: 2}, Env=["FOO=bar"], Entrypoint=["/bin/show"], Cmd=None, WorkingDir="")
    path = t.write("save.tar", tar(entries))
    made = bring(t, "it", path)
    t.equal((len(made["layers"]), made["entrypoint"], made["cmd"], made["cwd"]), (3, ["/bin/show"], None, None), made)
    config = next(x for x in entries if x.endswith(".json") and len(x) == 69)
    t.equal(made["digest"], "sha256:" + config[:64])
    t.equal(show(t, "it", "cat", "/etc/motd"), "second\n")
    t.equal(show(t, "it", "names", "/opt"), "kept \n")
    for packed in (gzip.compress(tar(entries)), lzma.compress(tar(entries))):
        t.equal(bring(t, "packed", t.write("save.tar.packed", packed))["layers"], made["layers"])
    os.mkdir(t.path("unpacked"))
    whole = docker_save(tars[:3])
    with tarfile.open(t.write("whole.tar", tar(whole))) as archive:
        archive.extractall(t.path("unpacked"))
    t.equal(bring(t, "unpacked", t.path("unpacked"))["layers"], made["layers"])


def test_docker_tags(t):
    entries = docker_save([tar({"a": b"a"})], ["reg/x:1", "y:2"])
    other = docker_save([tar({"b": b"b"})], ["reg/x:3"])
    both = {**entries, **other}
    both["manifest.json"] = json.dumps(json.loads(entries["manifest.json"]) + json.loads(other["manifest.json"])).encode()
    path = t.write("both.tar", tar(both))
    run = t.petri.call("image", "import", "it", path)
    t.check(run.code == 1 and "2 images" in run.err and "--ref" in run.err, run)
    ids = [bring(t, "it", path, "--ref", ref)["layers"] for ref in ("reg/x:1", "2", "3")]
    t.check(ids[0] == ids[1] != ids[2], ids)


# ---- made by others ----

def rootfs(t, bundle):
    root = t.path(bundle + "/rootfs")
    for name in ("bin", "etc", "opt"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    with open(os.path.join(root, "bin", "show"), "wb") as f:
        f.write(program(t))
    os.chmod(os.path.join(root, "bin", "show"), 0o755)
    for name, text in (("etc/motd", "first\n"), ("opt/gone", "x"), ("opt/kept", "kept\n")):
        with open(os.path.join(root, name), "w", encoding="utf-8") as f:
            f.write(text)
    os.symlink("motd", os.path.join(root, "etc", "link"))
    os.link(os.path.join(root, "etc", "motd"), os.path.join(root, "etc", "hard"))


def umoci_layout(t):
    """Two layers; the second removes and changes."""
    need(t, "umoci")
    tool(t, "umoci", "init", "--layout", "layout")
    tool(t, "umoci", "new", "--image", "layout:one")
    tool(t, "umoci", "unpack", "--image", "layout:one", "first")
    rootfs(t, "first")
    tool(t, "umoci", "repack", "--image", "layout:one", "first")
    tool(t, "umoci", "unpack", "--image", "layout:one", "second")
    os.remove(t.path("second/rootfs/opt/gone"))
    with open(t.path("second/rootfs/etc/motd"), "w", encoding="utf-8") as f:
        f.write("second\n")
    tool(t, "umoci", "repack", "--image", "layout:two", "second")
    tool(t, "umoci", "config", "--image", "layout:two", "--config.env", "FOO=bar", "--config.workingdir", "/opt",
         "--config.entrypoint", "/bin/show", "--config.user", "7:7")
    return t.path("layout")


def as_umoci_made_it(t, image):
    t.equal(show(t, image, "cat", "/etc/motd", "/etc/link", "/opt/kept"), "second\nsecond\nkept\n")
    t.equal(show(t, image, "names", "/opt", "/etc"), "kept \nhard link motd \n")
    run = t.petri.job({"image": image})
    t.check(run.out.startswith("cwd /opt\narg /bin/show\n") and "env FOO=bar\n" in run.out, run)


def test_umoci(t):
    layout = umoci_layout(t)
    made = bring(t, "two", layout, "--ref", "two")
    t.equal((len(made["layers"]), made["user"], made["platform"]), (2, "7:7", "linux/" + machine()), made)
    as_umoci_made_it(t, "two")
    run = t.petri.call("image", "import", "one", layout, "--ref", "one")
    t.contains(run.err, "image one: 1 layer, ", run)
    t.contains(run.err, "1 already there", run)


def test_skopeo(t):
    """Every form that skopeo copies an image to, and the same layers from each."""
    need(t, "skopeo")
    layout = umoci_layout(t)
    want = bring(t, "want", layout, "--ref", "two")["layers"]
    for kind, name in (("docker-archive:save.tar:some/thing:tag", "save.tar"), ("oci-archive:oci.tar:tag", "oci.tar"),
                       ("oci:again:tag", "again"), ("oci:zstd:tag", "zstd")):
        packing = ("--dest-compress", "--dest-compress-format", "zstd") if name == "zstd" else ()
        tool(t, "skopeo", "copy", "--insecure-policy", *packing, "oci:layout:two", kind)
        t.equal(bring(t, name, t.path(name))["layers"], want, name)
        as_umoci_made_it(t, name)


def test_buildah(t):
    need(t, "buildah")
    storage = ("buildah", "--root", t.path("storage"), "--runroot", t.path("run"), "--storage-driver", "vfs")
    rootfs(t, "made")
    container = tool(t, *storage, "from", "--isolation", "chroot", "scratch").strip()
    tool(t, *storage, "copy", container, "made/rootfs", "/")
    tool(t, *storage, "config", "--env", "FOO=bar", "--entrypoint", '["/bin/show"]', "--workingdir", "/opt", container)
    tool(t, *storage, "commit", "--disable-compression=false", container, "oci-archive:built.tar:tag")
    tool(t, *storage, "commit", container, "docker-archive:saved.tar:some/thing:tag")
    tool(t, *storage, "rm", container)
    ids = [bring(t, name, t.path(name + ".tar"))["layers"] for name in ("built", "saved")]
    t.equal(show(t, "built", "cat", "/etc/motd", "/etc/link"), "first\nfirst\n")
    run = t.petri.job({"image": "saved"})
    t.check(run.out.startswith("cwd /opt\narg /bin/show\n") and "env FOO=bar\n" in run.out, run)
    t.equal(ids[0], ids[1])


# ---- the verbs ----

def test_options_anywhere(t):
    layout = Layout(t.path("layout"))
    layout.add(layout.image([tar({"a": b"a"})]), "tag")
    other = t.path("other")
    for words in (("import", "x", layout.path, "--state", other), ("import", "--state=" + other, "x", "--ref", "tag", layout.path),
                  ("--state", other, "import", "--ref=tag", "x", layout.path), ("list", "--state", other),
                  ("inspect", "x", "--state", other), ("inspect", "--state", other, "--", "x")):
        run = t.petri.call("image", *words)
        t.check(run.code == 0 and '"x"' in run.out or "x " in run.out, run)
    put = t.petri.call("blob", "put", t.write("data", "data"), "--state", other)
    t.equal(put.code, 0, put)
    t.equal(t.petri.call("blob", "--state", other, "cat", put.out.strip()).out, "data")
    for words in (("import", "x", layout.path, "--stat", other), ("list", "--ref", "x"), ("import", "x"), ("rm", "x", "--state")):
        run = t.petri.call("image", *words)
        t.check(run.code == 125 and run.err, run)


def row(t, name):
    lines = [x.split() for x in t.petri.call("image", "list").out.splitlines()]
    t.equal(lines[0], ["NAME", "LAYERS", "SIZE", "SHARED", "OWN"])
    return next(x[1:] for x in lines if x[0] == name)


def test_sizes(t):
    """What two images share is told apart from what each has for itself."""
    layout = Layout(t.path("layout"))
    low, one, two = tar({"low": b"l" * 4096}), tar({"one": b"1" * 1024}), tar({"two": b"2" * 2048})
    layout.add(layout.image([low, one]), "one").add(layout.image([low, two]), "two")
    bring(t, "one", layout.path, "--ref", "one")
    t.equal(row(t, "one"), ["2", "5.0K", "0", "5.0K"])
    bring(t, "two", layout.path, "--ref", "two")
    t.equal(row(t, "one"), ["2", "5.0K", "4.0K", "1.0K"])
    t.equal(row(t, "two"), ["2", "6.0K", "4.0K", "2.0K"])
    bring(t, "copy", layout.path, "--ref", "two")
    t.equal(row(t, "two"), ["2", "6.0K", "6.0K", "0"])


def test_progress_lines(t):
    layout = Layout(t.path("layout"))
    layout.add(layout.image([tar({"a": b"a" * 2000}), tar({"b": b"b"})]))
    run = t.petri.call("image", "import", "it", layout.path)
    digests = [x[12:24] for x in sorted(os.listdir(os.path.join(layout.path, "blobs", "sha256")))]
    t.check(digests and "layer 1/2 sha256:" in run.err and "layer 2/2 sha256:" in run.err and "\r" not in run.err, run)
    t.contains(run.err, "image it: 2 layers, ", run)
    t.contains(run.err, " 0 already there", run)
    again = t.petri.call("image", "import", "again", layout.path)
    t.contains(again.err, " 2 already there", again)


def test_progress_bar(t):
    """On a terminal, and only there."""
    layout = Layout(t.path("layout"))
    layout.add(layout.image([tar({"big": os.urandom(1 << 20) * 256})]))
    master, slave = pty.openpty()
    t.defer(lambda: os.close(master))
    child = subprocess.Popen([t.petri.binary, "image", "import", "it", layout.path], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=slave, env=t.petri.env())
    os.close(slave)
    said = b""
    while select.select([master], [], [], 60 * t.scale)[0]:
        try:
            more = os.read(master, 65536)
        except OSError:
            break
        said += more
    t.equal(child.wait(60 * t.scale), 0, said)
    t.check(b"\rlayer 1/1 sha256:" in said and b"of 256.0M" in said and b"image it: 1 layer, 256.0M, 0 already there" in said, said)


def test_import_replaces(t):
    """The name shows the old image or the new one at every moment, and a failed import leaves the old."""
    first, second = Layout(t.path("first")), Layout(t.path("second"))
    first.add(first.image([base(t)]))
    second.add(second.image([base(t), tar({"etc": None, "etc/motd": b"second\n"})]))
    bring(t, "it", first.path)
    t.equal(show(t, "it", "cat", "/etc/motd"), "welcome\n")
    broken = Layout(t.path("broken"))
    broken.add(broken.image([tar({"x": b""})], change=lambda m: m["layers"][0].update(digest="sha256:" + sha256(b"none"))))
    t.equal(t.petri.call("image", "import", "it", broken.path).code, 1)
    t.equal(show(t, "it", "cat", "/etc/motd"), "welcome\n")
    bring(t, "it", second.path)
    t.equal(show(t, "it", "cat", "/etc/motd"), "second\n")


def test_imports_at_once(t):
    """Several imports of the same layers under the same name: each succeeds, and whoever looks sees one whole image or the other."""
    layouts = [Layout(t.path(x)) for x in ("a", "b")]
    for i, layout in enumerate(layouts):
        layout.add(layout.image([base(t), tar({"which": b"%d" % i, "more": os.urandom(1 << 20)})], "gzip"))
    packed = [layout.pack(t.path(f"{i}.tgz"), "w:gz") for i, layout in enumerate(layouts)]
    bring(t, "it", layouts[0].path)
    for _ in range(4):
        running = [subprocess.Popen([t.petri.binary, "image", "import", "it", source], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE, env=t.petri.env()) for source in (*packed, *(x.path for x in layouts))]
        while any(x.poll() is None for x in running):
            seen = json.loads(t.petri.call("image", "inspect", "it").out)
            t.check(seen["digest"] in [x.manifests[0]["digest"] for x in layouts] and len(seen["layers"]) == 2, seen)
        for x in running:
            t.equal(x.wait(), 0, x.stderr.read())
            x.stderr.close()
    t.check(show(t, "it", "cat", "/which") in ("0", "1"))
    t.equal(os.listdir(os.path.join(t.state, "layers", "tmp")), [])


if __name__ == "__main__":
    main(globals())
