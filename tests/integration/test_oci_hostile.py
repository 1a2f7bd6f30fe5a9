"""Container images of people who mean harm, or whose disk does: refused with the reason, quickly, and nothing is left behind."""
import gzip
import json
import os
import resource
import subprocess
import tarfile

from lib import main
from lib_oci import CONFIG, INDEX, LAYER, MANIFEST, Layout, docker_save, sha256, tar

SECRET = "root:secret of the host"
FILES = {"etc": None, "etc/motd": b"welcome\n"}


def refused(t, source, *parts, seconds=10):
    """Not imported, with a message that names what is wrong; no image, nothing half done."""
    run = t.petri.call("image", "import", "bad", source, timeout=60)
    t.check(run.code == 1 and run.err.startswith("petri: error: "), run)
    t.check("Traceback" not in run.err and "killed by" not in run.err and "makes no sense" not in run.err, run)
    for part in parts:
        t.contains(run.err, part, run)
    t.check(run.seconds < seconds * t.scale, run)
    t.check(SECRET not in run.err + run.out, run)
    t.check("bad" not in t.petri.call("image", "list").out.split(), run)
    t.equal(os.listdir(os.path.join(t.state, "layers", "tmp")), [], run)


class Maker:
    """A fresh layout for each thing that is wrong."""

    def __init__(self, t):
        self.t, self.count = t, 0

    def layout(self):
        self.count += 1
        return Layout(self.t.path(f"layout{self.count}"))

    def manifest(self, **fields):
        """An image whose manifest has other fields; None removes one."""
        layout = self.layout()

        def change(manifest):
            for key, value in fields.items():
                manifest[key] = value(manifest[key]) if callable(value) else value
                if value is None:
                    del manifest[key]
        layout.add(layout.image([tar(FILES)], change=change))
        return layout.path

    def config(self, **fields):
        layout = self.layout()

        def change(config):
            config.update(fields)
            return {k: v for k, v in config.items() if v is not None}
        layout.add(layout.image([tar(FILES)], change_config=change))
        return layout.path

    def layer(self, **fields):
        return self.manifest(layers=lambda layers: [{k: v for k, v in {**layers[0], **fields}.items() if v is not None}])


def test_documents(t):
    """index.json as nobody should write it."""
    make = Maker(t)
    entry = {"mediaType": MANIFEST, "digest": "sha256:" + "0" * 64, "size": 1}
    for document, part in (
            (b"", "index.json: "), (b"{", "index.json: "), (b"[]", "no JSON object"), (b"null", "index.json: "), (b"\0" * 100, "index.json: "),
            (b"\xff\xfe{}", "index.json: "), (b'{"schemaVersion": 2, "schemaVersion": 2}', "duplicate"), ({"schemaVersion": 1}, "schema 1"),
            ({"schemaVersion": "2"}, "schemaVersion"), ({"schemaVersion": 2}, "manifests"), ({"schemaVersion": 2, "manifests": {}}, "manifests"),
            ({"schemaVersion": 2, "manifests": []}, "no image"), ({"schemaVersion": 2, "manifests": [1]}, "mediaType"),
            ({"schemaVersion": 2, "manifests": [entry], "layers": []}, "at once"), ({"schemaVersion": 2, "mediaType": MANIFEST, "manifests": [entry]}, "mediaType"),
            (b"[" * 1000 + b"]" * 1000, "nested deeper"), (b'{"schemaVersion": 2, "manifests": [' + b"{}," * 100000 + b"{}]}", "more than 65536 values"),
            (b" " * ((4 << 20) + 1), "the most is"), ({"schemaVersion": 2, "manifests": [dict(entry, mediaType="text/plain")]}, "'text/plain'"),
            ({"schemaVersion": 2, "manifests": [dict(entry, mediaType="application/vnd.docker.distribution.manifest.v1+json")]}, "not supported")):
        layout = make.layout()
        layout.write("index.json", document)
        refused(t, layout.path, part)


