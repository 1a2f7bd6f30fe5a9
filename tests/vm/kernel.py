"""Debian's stock cloud kernels for the test VM: downloaded with apt, unpacked into the cache, never installed.

The packages are those that the machine's own apt sources offer. Where those do not know a version, a private apt
configuration is used, with Debian 12's suites on the mirror that the machine uses already; nothing of the machine's
own configuration is changed.
"""
import glob
import os
import re
import shutil
import struct
import subprocess
import tempfile

# version: (meta package, suites to look in when the machine's own sources do not have it)
VERSIONS = {
    "6.1": ("linux-image-cloud-{arch}", ("bookworm", "bookworm-security")),
    "6.12": ("linux-image-6.12-cloud-{arch}", ("bookworm-security", "bookworm-backports")),
}
FALLBACK_META = "linux-image-cloud-{arch}"  # what bookworm-backports calls its newest
RECIPE = 1  # raise it when what is derived from a package changes
LZ4_LEGACY, ZSTD, XZ, GZIP = b"\x02\x21\x4c\x18", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"\x1f\x8b"


class VmError(Exception):
    """The harness cannot do its work; the message says why, and what to do."""


class Kernel:
    """An unpacked kernel: image is what QEMU boots, modules the folder lib/modules/<release>."""

    def __init__(self, version, directory, arch):
        self.version, self.dir, self.arch = version, directory, arch
        self.release = os.path.basename(glob.glob(os.path.join(directory, "lib/modules/*"))[0])
        self.modules = os.path.join(directory, "lib/modules", self.release)
        self.vmlinuz = os.path.join(directory, "boot", "vmlinuz-" + self.release)
        vmlinux = os.path.join(directory, "vmlinux")
        self.image = vmlinux if os.path.exists(vmlinux) else self.vmlinuz
        self.initramfs = os.path.join(directory, "initramfs.cpio")


def output(*argv, env=None, cwd=None):
    """What a command prints; "" when it fails or is not there."""
    try:
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True, cwd=cwd,
                              env={**os.environ, "LC_ALL": "C", **(env or {})}).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


class Apt:
    """apt-get and apt-cache, with the machine's configuration or a private one beneath a directory."""

    def __init__(self, config=None):
        self.env = {"APT_CONFIG": config} if config else {}

    def __call__(self, *argv, cwd=None):
        return output(*argv, env=self.env, cwd=cwd)

    def image_package(self, version, arch):
        """The versioned package behind the meta packages, e.g. linux-image-6.1.0-56-cloud-amd64; None if unknown."""
        wanted = re.compile(rf"linux-image-{re.escape(version)}[.][0-9][^ ]*-cloud-{arch}$")
        for meta in (VERSIONS[version][0], FALLBACK_META):
            for line in self("apt-cache", "depends", meta.format(arch=arch)).splitlines():
                name = line.rpartition(" ")[2]
                if wanted.match(name):
                    return name
        return None

    def download(self, package, directory):
        """Return: the .deb's path."""
        self("apt-get", "download", "-q", package, cwd=directory)
        found = glob.glob(os.path.join(directory, package + "_*.deb"))
        return found[0] if found else None


def mirrors():
    """{"main": URI, "security": URI} of Debian archives that this machine's apt uses."""
    found = {}
    fields = "$(REPO_URI)|$(ORIGIN)|$(CODENAME)|$(SIGNED_BY)"
    for row in output("apt-get", "indextargets", "--format", fields, "Created-By: Packages").splitlines():
        uri, origin, codename, signed_by = (row.split("|") + [""] * 4)[:4]
        if origin == "Debian":
            kind = "security" if "security" in codename or "security" in uri else "main"
            found.setdefault(kind, (uri, signed_by))
    return found


