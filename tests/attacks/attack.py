#!/usr/bin/python3
"""Runs the attacks of this directory, and checks that each was stopped and left nothing behind.

    attack.py NAME                 NAME.c as a job of `petri run`, under every shipped policy and in two images
    attack.py --pool POLICY IMAGE  all of them through one worker with two slots, several at once, honest jobs among them
    attack.py --check              every attack says what it tries, what must happen, what stops it, and what its control showed
    attack.py --table [FILE]       print docs/attacks.md; with FILE: is that file up to date?

An attack is NAME.c: a head comment with "Tries:", "Must:", "Stopped by:" and "Without it:", and directives, one a line:

    // flags: FLAGS            options of petri run; may be repeated
    // stdin: TEXT
    // expect: ENDS            how it may end: `exited 0` (the default), `signaled 9`, `violation mount`, or a status alone;
    //                         several are separated by " | "
    // expect POLICY: ENDS     the same, under one policy
    // usage: cpu_ms <= 400    of the result's usage, in that unit: a bound it must keep (<= or >=); may be repeated
    // alone: WHY              in a worker, nothing else runs beside it
    // driven-by: FILE         a test of that file runs it, since it takes more than one job: not run here
    // native-only: WHY        not on the first-class host (cgroup v2 with project quotas), or: vm-only: WHY, only there

The program prints "HELD: …" for each attempt that was stopped, "BROKEN: …" for each that was not. BROKEN anywhere in its output is
a failure however it ended, and one that ends by itself must have said HELD at least once.

PETRI_BIN is the program, PETRI_ATTACKS the directory of the built attacks.
"""
import base64
import concurrent.futures
import json
import os
import re
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
sys.dont_write_bytecode = True

import lib  # noqa: E402

FIELDS = ("Tries", "Must", "Stopped by", "Without it")
IMAGES = ("host", "imported")
TIMES = {"--wall": ("wall_limit", 10000), "--cpu": ("cpu_limit", 2000)}
UNITS = {"cpu_ms": lambda u: (u["cpu_user_us"] + u["cpu_system_us"]) / 1000, "wall_ms": lambda u: u["wall_us"] / 1000,
         "memory_mib": lambda u: u["memory_peak_bytes"] / (1 << 20), "disk_mib": lambda u: u["disk_bytes"] / (1 << 20),
         "throttled_ms": lambda u: u["throttled_us"] / 1000}
DURATION = {"ms": 1, "s": 1000, "m": 60000}
SIZE = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
LIMITS = {"--memory": "memory_bytes", "--swap": "swap_bytes", "--disk": "disk_bytes", "--output": "output_bytes",
          "--stack": "stack_bytes", "--pids": "pids", "--inodes": "disk_inodes", "--open-files": "open_files",
          "--cpus": "cpus", "--cpuset": "cpuset", "--wall": "wall_ms", "--cpu": "cpu_ms"}
FRIEND_SAYS = "the honest job found all as it should be\n"


def policies():
    return sorted(name[:-5] for name in os.listdir(os.path.join(ROOT, "policies")) if name.endswith(".json"))


def names():
    return sorted(name[:-2] for name in os.listdir(HERE) if name.endswith(".c"))


def first_class():
    """Is this the host with all drivers: the memory controller on the v2 tree?"""
    try:
        with open("/sys/fs/cgroup/cgroup.controllers", encoding="utf-8") as f:
            return "memory" in f.read().split()
    except OSError:
        return False


