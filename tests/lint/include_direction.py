#!/usr/bin/python3
"""The direction of #include between the folders, as in the design:

    base <- {policies, layers, pool} <- executor <- {bench, tests}

The three in the middle never include each other. What becomes part of petri-nursery, a static program that links
only libc, must not reach a header of anything but libc and the kernel, by whatever way.

    include_direction.py [ROOT]       check the tree; exit 1 and one line a violation
    include_direction.py --self-test  plant each kind of violation in a copy and see it found
"""
import os
import re
import shutil
import sys
import tempfile

MIDDLE = ("policies", "layers", "pool")
ALLOWED = {
    "base": {"base"},
    "policies": {"base", "policies"},
    "layers": {"base", "layers"},
    "pool": {"base", "pool"},
    "executor": {"base", *MIDDLE, "executor"},
    "bench": {"base", *MIDDLE, "executor", "bench"},
    "tests": {"base", *MIDDLE, "executor", "bench", "tests"},
}
# Sources of petri-nursery, by path: what libc and the kernel give is all they may use.
NURSERY = re.compile(r"^(base/[^/]+|pool/[^/]+|layers/(stamp|scratch|overlay)|executor/nursery_main)\.[ch]$")
KERNEL = re.compile(r"^(linux|asm|asm-generic|mtd|rdma|sound|video|xen|scsi)/.+\.h$")
LIBC_FOLDERS = re.compile(r"^(sys|net|netinet|netpacket|arpa|bits|rpc)/.+\.h$")
NOT_LIBC = {"sys/capability.h", "sys/acl.h", "sys/psx_syscall.h", "sys/sdt.h"}  # in libc's folder, of others
LIBC = set("""
aio.h aliases.h alloca.h ar.h argp.h argz.h assert.h byteswap.h complex.h cpio.h ctype.h dirent.h dlfcn.h elf.h endian.h
envz.h err.h errno.h error.h execinfo.h fcntl.h fenv.h float.h fnmatch.h fts.h ftw.h getopt.h glob.h grp.h iconv.h
ifaddrs.h inttypes.h iso646.h langinfo.h libgen.h limits.h link.h locale.h malloc.h math.h mcheck.h memory.h mntent.h
monetary.h mqueue.h netdb.h nl_types.h obstack.h paths.h poll.h printf.h proc_service.h pthread.h pty.h pwd.h regex.h
resolv.h sched.h search.h semaphore.h setjmp.h shadow.h signal.h spawn.h stdalign.h stdarg.h stdatomic.h stdbool.h
stddef.h stdint.h stdio.h stdio_ext.h stdlib.h stdnoreturn.h string.h strings.h syscall.h sysexits.h syslog.h tar.h
termios.h tgmath.h threads.h time.h uchar.h ucontext.h unistd.h utime.h utmp.h utmpx.h values.h wait.h wchar.h wctype.h
wordexp.h cpuid.h immintrin.h x86intrin.h arm_acle.h
""".split())
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def is_libc(header):
    return header not in NOT_LIBC and bool(header in LIBC or KERNEL.match(header) or LIBC_FOLDERS.match(header))


def read_includes(root, path):
    """Yield (line number, kind, name): kind is "project", with name relative to root, or "system"."""
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        for number, line in enumerate(f, 1):
            m = INCLUDE.match(line)
            if not m:
                continue
            beside = os.path.normpath(os.path.join(os.path.dirname(path), m[2]))
            if m[1] == '"' and os.path.exists(os.path.join(root, beside)):
                yield number, "project", beside
            elif m[2].split("/")[0] in ALLOWED and "/" in m[2]:
                yield number, "project", os.path.normpath(m[2])
            elif m[1] == '"':
                yield number, "unknown", m[2]
            else:
                yield number, "system", m[2]


def sources(root):
    for folder in ALLOWED:
        for directory, dirs, files in os.walk(os.path.join(root, folder)):
            dirs[:] = sorted(d for d in dirs if d != "build")
            for name in sorted(files):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(directory, name), root)


