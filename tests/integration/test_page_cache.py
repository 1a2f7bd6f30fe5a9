"""Whose account the page cache of an image's files is on: the first job that reads them pays, and those after it do not."""
import glob
import os
import shutil
import time

import lib_leaks
from lib import main
from test_worker import echo

SIZE = 24 << 20


def evict(path):
    """Out of the page cache, as after a reboot."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def image(t):
    """An image with /bin/read FILE [BYTES], a big file, and one that is nearly all hole. Returns the big one's path in the store."""
    root = t.path("root")
    os.makedirs(os.path.join(root, "bin"))
    shutil.copy(t.compile(READ, "read", "-static"), os.path.join(root, "bin", "read"))
    with open(os.path.join(root, "big"), "wb") as f:
        f.write(os.urandom(SIZE))
    with open(os.path.join(root, "hole"), "wb") as f:
        f.write(os.urandom(4096))
        f.truncate(256 << 20)
    done = t.petri.call("image", "import", "files", root)
    t.equal(done.code, 0, done)
    found = glob.glob(os.path.join(t.state, "layers", "*", "diff", "big"))
    t.equal(len(found), 1, found)
    return found[0]


READ = """
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	static char buf[65536];
	long left = argc > 2 ? atol(argv[2]) : 1l << 62;
	int fd = open(argv[1], O_RDONLY);
	for (ssize_t n; left > 0 && (n = read(fd, buf, sizeof(buf))) > 0;)
		left -= n;
	return fd < 0;
}
"""


def read(worker, job, *argv):
    """Run the reader. Return: the peak of its memory."""
    result = worker.do({"image": "files", "argv": ["/bin/read", *argv], **job})
    assert (result["status"], result["exit_code"]) == ("exited", 0), result
    return result["usage"]["memory_peak_bytes"]


def kept():
    """Bytes that the group for the cache is charged with."""
    for path in ("memory/petri/cache/memory.usage_in_bytes", "petri/cache/memory.current"):
        try:
            with open(os.path.join("/sys/fs/cgroup", path), encoding="ascii") as f:
                return int(f.read())
        except OSError:
            pass
    return 0


def settles(t, worker, size, job, *argv):
    """Jobs, until one is not charged for the file any more."""
    def small():
        peaks.append(read(worker, job, *argv))
        time.sleep(0.3)
        return peaks[-1] < size // 3
    peaks = []
    t.eventually(small, "a job that is not charged for the image's file", 60)
    print("peaks:", *peaks)
    t.check(read(worker, job, *argv) < size // 3, "and it stays so")


def cold(t, worker, path, job, *argv):
    """The first reader after a boot is charged. Without that there is nothing to see here."""
    with open(path, "rb") as f:
        f.read(4096)
        try:
            os.preadv(f.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError as e:
            worker.stop()
            t.skip(f"a filesystem that tells what is cached ({path}: {e})")
    evict(path)
    peak = read(worker, job, *argv)
    if peak < os.stat(path).st_size * 3 // 4:
        worker.stop()
        t.skip(f"a filesystem from whose cache a file can be taken ({path}: {peak})")


def test_an_images_files(t):
    """Control, without cache_dropped() in slot_reaped() and reuse_room(): `not within 60 s: a job that is not charged for the image's file`."""
    path = image(t)
    worker = t.worker(slots=1)
    cold(t, worker, path, {}, "/big")
    settles(t, worker, SIZE, {}, "/big")
    t.check(kept() >= SIZE * 3 // 4, kept())
    # What a job touches of a file of holes does not have the rest of it filled with zeros, on anybody's account.
    before = kept()
    for _ in range(4):
        read(worker, {}, "/hole", str(4 << 20))
        time.sleep(0.3)
    t.check(kept() < before + (64 << 20), (before, kept()))


def test_not_with_keep_cache_off(t):
    path = image(t)
    worker = t.worker("--keep-cache", "off", slots=1)
    cold(t, worker, path, {}, "/big")
    before = kept()
    for _ in range(4):
        time.sleep(0.3)
        t.check(read(worker, {}, "/big") >= SIZE * 3 // 4, "each job is charged")
    t.check(kept() < before + SIZE // 2, (before, kept()))


def test_the_machines_files(t):
    """The same for `host`, of whose files only those are looked at that are cached: programs first."""
    mapped = "".join(lib_leaks._read(f"/proc/{pid}/maps") for pid in lib_leaks.processes())  # those stay cached
    found = [p for place in ("/usr/bin/*", "/usr/lib/gcc/*/*/*") for p in glob.glob(place) if os.path.isfile(p) and not os.path.islink(p)]
    found = [p for p in found if (4 << 20) < os.stat(p).st_size < (100 << 20) and p not in mapped]
    if not found:
        t.skip("a file of more than 4 MiB in /usr/bin that nobody has mapped")
    worker = t.worker(slots=1)
    job = {"image": "host", "argv": ["/usr/bin/cksum", found[0]]}
    cold(t, worker, found[0], job)
    settles(t, worker, os.stat(found[0]).st_size, job)


def test_what_a_job_wrote_is_not_kept(t):
    """A job's own files go with it, and do not make its slot wait again and again."""
    before = kept()
    worker = t.worker("--scratch", "tmpfs", slots=1)
    took = []
    for _ in range(8):
        begin = time.monotonic()
        result = worker.do({"argv": ["/bin/sh", "-c", "head -c 6000000 /dev/zero > /work/x"]})
        t.equal(result["status"], "exited", result)
        took.append(time.monotonic() - begin)
    t.equal(worker.do(echo("after"))["stdout"]["data"], "hi\n")
    t.check(kept() < before + (16 << 20), (before, kept()))
    print("seconds:", " ".join(f"{x:.3f}" for x in took))


if __name__ == "__main__":
    main(globals())
