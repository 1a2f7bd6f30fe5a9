"""The demo's root filesystem: Debian with gcc, g++ and python3, built once by mmdebstrap and kept as a tar.

The machine's own apt configuration is what decides where packages come from: apt itself is asked for its
sources (`apt-get indextargets`) and for its proxy settings (`apt-config dump`), so mirrors, proxies and both
formats of sources.list work without a word here about any of them.
"""
import hashlib
import os
import re
import subprocess
import tempfile
import time

SUITE = "bookworm"
PACKAGES = ("gcc", "g++", "libc6-dev", "python3")
RECIPE = 1  # raise it when something changes what is in the tar without changing the names below

# Nobody reads manuals or links with -flto here; this halves the number of files.
DPKG_OPTIONS = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/bin/*lto-dump*",
    "path-exclude=/usr/lib/gcc/*/*/lto1",
)
# The builder's sources and proxy are nobody's business inside, and the caches are dead weight.
CLEAN_HOOK = (
    'rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap '
    '"$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/log/* "$1"/tmp/* "$1"/etc/hostname "$1"/etc/resolv.conf'
)
APT_SETTING = re.compile(
    r"^Acquire::(https?::(.*::)?Proxy(-Auto-Detect)?|https?::(Timeout|CaInfo|Verify-Peer|Verify-Host)"
    r"|Retries|Check-Valid-Until|ForceIPv4)\b", re.I)


class RootfsError(Exception):
    pass


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "petri")


def _output(*argv):
    try:
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True,
                              env={**os.environ, "LC_ALL": "C"}).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def apt_sources():
    """sources.list lines for SUITE as this machine's apt knows them; empty on another distribution."""
    fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)|$(CODENAME)"
    lines = []
    for row in _output("apt-get", "indextargets", "--format", fields, "Created-By: Packages").splitlines():
        uri, release, component, signed_by, codename = (row.split("|") + [""] * 5)[:5]
        known = {release.split("/")[0], codename.split("/")[0]}
        if not known & {SUITE, SUITE + "-updates", SUITE + "-security"} or component != "main":
            continue
        option = f"[signed-by={signed_by}] " if signed_by.startswith("/") else ""
        line = f"deb {option}{uri} {release} {component}"
        if line not in lines:
            lines.append(line)
    return lines


def apt_settings():
    dump = _output("apt-config", "dump", "--format", '%f "%v";%n')
    return [line for line in dump.splitlines() if APT_SETTING.match(line) and not line.endswith('"";')]


def tar_path():
    arch = _output("dpkg", "--print-architecture").strip() or os.uname().machine
    key = "\n".join((str(RECIPE), SUITE, arch, *PACKAGES, *DPKG_OPTIONS, CLEAN_HOOK))
    return os.path.join(cache_dir(), f"demo-rootfs-{hashlib.sha256(key.encode()).hexdigest()[:12]}.tar")


def modes():
    """mmdebstrap's ways to work, the likeliest first: user namespaces are often closed in containers."""
    return ("root", "unshare") if os.geteuid() == 0 else ("unshare", "fakechroot")


def _mmdebstrap(mode, target, log, conf, sources):
    argv = ["mmdebstrap", f"--mode={mode}", "--variant=essential", "--format=tar",
            "--include=" + ",".join(PACKAGES), "--skip=output/dev", f"--aptopt={conf}",
            f"--customize-hook={CLEAN_HOOK}"]
    argv += [f"--dpkgopt={option}" for option in DPKG_OPTIONS]
    argv += [SUITE, target]
    if sources:
        argv.append("-")
    return subprocess.run(argv, input="\n".join(sources) + "\n" if sources else "", text=True, stdout=log, stderr=log,
                          env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}).returncode


def build(say):
    """Return the path of the tar, building it when the cache has none. `say` prints a line of progress."""
    path = tar_path()
    if os.path.exists(path):
        say(f"root filesystem: {path} (cached, {os.path.getsize(path) >> 20} MiB)")
        return path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    say(f"root filesystem: building Debian {SUITE} with {', '.join(PACKAGES)}; a minute or two, once")
    start = time.monotonic()
    part = f"{path}.{os.getpid()}.part"
    sources = apt_sources()
    with tempfile.TemporaryDirectory(prefix="petri-rootfs-") as tmp:
        conf = os.path.join(tmp, "apt.conf")
        with open(conf, "w", encoding="utf-8") as f:
            f.write("\n".join(apt_settings() + ['Acquire::Languages "none";', ""]))
        log_path = os.path.join(tmp, "log")
        try:
            for mode in modes():
                with open(log_path, "w", encoding="utf-8") as log:
                    code = _mmdebstrap(mode, part, log, conf, sources)
                if code == 0:
                    os.rename(part, path)
                    say(f"root filesystem: {path} ({os.path.getsize(path) >> 20} MiB, "
                        f"{time.monotonic() - start:.0f} s, mode {mode})")
                    return path
                say(f"mmdebstrap --mode={mode} failed with code {code}")
            with open(log_path, encoding="utf-8", errors="replace") as log:
                tail = "".join(log.readlines()[-15:])
            raise RootfsError(f"mmdebstrap could not build the root filesystem:\n{tail}")
        finally:
            if os.path.exists(part):
                os.unlink(part)
