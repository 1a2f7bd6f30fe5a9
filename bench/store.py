"""The store: what stamping a root costs, and how long the import of a large image takes, beside tar -x of the same archive and a sync."""
import hashlib
import io
import os
import shutil
import tarfile
import time

from harness import NotMeasured

MIB = 1 << 20
SHARED_DIRS = 40


def archive_sizes(total):
    """Sizes like those of an image of a distribution: most files are small, most bytes are in large ones. Their sum is `total`."""
    left, n = total, 0
    while left > 0:
        size = 16 * MIB if n % 400 == 0 else 700 << 10 if n % 20 == 0 else 300 + n * 7919 % 40000
        yield n, min(size, left)
        left -= min(size, left)
        n += 1


class Noise:
    """Bytes that neither compress nor repeat, without asking the kernel for each."""

    def __init__(self):
        self.block = os.urandom(16 * MIB)

    def bytes(self, n, size):
        """Of file n: no two are equal."""
        head = hashlib.sha256(str(n).encode()).digest()
        at = int.from_bytes(head[:3], "big") % (16 * MIB - 4096)
        part = head + self.block[at:at + size]
        return (part + self.block[:max(size - len(part), 0)])[:size]


def make_archive(path, total):
    """Return: how many files it holds."""
    noise, count = Noise(), 0
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for n, size in archive_sizes(total):
            if n % 1000 == 0:
                for i in range(SHARED_DIRS):
                    info = tarfile.TarInfo(f"usr/{n // 1000}/{i}")
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(info)
            info = tarfile.TarInfo(f"usr/{n // 1000}/{n % SHARED_DIRS}/file-{n}")
            info.size, info.mode, info.mtime = size, 0o755 if n % 3 == 0 else 0o644, 1700000000 + n
            tar.addfile(info, io.BytesIO(noise.bytes(n, size)))
            count += 1
    return count


def timed(harness, argv, timeout=120):
    begin = time.monotonic()
    harness.run(argv, timeout)
    return time.monotonic() - begin


def by_tar(harness, archive, directory):
    """tar -x until all of it is on the disk."""
    os.mkdir(directory)
    try:
        return timed(harness, ["/bin/tar", "-x", "-f", archive, "-C", directory]) + timed(harness, ["/bin/sync", "-f", directory])
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def by_petri(harness, archive, state, name="bench"):
    return timed(harness, [harness.petri, "image", "--state", state, "import", name, archive])


def settle(harness):
    """Nothing of the one is to be written in the time of the other."""
    harness.run(["/bin/sync", "-f", harness.dir], 120)


def import_once(harness, archive, state):
    """(the first time, once more: then it is there already)"""
    try:
        first = by_petri(harness, archive, state)
        settle(harness)
        return first, by_petri(harness, archive, state, "again")
    finally:
        shutil.rmtree(state, ignore_errors=True)


def median(values):
    return sorted(values)[len(values) // 2]


def measure_import(harness, total, pairs, seconds):
    """In turn, so many pairs or as many as there is time for; at least one."""
    if shutil.disk_usage(harness.dir).free < 4 * total:
        raise NotMeasured(f"there are no {4 * total // MIB} MiB free in {harness.dir}")
    archive, state, directory = (os.path.join(harness.dir, name) for name in ("archive.tar", "import", "extract"))
    try:
        files = make_archive(archive, total)
        settle(harness)
        tar, petri, again, begun = [], [], [], time.monotonic()
        while len(tar) < pairs and (not tar or time.monotonic() - begun < seconds):
            for which in (0, 1) if len(tar) == len(petri) and len(tar) % 2 == 0 else (1, 0):
                if which == 0:
                    tar.append(by_tar(harness, archive, directory))
                else:
                    first, second = import_once(harness, archive, state)
                    petri.append(first)
                    again.append(second)
                settle(harness)
    finally:
        if os.path.exists(archive):
            os.unlink(archive)
    return {"bytes": total, "files": files, "tar_s": tar, "import_s": petri, "again_s": again, "tar_median_s": median(tar),
            "import_median_s": median(petri), "again_median_s": median(again), "speed": median(tar) / median(petri)}