def foreign(root, path, graph, seen):
    """The ways from path to a header that is neither libc's nor the kernel's: lists of names."""
    for number, kind, name in graph.get(path, ()):
        if kind == "system" and not is_libc(name):
            yield [f"{path}:{number}", f"<{name}>"]
        elif kind == "project" and name not in seen:
            seen.add(name)
            for way in foreign(root, name, graph, seen):
                yield [f"{path}:{number}", *way]


def check(root):
    graph = {path: list(read_includes(root, path)) for path in sources(root)}
    found = []
    for path, includes in graph.items():
        folder = path.split("/")[0]
        for number, kind, name in includes:
            if kind == "unknown" and folder not in ("tests", "bench"):
                found.append(f'{path}:{number}: "{name}" is in no folder of the project')
            elif kind == "project" and name.split("/")[0] not in ALLOWED[folder]:
                found.append(f"{path}:{number}: {folder}/ must not include {name}")
        if NURSERY.match(path):
            for way in foreign(root, path, graph, {path}):
                found.append(f"{' -> '.join(way)}: only libc and kernel headers may reach petri-nursery")
    return len(graph), found


# (file, line, what must be said of it)
PLANTED = (
    ("base/planted.c", '#include "pool/pool.h"', "base/ must not include pool/pool.h"),
    ("policies/planted.h", '#include "layers/store.h"', "policies/ must not include layers/store.h"),
    ("layers/planted.c", '#include "pool/pool.h"', "layers/ must not include pool/pool.h"),
    ("layers/planted.c", '#include "../pool/pool.h"', "layers/ must not include pool/pool.h"),
    ("pool/planted.c", "#  include <policies/policy.h>", "pool/ must not include policies/policy.h"),
    ("pool/planted.c", '#include "executor/job.h"', "pool/ must not include executor/job.h"),
    ("executor/planted.c", '#include "tests/unit/x.h"', "executor/ must not include tests/unit/x.h"),
    ("executor/planted.c", '#include "nowhere.h"', "in no folder"),
    ("base/planted.c", "#include <jansson.h>", "<jansson.h>: only libc"),
    ("pool/planted.c", "#include <sys/capability.h>", "<sys/capability.h>: only libc"),
    ("layers/stamp.c", "#include <xxhash.h>", "<xxhash.h>: only libc"),
    ("layers/overlay.c", '#include "layers/fat.h"', "layers/fat.h:1 -> <archive.h>: only libc"),
)
GOOD = {
    "base/err.h": "#include <stddef.h>\n#include <linux/openat2.h>\n",
    "policies/policy.h": '#include <seccomp.h>\n#include "base/err.h"\n',
    "layers/store.h": '#include "base/err.h"\n',
    "layers/fat.h": "#include <archive.h>\n",
    "layers/stamp.c": '#include "layers/store.h"\n#include <sys/mount.h>\n',
    "pool/pool.h": '#include "base/err.h"\n',
    "executor/job.h": "#include <jansson.h>\n",
    "executor/run.c": '#include "job.h"\n#include "pool/pool.h"\n#include "policies/policy.h"\n#include "layers/fat.h"\n',
    "tests/unit/x.h": '#include "executor/job.h"\n',
}


def self_test():
    failed = 0
    for path, line, want in (*PLANTED, (None, None, None)):
        root = tempfile.mkdtemp(prefix="petri-lint-")
        try:
            for name, text in GOOD.items():
                os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
                with open(os.path.join(root, name), "w", encoding="utf-8") as f:
                    f.write(text)
            if path:
                with open(os.path.join(root, path), "a", encoding="utf-8") as f:
                    f.write(line + "\n")
            _, found = check(root)
            good = any(want in x for x in found) if path else not found
            if not good:
                failed += 1
                print(f"self-test: {path}: {line}: wanted {want!r}, found {found}")
        finally:
            shutil.rmtree(root)
    print(f"self-test: {len(PLANTED)} planted violations and a clean tree, {failed} judged wrongly")
    return 1 if failed else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    count, found = check(os.path.abspath(root))
    print("\n".join([*found, f"{count} files, {len(found)} violations"]))
    return 1 if found or not count else 0


if __name__ == "__main__":
    sys.exit(main())
