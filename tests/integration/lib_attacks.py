"""The programs of tests/attacks that a test drives itself, and images for them."""
import os

from lib import Skip

HERE = os.path.dirname(os.path.abspath(__file__))
BUILT = os.path.join("tests", "attacks")


def built(t, name):
    """The path of the static program that the build made of tests/attacks/NAME.c; compiled here where there is none."""
    path = os.path.join(os.path.dirname(os.path.abspath(t.petri.binary)), "..", BUILT, name)
    if os.access(path, os.X_OK):
        return path
    with open(os.path.join(HERE, "..", "attacks", name + ".c"), encoding="utf-8") as f:
        return t.compile(f.read(), name, "-static", "-pthread", "-I", os.path.join(HERE, "..", "attacks"))


def blob_of(t, name):
    run = t.petri.call("blob", "put", built(t, name))
    t.equal(run.code, 0, run)
    return run.out.strip()


def image_of(t, name="other"):
    """Import a directory with hardly anything in it."""
    root = t.path("image-" + name)
    os.makedirs(os.path.join(root, "etc"))
    with open(os.path.join(root, "etc/passwd"), "w", encoding="utf-8") as f:
        f.write("job:x:1000:1000::/work:/bin/sh\n")
    os.makedirs(os.path.join(root, "var/tmp"))
    os.chmod(os.path.join(root, "var/tmp"), 0o1777)
    os.makedirs(os.path.join(root, "tmp"))
    run = t.petri.call("image", "import", name, root)
    t.equal(run.code, 0, run)
    return name