def test_digests(t):
    """A digest is 64 digits and never a path; what does not match is damaged."""
    make = Maker(t)
    t.write("secret", SECRET)
    for digest, part in (("sha256:../../../../../../../../etc/shadow", "no SHA-256"), ("../../secret", "no SHA-256"), ("sha256:" + "A" * 64, "no SHA-256"),
                         ("sha256:" + "0" * 63, "no SHA-256"), ("sha256:" + "0" * 65, "no SHA-256"), ("sha512:" + "0" * 128, "sha512 is not supported"),
                         ("md5:" + "0" * 32, "no SHA-256"), ("", "no SHA-256"), (7, "missing"), (None, "missing"), ("sha256:" + "0" * 64, "is missing"),
                         ("sha256:/" + "0" * 63, "no SHA-256"), ("sha256:" + "0" * 62 + "\u00e9", "no SHA-256")):
        refused(t, make.layer(digest=digest), part)
        layout = make.layout()
        layout.write_index([{"mediaType": MANIFEST, "digest": digest, "size": 2}])
        refused(t, layout.path, part)
    for name in ("index", "manifest", "config", "layer"):
        layout = make.layout()
        descriptor = layout.image([tar(FILES)], "gzip")
        inner = json.loads(read_blob(layout, descriptor))
        listed = layout.index([descriptor])
        layout.write_index([listed])
        victim = {"index": listed, "manifest": descriptor, "config": inner["config"], "layer": inner["layers"][0]}[name]
        path = os.path.join(layout.path, "blobs/sha256", victim["digest"][7:])
        data = bytearray(read_blob(layout, victim))
        data[len(data) // 2] ^= 1
        with open(path, "wb") as f:
            f.write(data)
        refused(t, layout.path, victim["digest"][7:])
        with open(path, "ab") as f:
            f.write(b" ")
        refused(t, layout.path, "bytes, and should have")
        with open(path, "wb") as f:
            f.write(data[:len(data) // 2])
        refused(t, layout.path, "bytes, and should have")


def read_blob(layout, descriptor):
    with open(os.path.join(layout.path, "blobs/sha256", descriptor["digest"][7:]), "rb") as f:
        return f.read()


def test_sizes_that_lie(t):
    make = Maker(t)
    for size, part in ((-1, "size"), (1 << 63, "too big"), (10 ** 30, "too big"), (1.5, "size"), ("10", "size"), (None, "size"), (0, "bytes, and should have 0"),
                       (1 << 62, "should have"), ((1 << 63) - 1, "should have")):
        refused(t, make.layer(size=size), part)
        refused(t, make.manifest(config=lambda c, s=size: {**c, "size": s}), part)
    layout = make.layout()
    layout.write_index([layout.blob(b"", MANIFEST)])
    refused(t, layout.path, "the manifest sha256:")


def test_kinds_of_layers(t):
    make = Maker(t)
    for kind, part in (("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "foreign"),
                       ("application/vnd.oci.image.layer.nondistributable.v1.tar", "foreign"), (LAYER + "+encrypted", "encrypted"),
                       (LAYER + "+gzip+encrypted", "encrypted"), (LAYER + "+bzip2", "not supported"), ("text/html", "'text/html'"), (None, "missing"),
                       (CONFIG, "not supported")):
        refused(t, make.layer(mediaType=kind), "layers[0]", part)
    refused(t, make.manifest(config=lambda c: {**c, "mediaType": "application/vnd.cncf.helm.config.v1+json"}), "helm", "container image")
    refused(t, make.manifest(mediaType=INDEX), "mediaType")
    refused(t, make.manifest(schemaVersion=3), "schemaVersion")
    refused(t, make.manifest(manifests=[]), "at once")
    refused(t, make.manifest(layers=[]), "no layer")
    refused(t, make.manifest(layers="x"), "layers is no list")
    refused(t, make.manifest(config=None), "config")


def test_configurations(t):
    make = Maker(t)
    for fields, part in (({"os": "windows"}, "'windows'"), ({"os": None}, "os"), ({"rootfs": None}, "rootfs"), ({"rootfs": {"type": "layers", "diff_ids": []}}, "no layer"),
                         ({"rootfs": {"type": "layers+base", "diff_ids": ["sha256:" + "0" * 64]}}, "rootfs"),
                         ({"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64] * 2}}, "has 2 layers, the manifest has 1"),
                         ({"rootfs": {"type": "layers", "diff_ids": ["sha256:x"]}}, "diff_ids[0]"), ({"config": []}, "config is no object"),
                         ({"config": {"Env": "A=b"}}, "config.Env"), ({"config": {"Env": ["A=b", 1]}}, "config.Env[1]"), ({"config": {"Env": ["novalue"]}}, "KEY=VALUE"),
                         ({"config": {"Env": ["=x"]}}, "KEY=VALUE"), ({"config": {"Cmd": "sh"}}, "config.Cmd"), ({"config": {"Entrypoint": [None]}}, "config.Entrypoint[0]"),
                         ({"config": {"WorkingDir": "../x"}}, "not absolute"), ({"config": {"User": 0}}, "config.User"), ({"config": {"WorkingDir": "/a\0b"}}, "configuration"),
                         ({"config": {"Env": ["A=" + "x" * (300 << 10)]}}, "more than 262144 bytes"), ({"config": {"Cmd": ["x"] * 5000}}, "at most 4096")):
        refused(t, make.config(**fields), "configuration", part)
    refused(t, make.config(history=["x" * (9 << 20)]), "the most is 8388608")


def test_diff_ids(t):
    """A layer that is good as a blob, but not the tar that the configuration names."""
    make = Maker(t)
    refused(t, make.config(rootfs={"type": "layers", "diff_ids": ["sha256:" + sha256(b"other")]}), "layer 1 of 1")
    path = t.write("save.tar", tar({**docker_save([tar(FILES)]), sha256(b"") + ".json": b""}))
    t.equal(t.petri.call("image", "import", "good", path).code, 0)
    # Known to the store by now, which does not read it again.
    t.equal(t.petri.call("image", "import", "good", make.manifest()).code, 0)
    refused(t, make.config(rootfs={"type": "layers", "diff_ids": ["sha256:" + sha256(b"other")]}), "layer 1 of 1")
    entries = docker_save([tar(FILES)])
    layer = next(x for x in entries if x.endswith("layer.tar"))
    entries[layer] = tar({"etc": None, "etc/motd": b"changed\n"})
    refused(t, t.write("changed.tar", tar(entries)), "layer 1 of 1")
    entries = docker_save([tar(FILES)])
    config = next(x for x in entries if x.endswith(".json") and len(x) == 69)
    entries[config] = entries[config].replace(b'"config": {}', b'"config":{} ')
    refused(t, t.write("config.tar", tar(entries)), "SHA-256")


def test_indexes_within_indexes(t):
    """Deep ones end; a circle would need a digest of itself, and is refused as damaged."""
    make = Maker(t)
    layout = make.layout()
    descriptor = layout.image([tar(FILES)])
    for _ in range(3):
        descriptor = layout.index([descriptor])
    layout.write_index([descriptor])
    t.equal(t.petri.call("image", "import", "deep", layout.path).code, 0)
    layout.write_index([layout.index([descriptor])])
    refused(t, layout.path, "more than 4 deep")
    layout = make.layout()
    own = {"mediaType": INDEX, "digest": "sha256:" + "1" * 64, "size": 0}
    text = json.dumps({"schemaVersion": 2, "manifests": [own]}).encode()
    own["size"] = len(text) + len(str(len(text))) - 1
    layout.write("blobs/sha256/" + "1" * 64, {"schemaVersion": 2, "manifests": [own]})
    layout.write_index([own])
    refused(t, layout.path, "its SHA-256 is another one")


def peak_kib(t, *args):
    """Run petri; returns (exit code, stderr, peak of its memory and its children's in KiB)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = subprocess.run([t.petri.binary, *args], env=t.petri.env(), capture_output=True, text=True, check=False, timeout=60 * t.scale)
    return done.returncode, done.stderr, max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, before)


def test_a_hundred_thousand_layers(t):
    """Refused by number or size, at once, and in little memory."""
    make = Maker(t)
    refused(t, make.manifest(layers=lambda layers: layers * 1000), "1000 layers are too many: the most is 64", seconds=3)
    for layers in (lambda x: x * 100000, lambda x: [{}] * 100000, lambda x: [0] * 100000, lambda x: [[]] * 900000):
        layout = make.layout()
        layout.add(layout.image([tar(FILES)], change=lambda m, f=layers: m.update(layers=f(m["layers"]))))
        refused(t, layout.path, seconds=3)
        code, said, peak = peak_kib(t, "image", "import", "bad", layout.path)
        t.check(code == 1 and peak < 128 << 10, f"{peak} KiB: {said}")
    entries = docker_save([tar(FILES)])
    document = json.loads(entries["manifest.json"])
    document[0]["Layers"] *= 40000
    entries["manifest.json"] = json.dumps(document).encode()
    refused(t, t.write("save.tar", tar(entries)), "40000 layers are too many", seconds=3)


def test_blobs_that_are_no_files(t):
    """Links to the host's files, FIFOs, directories: never read, never waited for."""
    make = Maker(t)
    t.write("secret", SECRET)
    for part in ("index.json", "manifest", "config", "layer"):
        for kind in ("link", "absolute", "fifo", "directory", "parent"):
            layout = make.layout()
            layout.add(layout.image([tar(FILES)]))
            manifest = layout.manifests[0]
            inner = json.loads(read_blob(layout, manifest))
            path = {"index.json": "index.json", "manifest": blob(manifest), "config": blob(inner["config"]), "layer": blob(inner["layers"][0])}[part]
            path = os.path.join(layout.path, path)
            os.rename(path, t.path("moved"))
            if kind == "link":
                os.symlink("../" * 10 + t.path("moved"), path)
            elif kind == "absolute":
                os.symlink("/etc/shadow", path)
            elif kind == "fifo":
                os.mkfifo(path)
            elif kind == "directory":
                os.mkdir(path)
            else:
                os.rename(t.path("moved"), path)
                os.rename(os.path.join(layout.path, "blobs"), t.path(f"blobs{make.count}"))
                os.symlink(t.path(f"blobs{make.count}"), os.path.join(layout.path, "blobs"))
            if kind != "parent" or part != "index.json":
                refused(t, layout.path, seconds=5)
    os.mkfifo(t.path("pipe"))
    refused(t, t.path("pipe"), "neither a directory nor a tar file")


def blob(descriptor):
    return "blobs/sha256/" + descriptor["digest"][7:]


def test_docker_names(t):
    """Names in manifest.json lead to files of the archive only."""
    t.write("secret.tar", tar({"secret": SECRET.encode()}))
    entries = docker_save([tar(FILES)])
    layer = next(x for x in entries if x.endswith("layer.tar"))
    for name in ("../secret.tar", "/etc/shadow", t.path("secret.tar"), "absent/layer.tar", "x" * 5000, "", "a/../../secret.tar", 7, None):
        document = json.loads(entries["manifest.json"])
        document[0]["Layers"] = [name]
        refused(t, t.write("layers.tar", tar({**entries, "manifest.json": json.dumps(document).encode()})))
        unpacked = t.path(f"unpacked-{sha256(repr(name).encode())[:8]}")
        os.mkdir(unpacked)
        with tarfile.open(t.path("layers.tar")) as archive:
            archive.extractall(unpacked)
        refused(t, unpacked)
        document[0].update(Layers=[layer], Config=name)
        refused(t, t.write("config.tar", tar({**entries, "manifest.json": json.dumps(document).encode()})))
    for target in ("../../secret.tar", "/etc/shadow", t.path("secret.tar"), "layer.tar", f"../{layer}"):
        refused(t, t.write("link.tar", tar({**entries, layer: (tarfile.SYMTYPE, target)})))
        refused(t, t.write("hard.tar", tar({**entries, layer: (tarfile.LNKTYPE, target)})))


def test_archives_cut_and_flipped(t):
    """Any end of an archive, and a changed bit anywhere, is refused or does no harm."""
    layout = Layout(t.path("layout"))
    layout.add(layout.image([tar({**FILES, "big": os.urandom(20000)})], "gzip"))
    with open(layout.pack(t.path("whole.tar")), "rb") as f:
        whole = f.read()
    want = json.loads(t.petri.call("image", "import", "whole", t.path("whole.tar")).out)["layers"]
    for data in (whole, gzip.compress(whole)):
        for part in range(1, 20):
            cut = data[:len(data) * part // 20]
            run = t.petri.call("image", "import", "cut", t.write("cut.tar", cut))
            t.check(run.code == 1 or json.loads(run.out)["layers"] == want or json.loads(run.out)["digest"] is None, run)
            t.check("killed by" not in run.err and "makes no sense" not in run.err, run)
        for at in range(0, len(data), max(1, len(data) // 40)):
            flipped = bytearray(data)
            flipped[at] ^= 1 << (at % 8)
            run = t.petri.call("image", "import", "flipped", t.write("flipped.tar", bytes(flipped)))
            t.check(run.code in (0, 1) and "killed by" not in run.err and "makes no sense" not in run.err, f"{at}: {run}")
    t.equal(os.listdir(os.path.join(t.state, "layers", "tmp")), [])


def test_archive_bomb(t):
    """A compressed archive that unpacks to far more than it should: stopped by what is free, and nothing stays."""
    head = tar({"oci-layout": b"{}", "index.json": b"{}"})[:-10240]
    with open(t.path("bomb.tar"), "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", compresslevel=9) as z:
        z.write(head)
        info = tarfile.TarInfo("blobs/x")
        info.size = 1 << 42
        z.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            z.write(bytes(1 << 20))
    refused(t, t.path("bomb.tar"), seconds=30)
    used = int(subprocess.run(["du", "-sk", t.state], capture_output=True, check=True).stdout.split()[0])
    t.check(used < 10 << 10, used)


def test_archive_larger_than_the_disk(t):
    """What is free on the store's filesystem bounds what a compressed archive may become; nothing of it stays."""
    small = t.path("small")
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32M,mode=0755", "tmpfs", small], check=True)
    t.defer(lambda: subprocess.run(["umount", small], check=True))
    state = os.path.join(small, "state")
    layout = Layout(t.path("layout"))
    layout.add(layout.image([tar({"zeros": bytes(100 << 20)})]))
    run = t.petri.call("image", "import", "bad", layout.pack(t.path("zeros.tgz"), "w:gz"), state=state, timeout=60)
    t.check(run.code == 1 and "when it is unpacked" in run.err, run)
    t.equal(os.listdir(os.path.join(state, "layers", "tmp")), [])
    t.check(os.statvfs(small).f_bavail * 4096 > 31 << 20, os.statvfs(small))


def test_many_files_in_an_archive(t):
    """Bounded; and a large root file system is none of that."""
    names = {"oci-layout": b"{}", "index.json": b"{}", **{f"blobs/{i}": b"" for i in range(17000)}}
    refused(t, t.write("many.tar", tar(names)), "more than 16384 files")
    run = t.petri.call("image", "import", "tree", t.write("tree.tar", tar({f"f{i}": b"" for i in range(17000)})), timeout=60)
    t.equal(run.code, 0, run)


if __name__ == "__main__":
    main(globals())