class Attack:
    """One attack as its source describes it."""

    def __init__(self, name):
        self.name = name
        with open(os.path.join(HERE, name + ".c"), encoding="utf-8") as f:
            source = f.read()
        self.fields = self._fields(source.partition("*/")[0])
        self.flags, self.stdin, self.bounds, self.ends = [], None, [], {"": "exited 0"}
        self.alone = self.native_only = self.vm_only = self.driven_by = None
        self.bad = [f"no '{name}:' in the head comment" for name in FIELDS if not self.fields.get(name)]
        for key, value in re.findall(r"^// ([a-z -]+): *(.*)$", source, re.M):
            self._directive(key, value.strip())

    @staticmethod
    def _fields(comment):
        found, current = {}, None
        for line in comment.splitlines():
            text = re.sub(r"^\s*/?\*+ ?", "", line).strip()
            start = re.match(r"(" + "|".join(FIELDS) + r"): *(.*)", text)
            if start:
                current = start[1]
                found[current] = start[2]
            elif current and text:
                found[current] += " " + text
        return found

    def _directive(self, key, value):
        word, _, policy = key.partition(" ")
        if key == "flags":
            self.flags += value.split()
        elif key == "stdin":
            self.stdin = value
        elif word == "expect":
            self.ends[policy] = value
        elif key == "usage":
            bound = re.fullmatch(r"(\w+) (<=|>=) ([0-9.]+)", value)
            if bound:
                self.bounds.append((bound[1], bound[2], float(bound[3])))
            else:
                self.bad.append(f"usage '{value}' is no bound")
        elif key in ("alone", "native-only", "vm-only"):
            setattr(self, key.replace("-", "_"), value)
        elif key == "driven-by":
            self.driven_by = value
            if not os.path.exists(os.path.join(ROOT, value)):
                self.bad.append(f"there is no {value}")
        else:
            self.bad.append(f"'{key}' is no directive")

    def why_not_here(self):
        if self.native_only and first_class():
            return f"another host than the first-class one: {self.native_only}"
        if self.vm_only and not first_class():
            return f"cgroup v2 with project quotas: {self.vm_only}"
        return None

    def expected(self, policy):
        return [end.strip() for end in self.ends.get(policy, self.ends[""]).split("|")]

    def scaled_flags(self, policy):
        """On a slow machine more time, but for the limit that the attack is to run into."""
        flags, given = [], dict(zip(self.flags[::2], self.flags[1::2]))
        for flag, value in zip(self.flags[::2], self.flags[1::2]):
            if flag not in TIMES:
                flags += [flag, value]
        for flag, (status, standard) in TIMES.items():
            ms = milliseconds(given[flag]) if flag in given else standard
            if status not in self.expected(policy):
                ms = int(ms * lib.SCALE)
            flags += [flag, f"{ms}ms"]
        return flags

    def judge(self, policy, result, output):
        """Return: what is wrong with how it ended, or None."""
        status, said = result["status"], output
        ends = {status, f"{status} {result['exit_code']}" if status == "exited" else None,
                f"{status} {result['signal']}" if status == "signaled" else None,
                f"{status} {(result.get('violation') or {}).get('syscall')}" if status == "violation" else None}
        if "BROKEN:" in said:
            return "an attempt went through"
        if not ends & set(self.expected(policy)):
            return f"ended as {sorted(x for x in ends if x)}, wanted {self.expected(policy)}"
        if status == "exited" and "HELD:" not in said:
            return "it ended by itself, and says of nothing that it was stopped"
        for key, sign, bound in self.bounds:
            usage = result["usage"]
            got = UNITS[key](usage) if key in UNITS else usage[key]
            if sign == "<=" and key.endswith("_ms"):
                bound *= lib.SCALE
            if got > bound if sign == "<=" else got < bound:
                return f"{key} is {got}, wanted {sign} {bound}"
        return None


def milliseconds(text):
    number, unit = re.fullmatch(r"([0-9.]+)([a-z]+)", text).groups()
    return int(float(number) * DURATION[unit])


def built(name):
    path = os.path.join(os.environ.get("PETRI_ATTACKS") or "", name)
    if not os.access(path, os.X_OK):
        raise AssertionError(f"PETRI_ATTACKS: {path} is not a program")
    return path


def import_image(t):
    """An image of a few files beside the static honest program: no shell, no libraries, nothing of the machine's."""
    root = t.path("image")
    for directory in ("bin", "etc", "data"):
        os.makedirs(os.path.join(root, directory))
    shutil.copy(built("friend"), os.path.join(root, "bin/friend"))
    # For the attack of that name: what an exec would gain rights by, if the import kept it and the mounts allowed it.
    privileged = os.path.join(root, "bin/privileged")
    shutil.copy(built("setuid_programs"), privileged)
    os.setxattr(privileged, "security.capability", bytes.fromhex("01000002" + "ff" * 16))
    os.chmod(privileged, 0o6755)
    t.write("image/etc/passwd", "root:x:0:0::/:/bin/false\n")
    t.write("image/data/lower", "of the image\n")
    run = t.petri.call("image", "import", "imported", root)
    t.equal(run.code, 0, run)


