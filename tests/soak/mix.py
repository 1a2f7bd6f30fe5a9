"""The soak's jobs, friendly and hostile, and what may become of each."""
import base64
import glob
import json
import os
import shutil
import subprocess

ATTACKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "attacks")
MIB = 1 << 20
TIGHT = {"wall_ms": 4000, "cpu_ms": 60, "memory_bytes": 24 * MIB, "pids": 16, "disk_bytes": 2 * MIB, "disk_inodes": 200, "output_bytes": 65536}
SCRIPT = {**TIGHT, "cpu_ms": 400}
SHORT = {**TIGHT, "wall_ms": 60}
# What a hostile job may not be: petri's own failure, or refused.
ENDS = {"exited", "signaled", "cpu_limit", "wall_limit", "memory_limit", "output_limit", "disk_limit", "violation"}
FILL = "mkdir -p /work/d; i=0; while [ $i -lt 400 ]; do : > /work/d/f$i || exit 3; i=$((i+1)); done"
DEEP = "i=0; while [ $i -lt 150 ]; do mkdir d && cd d || exit 3; i=$((i+1)); done; echo x > end"
# (program of tests/attacks or None for a shell's script, arguments, limits, how it must end)
HOSTILE = [
    ("burn", ["1", "0"], TIGHT, {"cpu_limit"}),
    ("burn", ["3", "0"], TIGHT, {"cpu_limit"}),
    ("eat", ["40"], TIGHT, {"memory_limit"}),
    ("eat", ["40", "shm"], TIGHT, {"memory_limit"}),
    ("eat", ["40", "memfd"], TIGHT, {"memory_limit"}),
    ("eat", ["40", "child"], TIGHT, {"memory_limit"}),
    ("forks", ["100"], TIGHT, {"exited"}),
    ("forks", ["100", "thread"], TIGHT, {"exited"}),
    # The kernel memory of its dead is freed after a grace period, and is its own until then.
    ("bomb", [], SHORT, {"wall_limit", "cpu_limit", "memory_limit"}),
    ("recurse", ["64"], {**TIGHT, "stack_bytes": MIB}, {"signaled"}),
    ("stubborn", ["stay"], SHORT, {"wall_limit", "cpu_limit"}),
    ("stubborn", ["leave"], TIGHT, {"exited"}),
    ("ids", [], TIGHT, {"exited"}),
    ("calls", ["--list"], TIGHT, {"exited"}),
    (None, "while :; do echo flood; done", SCRIPT, {"output_limit"}),
    (None, "while :; do echo flood >&2; done", SCRIPT, {"output_limit"}),
    (None, "exec 1>&- 2>&- 0<&-; exit 7", SCRIPT, {"exited"}),
    (None, "head -c 8M /dev/zero > /work/x", SCRIPT, {"disk_limit"}),
    (None, "head -c 8M /dev/zero > /tmp/x", SCRIPT, {"disk_limit"}),
    (None, "head -c 64M /dev/zero > /dev/shm/x", {**SCRIPT, "disk_bytes": 100 * MIB}, {"memory_limit", "disk_limit", "exited"}),
    (None, FILL, SCRIPT, {"disk_limit", "exited"}),
    (None, DEEP, SCRIPT, {"exited", "disk_limit"}),
    (None, "(setsid sleep 100 &) ; (setsid sleep 100 &) ; exit 0", SCRIPT, {"exited"}),
    (None, "kill -STOP $$", SHORT, {"wall_limit"}),
    (None, "kill -9 -1; kill -9 $$", SCRIPT, {"signaled", "exited"}),
    (None, "mkfifo /work/p; ln -s /etc/passwd /work/l; ln -s /proc/self/fd /work/fds; exec sleep 5", SHORT, {"wall_limit"}),
    (None, "cat /proc/kcore /proc/1/environ /proc/1/root/etc/shadow 2>&1; ls -lR /proc/self/fd > /dev/null; exit 0", SCRIPT, {"exited"}),
    (None, "mount -t tmpfs x /work; unshare -r true; chroot / true; exit 5", SCRIPT, {"exited", "violation"}),
    (None, "/no/such/program", SCRIPT, {"exited"}),
]


class Job:
    """One to be submitted: its document, and wrong(result), what is wrong with a result (None: nothing)."""

    def __init__(self, name, document, wrong, probe=False, kind=""):
        self.name, self.document, self.wrong, self.probe, self.kind = name, document, wrong, probe, kind
        document["id"] = name
        document["reply"] = "soak"
        self.text = json.dumps(document)


def _same(result, out, code=0):
    if result["status"] != "exited" or result["exit_code"] != code:
        return f"not exited with {code}"
    if result["stdout"] != {"data": out, "truncated": False}:
        return f"another output than {out!r}"
    return None