def private_apt(suites, directory, arch=None):
    """An apt configuration in directory that knows the suites, on the machine's own mirror; with arch, of a machine of that
    kind on which nothing is installed. Return: Apt, or None."""
    known = mirrors()
    lines = []
    for suite in suites:
        uri, signed_by = known.get("security" if suite.endswith("-security") else "main", (None, None))
        if uri:
            option = f"[signed-by={signed_by}] " if signed_by and signed_by.startswith("/") else ""
            lines.append(f"deb {option}{uri} {suite} main\n")
    if not lines:
        return None
    for sub in ("lists/partial", "cache/archives/partial", "parts"):
        os.makedirs(os.path.join(directory, sub))
    with open(os.path.join(directory, "sources.list"), "w", encoding="utf-8") as f:
        f.writelines(lines)
    config = os.path.join(directory, "apt.conf")
    with open(config, "w", encoding="utf-8") as f:
        f.write(f'Dir::Etc::sourcelist "{directory}/sources.list";\nDir::Etc::sourceparts "{directory}/parts";\n'
                f'Dir::State::lists "{directory}/lists";\nDir::Cache "{directory}/cache";\n'
                'APT::Sandbox::User "root";\nAcquire::Languages "none";\n')
        if arch:
            open(os.path.join(directory, "status"), "w", encoding="utf-8").close()
            f.write(f'APT::Architecture "{arch}";\nAPT::Architectures {{ "{arch}"; }};\n'
                    f'Dir::State::status "{directory}/status";\n')
    apt = Apt(config)
    apt("apt-get", "update", "-q")
    return apt


def find_package(version, arch, foreign, tmp):
    """Return: (Apt that has it, package). The machine's own apt knows nothing of a foreign architecture."""
    apt = Apt()
    package = None if foreign else apt.image_package(version, arch)
    if package:
        return apt, package
    for suite in VERSIONS[version][1]:
        directory = os.path.join(tmp, "apt-" + suite)
        os.mkdir(directory)
        apt = private_apt((suite,), directory, arch if foreign else None)
        package = apt.image_package(version, arch) if apt else None
        if package:
            return apt, package
    raise VmError(f"no package of kernel {version} in this machine's apt sources, nor in "
                  f"{' or '.join(VERSIONS[version][1])} on its mirror: run apt-get update, or add Debian 12's sources")


def decompress(vmlinuz, vmlinux):
    """The ELF image inside a bzImage, which QEMU boots without decompressing it under emulation. Return: whether
    that worked; the bzImage itself boots as well, only slower. Documentation/x86/boot.rst has the header's fields."""
    with open(vmlinuz, "rb") as f:
        data = f.read()
    start = ((data[0x1f1] or 4) + 1) * 512 + struct.unpack_from("<I", data, 0x248)[0]
    payload = data[start:start + struct.unpack_from("<I", data, 0x24c)[0]]
    tools = {LZ4_LEGACY: ("lz4", "-d", "-c"), ZSTD: ("zstd", "-d", "-c"), XZ: ("xz", "-d", "-c"), GZIP: ("gzip", "-d", "-c")}
    tool = next((t for magic, t in tools.items() if payload.startswith(magic)), None)
    if not tool or not shutil.which(tool[0]):
        return False
    # The build appends the size of the image, four bytes that the tool takes for rubbish: its exit code says nothing.
    image = subprocess.run(tool, input=payload[:-4], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    if not image.startswith(b"\x7fELF"):
        return False
    with open(vmlinux, "wb") as f:
        f.write(image)
    return True


def unpack(deb, directory, arch):
    subprocess.run(["dpkg", "-x", deb, directory], check=True)
    modules = glob.glob(os.path.join(directory, "lib/modules/*"))
    if len(modules) != 1:
        raise VmError(f"{os.path.basename(deb)} has no lib/modules/<release>")
    release = os.path.basename(modules[0])
    subprocess.run(["depmod", "-b", directory, release], check=True)
    if arch == "amd64":
        decompress(os.path.join(directory, "boot", "vmlinuz-" + release), os.path.join(directory, "vmlinux"))


def fetch(version, cache, say, arch="amd64"):
    """Return: the Kernel of that version for that architecture, downloaded when the cache has none."""
    if version not in VERSIONS:
        raise VmError(f"no kernel {version}: choose one of {', '.join(VERSIONS)}")
    here = output("dpkg", "--print-architecture").strip()
    if here != "amd64":
        raise VmError(f"the VM harness runs only on amd64, and this machine is {here or 'without dpkg'}")
    target = os.path.join(cache, f"kernel-{version}-{RECIPE}" + ("" if arch == here else f"-{arch}"))
    if not os.path.isdir(target):
        os.makedirs(cache, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as tmp:
            apt, package = find_package(version, arch, arch != here, tmp)
            say(f"kernel {version}: downloading {package}")
            deb = apt.download(package, tmp)
            if not deb:
                raise VmError(f"apt-get download {package} failed: run apt-get update, and see what that command says")
            tree = os.path.join(tmp, "tree")
            os.mkdir(tree)
            unpack(deb, tree, arch)
            os.rename(tree, target)
    return Kernel(version, target, arch)