def of_result(text):
    """stdout or stderr of a result, as text."""
    if "data" in text:
        return text["data"]
    return base64.b64decode(text["base64"]).decode("utf-8", "replace")


# ---- one attack, by petri run ----

def friend(t, policy, image):
    run = t.petri.run("--policy", policy, "--image", image, "--file", "/work/friend=" + built("friend"),
                      "--wall", f"{10 * lib.SCALE:.0f}s", "--cpu", f"{5 * lib.SCALE:.0f}s", "--", "/work/friend")
    t.equal((run.status, run.code, run.out), ("exited", 0, FRIEND_SAYS), run)


def run_one(t, attack, policy, image):
    """Return: what is wrong, or None."""
    run = t.petri.run("--policy", policy, "--image", image, "--file", "/work/attack=" + built(attack.name),
                      *attack.scaled_flags(policy), "--", "/work/attack", stdin=attack.stdin, timeout=60)
    if not run.result:
        return f"{policy}, {image}: no result\n{run}"
    wrong = attack.judge(policy, run.result, run.out + run.err)
    return f"{policy}, {image}: {wrong}\n{run}" if wrong else None


def run_attack(t, attack):
    if attack.why_not_here():
        t.skip(attack.why_not_here())
    import_image(t)
    ways = [(policy, image) for policy in policies() for image in IMAGES]
    with concurrent.futures.ThreadPoolExecutor(1 if attack.alone else 2) as pool:
        wrong = [x for x in pool.map(lambda way: run_one(t, attack, *way), ways) if x]
    t.check(not wrong, "\n".join(wrong))
    friend(t, *ways[sum(attack.name.encode()) % len(ways)])


# ---- all of them, by a worker ----

def limit_value(flag, value):
    if flag in TIMES:
        return milliseconds(value)
    if flag == "--cpuset":
        return value
    if flag == "--cpus":
        return float(value)
    number, unit = re.fullmatch(r"([0-9]+)([KMG]?)", value).groups()
    return int(number) * SIZE[unit]


def job_of(attack, policy, image, source):
    """The job document that says what scaled_flags() say to petri run."""
    job = {"id": f"attack-{attack.name}", "argv": ["/work/attack"], "policy": policy, "image": image,
           "files": {"/work/attack": {**source, "mode": "0755"}}, "limits": {}}
    flags = attack.scaled_flags(policy)
    for flag, value in zip(flags[::2], flags[1::2]):
        if flag in LIMITS:
            job["limits"][LIMITS[flag]] = limit_value(flag, value)
        elif flag == "--io":
            job["limits"]["io"] = {k: limit_value("", v) for k, v in (x.split("=") for x in value.split(","))}
        elif flag in ("--env", "--collect"):
            job.setdefault(flag[2:], []).append(value)
        elif flag in ("--network", "--cwd", "--commit"):
            job[flag[2:]] = value
        else:
            raise AssertionError(f"{attack.name}: the pool cannot say {flag} in a job")
    if attack.stdin is not None:
        job["stdin"] = {"data": attack.stdin}
    return job


def inline(name):
    with open(built(name), "rb") as f:
        return {"base64": base64.b64encode(f.read()).decode()}


def blob(t, name):
    run = t.petri.call("blob", "put", built(name))
    t.equal(run.code, 0, run)
    return {"blob": run.out.split()[0]}


def friend_job(number, policy, image, source):
    job = {"id": f"friend-{number}", "argv": ["/work/friend"], "policy": policy, "image": image,
           "limits": {"wall_ms": int(30000 * lib.SCALE), "cpu_ms": int(5000 * lib.SCALE)},
           "files": {"/work/friend": {**source, "mode": "0755"}}}
    if image == "imported" and number % 2:
        del job["files"]
        job["argv"] = ["/bin/friend"]
    return job


