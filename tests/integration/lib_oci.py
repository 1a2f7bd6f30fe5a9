"""Container images written byte by byte, good ones and bad ones, for the tests of `petri image import`."""
import gzip
import hashlib
import io
import json
import os
import tarfile

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
REF = "org.opencontainers.image.ref.name"


def machine():
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def tar(entries):
    """A tar of {name: bytes | (tarfile type, link name) | None for a directory}; an int's mode comes with (bytes, mode)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, what in entries.items():
            info = tarfile.TarInfo(name)
            data = b""
            if what is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(what, bytes):
                data, info.mode = what, 0o644
            elif isinstance(what[0], bytes) and isinstance(what[1], int):
                data, info.mode = what
            else:
                info.type, info.linkname = what
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def as_bytes(document):
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def config_of(tars, **config):
    return {"architecture": machine(), "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(x) for x in tars]}}


class Layout:
    """An OCI image layout in a directory."""

    def __init__(self, path):
        self.path, self.manifests = path, []
        os.makedirs(os.path.join(path, "blobs", "sha256"))
        self.write("oci-layout", {"imageLayoutVersion": "1.0.0"})

    def write(self, name, document):
        with open(os.path.join(self.path, name), "wb") as f:
            f.write(as_bytes(document))

    def blob(self, data, kind):
        """Store bytes (or JSON); returns the descriptor."""
        data = as_bytes(data)
        self.write("blobs/sha256/" + sha256(data), data)
        return {"mediaType": kind, "digest": "sha256:" + sha256(data), "size": len(data)}

    def layers(self, tars, pack=None):
        """Descriptors of tars; pack: "gzip", or a function bytes -> bytes with a suffix of the media type."""
        if pack == "gzip":
            return [self.blob(gzip.compress(x, mtime=0), LAYER + "+gzip") for x in tars]
        if pack:
            return [self.blob(pack[0](x), LAYER + pack[1]) for x in tars]
        return [self.blob(x, LAYER) for x in tars]

    def image(self, tars, pack=None, change=None, change_config=None, **config):
        """A manifest's descriptor. change, change_config: called with the documents before they are stored."""
        document = config_of(tars, **config)
        if change_config:
            document = change_config(document) or document
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self.blob(document, CONFIG), "layers": self.layers(tars, pack)}
        if change:
            manifest = change(manifest) or manifest
        return self.blob(manifest, MANIFEST)

    def add(self, descriptor, ref=None, platform=None):
        """Name it in index.json."""
        entry = dict(descriptor)
        if ref:
            entry["annotations"] = {REF: ref}
        if platform:
            entry["platform"] = dict(zip(("os", "architecture", "variant"), platform.split("/")))
        self.manifests.append(entry)
        return self.write_index(self.manifests)

    def write_index(self, manifests):
        self.write("index.json", {"schemaVersion": 2, "manifests": manifests})
        return self

    def index(self, entries):
        """A manifest list as a blob; returns its descriptor."""
        return self.blob({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX)

    def pack(self, path, mode="w", prefix=""):
        """The layout as a tar."""
        with tarfile.open(path, mode) as archive:
            for name in sorted(os.listdir(self.path)):
                archive.add(os.path.join(self.path, name), arcname=prefix + name)
        return path


def docker_save(tars, tags=("some/thing:tag",), share=(), **config):
    """The entries of a docker-save archive as Docker wrote it up to 24. share: {index: index} of layers stored once and linked to."""
    document = as_bytes(config_of(tars, **config))
    ids = [sha256(b"%d" % i + x) for i, x in enumerate(tars)]
    entries, share = {}, dict(share)
    for i, data in enumerate(tars):
        entries[ids[i]] = None
        entries[f"{ids[i]}/VERSION"] = b"1.0"
        entries[f"{ids[i]}/json"] = b"{}"
        link = share.get(i)
        entries[f"{ids[i]}/layer.tar"] = data if link is None else (tarfile.SYMTYPE, f"../{ids[link]}/layer.tar")
    entries[sha256(document) + ".json"] = document
    entries["manifest.json"] = as_bytes([{"Config": sha256(document) + ".json", "RepoTags": list(tags),
                                          "Layers": [f"{x}/layer.tar" for x in ids]}])
    entries["repositories"] = b"{}"
    return entries