class Mix:
    """Jobs by a seed. programs: {name: blob id} of tests/attacks, in the store of the worker."""

    def __init__(self, random, programs, hostile_percent):
        self.random, self.programs, self.percent = random, programs, hostile_percent
        self.layers = []  # of the last commits, (id, text)
        known = {p for p, _, _, _ in HOSTILE if p}
        # One that this table does not know yet is run bare, and must end somehow.
        self.hostile = [h for h in HOSTILE if h[0] is None or h[0] in programs]
        self.hostile += [(name, [], {**SHORT, "wall_ms": 150}, ENDS) for name in sorted(programs) if name not in known and name != "tool"]
        self.kinds = [self.echo] * 8 + [self.stdin, self.files, self.collect, self.commit, self.layered, self.touch]

    def make(self, number):
        if self.random.randrange(100) < self.percent:
            return self.attack(f"h{number}")
        return self.random.choice(self.kinds)(f"f{number}")

    def nonce(self):
        return f"{self.random.getrandbits(64):016x}"

    # ---- friendly ----
    def echo(self, name):
        text = self.nonce()
        return Job(name, {"argv": ["/bin/echo", text]}, lambda r: _same(r, text + "\n"), probe=True, kind="echo")

    def stdin(self, name):
        text = self.nonce() * 200
        return Job(name, {"argv": ["/bin/cat"], "stdin": {"data": text}}, lambda r: _same(r, text), kind="stdin")

    def files(self, name):
        """And nothing of an earlier job."""
        text = self.nonce()
        return Job(name, {"argv": ["/bin/sh", "-c", "ls -A /work /tmp /dev/shm; cat /work/in"],
                          "files": {"/work/in": {"base64": base64.b64encode(text.encode()).decode()}}},
                   lambda r: _same(r, "/dev/shm:\n\n/tmp:\n\n/work:\nin\n" + text), kind="files")

    def collect(self, name):
        text = self.nonce()
        def wrong(r):
            got = r["files"].get("/work/out", {})
            return _same(r, "") or (None if got.get("data") == text else f"collected {got}")
        return Job(name, {"argv": ["/bin/sh", "-c", f"printf {text} > /work/out"], "collect": [{"path": "/work/out", "as": "inline"}]}, wrong, kind="collect")

    def commit(self, name):
        text = self.nonce()
        def wrong(r):
            if r["layer"]:
                self.layers = [*self.layers[-7:], (r["layer"], text)]
            return _same(r, "") or (None if r["layer"] else "no layer")
        return Job(name, {"argv": ["/bin/sh", "-c", f"printf {text} > /work/built"], "commit": "/work"}, wrong, kind="commit")

    def layered(self, name):
        if not self.layers:
            return self.commit(name)
        layer, text = self.layers[-1]
        def wrong(r):
            # Since it was made a gc may have taken it: nothing has used it for a while.
            if r["status"] == "rejected" and r["reason"] == "missing":
                self.layers = [x for x in self.layers if x[0] != layer]
                return None
            return _same(r, text)
        return Job(name, {"argv": ["/bin/cat", "/work/built"], "layers": [layer]}, wrong, kind="layered")

    def touch(self, name):
        """Files left in every place that a job may write to."""
        text = self.nonce()
        script = f"for d in /work /tmp /dev/shm; do mkdir $d/x; echo {text} > $d/x/y; done; cat /tmp/x/y"
        return Job(name, {"argv": ["/bin/sh", "-c", script]}, lambda r: _same(r, text + "\n"), kind="touch")

    # ---- hostile ----
    def attack(self, name):
        program, arguments, limits, ends = self.random.choice(self.hostile)
        document = {"limits": limits}
        if program:
            document["argv"] = [f"/work/{program}", *arguments]
            document["files"] = {f"/work/{program}": {"blob": self.programs[program], "mode": "0755"}}
        else:
            document["argv"] = ["/bin/sh", "-c", arguments]
        what = f"{program or 'sh'} {' '.join(arguments) if program else arguments}"
        # A busy machine makes every step dearer and slower, so that these limits may come first.
        ends = ends | {"cpu_limit", "wall_limit"}
        return Job(name, document, lambda r: None if r["status"] in ends else f"{what}: {r['status']}, not one of {sorted(ends)}", kind="hostile " + what[:40])


def compile_attacks(directory):
    """{name: path} of those of tests/attacks that this machine's compiler builds."""
    built = {}
    compiler = shutil.which("gcc") or shutil.which("cc")
    for source in sorted(glob.glob(os.path.join(ATTACKS, "*.c"))) if compiler else []:
        name = os.path.basename(source)[:-2]
        path = os.path.join(directory, name)
        done = subprocess.run([compiler, "-O1", "-s", "-o", path, source, "-pthread"], stderr=subprocess.DEVNULL, check=False)
        if done.returncode == 0:
            built[name] = path
    return built