class Pool:
    """One worker and what was sent to it."""

    def __init__(self, t, policy, image):
        self.policy, self.image = policy, image
        self.friend_source, self.friends, self.wrong = blob(t, "friend"), 0, []
        self.worker = t.worker(slots=2)

    def send_friend(self):
        self.friends += 1
        return self.worker.submit(friend_job(self.friends, self.policy, self.image, self.friend_source))

    def check_friend(self, number):
        result = self.worker.result(f"friend-{number}", 60)
        if (result["status"], result["exit_code"], of_result(result["stdout"])) != ("exited", 0, FRIEND_SAYS):
            self.wrong.append(f"an honest job: {json.dumps(result)[:1500]}")

    def send(self, attack, source):
        self.worker.submit(job_of(attack, self.policy, self.image, source))

    def check(self, attack):
        result = self.worker.result(f"attack-{attack.name}", 60)
        if result["status"] == "rejected":
            self.wrong.append(f"{attack.name}: {json.dumps(result)[:1500]}")
            return
        wrong = attack.judge(self.policy, result, of_result(result["stdout"]) + of_result(result["stderr"]))
        if wrong:
            self.wrong.append(f"{attack.name}: {wrong}\n{json.dumps(result)[:3000]}")


def run_pool(t, policy, image):
    import_image(t)
    pool = Pool(t, policy, image)
    attacks = [a for a in map(Attack, names()) if not a.driven_by and not a.why_not_here()]
    together = [a for a in attacks if not a.alone]
    # One in eight comes from the store, the rest within the job: both ways, and the stream's memory stays small.
    for i, attack in enumerate(together):
        pool.send(attack, blob(t, attack.name) if i % 8 == 0 else inline(attack.name))
        if i % 3 == 0:
            pool.send_friend()
    for attack in together:
        pool.check(attack)
    for number in range(1, pool.friends + 1):
        pool.check_friend(number)
    for attack in attacks:
        if attack.alone:
            pool.send(attack, inline(attack.name))
            pool.check(attack)
            pool.send_friend()
            pool.check_friend(pool.friends)
    t.check(not pool.wrong, "\n".join(pool.wrong))
    print(f"{len(attacks)} attacks and {pool.friends} honest jobs")


# ---- the documentation ----

HEADER = """# Attacks

Each program of `tests/attacks` tries one thing that a job must not be able to do. `attack.py` runs it as a job under every shipped
policy, in the image `host` and in an imported one, and then all of them together through one worker, with honest jobs in between
that must not be disturbed. *Without it* is the control: the defence was taken out once, and this is what the test said then.

This page is made from the programs' head comments: `tests/attacks/attack.py --table > docs/attacks.md`. A test compares the two.

| attack | tries | must | stopped by | without it |
|---|---|---|---|---|
"""


def cell(text):
    return (text or "").replace("|", "\\|")


def table():
    rows = ["| " + " | ".join([f"`{a.name}`", *(cell(a.fields.get(name)) for name in FIELDS)]) + " |"
            for a in map(Attack, names())]
    return HEADER + "\n".join(rows) + "\n"


def check_headers():
    bad = [f"{attack.name}.c: {what}" for attack in map(Attack, names()) for what in attack.bad]
    print("\n".join([*bad, f"{len(names())} attacks, {len(bad)} faults"]))
    return 1 if bad or not names() else 0


def check_table(path):
    with open(path, encoding="utf-8") as f:
        if f.read() == table():
            return 0
    print(f"{path} is not what the attacks say: tests/attacks/attack.py --table > {path}")
    return 1


def main(arguments):
    if arguments == ["--check"]:
        return check_headers()
    if arguments == ["--table"]:
        sys.stdout.write(table())
        return 0
    if len(arguments) == 2 and arguments[0] == "--table":
        return check_table(arguments[1])
    if len(arguments) == 3 and arguments[0] == "--pool" and arguments[1] in policies() and arguments[2] in IMAGES:
        return lib.run_case(lambda t: run_pool(t, *arguments[1:]))
    if len(arguments) == 1 and arguments[0] in names():
        return lib.run_case(lambda t: run_attack(t, Attack(arguments[0])))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
