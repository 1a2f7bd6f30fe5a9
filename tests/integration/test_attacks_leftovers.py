"""What one job leaves, looked for by the slot's next: both see the same as the first job of a new slot."""
import json
import os
import re
import time

from lib import SCALE, main
from lib_attacks import blob_of, image_of

POLICIES = ("judge", "default")
LIMITS = {"memory_bytes": 256 << 20, "cpu_ms": 20000, "wall_ms": 30000}
# What counts for the whole machine: ids, times and sums of the kernel's own (docs/security.md, "What a slot shows of itself").
NUMBERS = re.compile(r"(?<=^/proc/self/mountinfo\| )\d+ \d+ \d+:\d+ |(?<=^/proc/self/autogroup\| /autogroup-)\d+ |(?<=/net/netlink\| )[0-9a-f]{16}"
                     r"|(alloc \d+ )?mem \d+|(?<=/slots/)\d+/g\d+")
RUNNING = re.compile(r"^/proc/self/(status\| (Vm|Rss|.*ctxt_switches|Cpus_|Mems_)|io\||net/(softnet_stat|protocols|stat/))")


def seen(result):
    """What `leftovers look` printed, without what no two runs have in common."""
    lines = [NUMBERS.sub("", line) for line in result["stdout"]["data"].splitlines() if not RUNNING.match(line)]
    return [" ".join(line.split()[:-1]) if "/net/netlink|" in line else line for line in lines]  # the last is an inode number


def job(name, program, image, policy, *argv):
    return {"id": f"{name}-{image}-{policy}", "image": image, "policy": policy, "argv": ["/work/attack", *argv], "limits": LIMITS,
            "files": {"/work/attack": {"blob": program, "mode": "0755"}}, "env": ["PATH=/bin", "SOCKETS=1"] if policy == "default" else ["PATH=/bin"]}


def where(result):
    """The slot's user namespace: one for as long as its room lasts."""
    return result["stderr"]["data"]


def check_looks(t, worker, program, image, policy, kept):
    """A new slot, and the same one after four jobs. kept: that the first of them keeps the room is certain here."""
    def do(name, *argv):
        result = worker.do(job(name, program, image, policy, *argv))
        t.equal((result["status"], result["exit_code"], result["message"]), ("exited", 0, ""), result)
        return result
    first = seen(do("first", "look"))
    for number, how in enumerate(("quiet", "root", "daemon", "all")):
        planted = do(f"plant-{number}", "plant", how)
        look = do(f"look-{number}", "look")
        found = seen(look)
        t.equal([x for x in found if x not in first], [], f"{image}, {policy}, {how}: there is more")
        t.equal([x for x in first if x not in found], [], f"{image}, {policy}, {how}: there is less")
        t.check(how != "quiet" or not kept or where(planted) == where(look), "the room was not used again, so nothing could be found in it")
    return first


def test_the_slot_looks_new(t):
    """Controls, and what there was more: CLONE_NEWIPC left out of zygote_start(): 'shm 0 msg 0 sem 0 mq 3' (quiet); renew_places() that
    keeps /dev/shm: its mode 1777, three links, all names (quiet); root_untouched() always true: all names in /var/tmp (root); no mask over
    /proc/locks: '9: OFDLCK ADVISORY  WRITE -1 fe:00:1107848 0 EOF' (this is how the mask came to be). The refusal of F_SET_RW_HINT
    in floor.c was taken out too: no difference on 6.18, whose own rule is that only a file's owner sets one, nor on 6.1 with a scratch under
    project quota, where the overlay that would keep it is made anew for each job."""
    program, image = blob_of(t, "leftovers"), image_of(t)
    worker = t.worker(slots=1)
    kept = json.loads(t.petri.call("doctor", "--json").stdout)["scratch"] != "project-quota"
    for policy in POLICIES:
        for name in ("host", image) if SCALE < 4 else (image,):
            t.check(len(check_looks(t, worker, program, name, policy, kept)) > 300, "what was looked at")


HEAVY = """
import os, time
x = bytearray(60 << 20)
open("/work/big", "wb").write(bytes(8 << 20))
for i in range(40):
    try:
        if os.fork() == 0:
            while True: time.sleep(100)
    except OSError:
        pass
for j in range(10**6): pass
y = bytearray(120 << 20)
"""


def test_usage_begins_at_nothing(t):
    """After a job that used up memory, tasks and CPU time and was killed for it, one that uses nothing is told so.
    Control: leaf_begin() without read_raw(): ended as memory_limit, with oom_kills 1. (Without the reset of the peak there is no difference:
    a leaf in which more than one task ran is made anew.)"""
    program = blob_of(t, "leftovers")
    worker = t.worker(slots=1)
    for i in range(2):
        heavy = worker.do({"id": f"heavy-{i}", "argv": ["/usr/bin/python3", "-c", HEAVY], "limits": {**LIMITS, "memory_bytes": 96 << 20, "pids": 30, "disk_bytes": 16 << 20}})
        t.check(heavy["status"] == "memory_limit" and heavy["usage"]["pids_limit_hits"] > 0 and heavy["usage"]["oom_kills"] > 0, heavy)
        light = worker.do(job(f"light-{i}", program, "host", "judge", "nothing"))
        usage = light["usage"]
        t.equal((light["status"], usage["pids_peak"], usage["pids_limit_hits"], usage["oom_kills"]), ("exited", 1, 0, 0), light)
        t.check(usage["memory_peak_bytes"] < 8 << 20 and usage["cpu_user_us"] + usage["cpu_system_us"] < 50000 * t.scale, light)
        t.check(usage["disk_bytes"] < 2 << 20, light)


def test_locks_of_others(t):
    """Locks, leases and watches that a job in the other slot holds on files of the image and on its own: nothing of them is seen.
    Control: no mask over /proc/locks: its lines are there."""
    program = blob_of(t, "leftovers")
    worker = t.worker(slots=2)
    def locks(name):
        look = worker.do(job(name, program, "host", "default", "look"))
        t.equal(look["status"], "exited", look)
        return [line for line in look["stdout"]["data"].splitlines() if " flock " in line or line.startswith("/proc/locks")]
    before = locks("before")
    t.check(len(before) >= 2, before)
    worker.submit(job("hold", program, "host", "default", "hold"))
    t.eventually(lambda: worker.client("EXISTS", "petri:state:hold-host-default"), "it runs")
    time.sleep(0.1 * t.scale)
    t.equal(locks("meanwhile"), before)
    t.equal(t.petri.call("cancel", "--redis", t.redis.url, "hold-host-default").code, 0)
    t.equal(worker.result("hold-host-default")["status"], "cancelled", "it held them all the time")


# ---- what is delivered into a warm slot ----

def compiled(t, worker, name, text, tenant):
    """A small layer that a job committed under /work."""
    made = worker.do({"id": name, "argv": ["/bin/sh", "-c", f"echo {text} > {name}; echo {text} > same"], "commit": "/work", "tenant": tenant})
    t.check(made["layer"], made)
    return made["layer"]


def test_delivered_layers_stay_apart(t):
    """Layers of two tenants, turn by turn in one slot, as files in a warm slot and stamped: each sees its own and no other's.
    Control: send_job() that sends the first pack that there ever was: got 'mine same m', wanted 'same theirs t'."""
    worker = t.worker(slots=1)
    mine, theirs = compiled(t, worker, "mine", "m", "a"), compiled(t, worker, "theirs", "t", "b")
    look = ["/bin/sh", "-c", "echo $(ls -A /work) $(cat /work/same 2>/dev/null); echo changed > /work/same; echo more > /work/more"]
    want = {mine: "mine same m", theirs: "same theirs t", None: ""}
    for i, layer in enumerate((mine, theirs, None, theirs, mine, None, mine, mine)):
        for disk in (64 << 20, 2):  # too small for a delivery: stamped
            limits = {"disk_bytes": max(disk, 1 << 20)}
            result = worker.do({"id": f"look-{i}-{disk}", "argv": look, "layers": [layer] if layer else [], "limits": limits})
            t.equal(result["stdout"]["data"].strip(), want[layer], result)


def test_ids_cannot_be_guessed(t):
    """What jobs made is named with the store's secret: who knows the content does not know the name, nor does another store.
    Control: hash_salt() with zeroes for the salt: the same layer id in two stores. What meets a taken id: unit/layers_blob."""
    again = os.path.join(t.tmp, "again")
    script = "echo content > out"
    body = {"argv": ["/bin/sh", "-c", script], "collect": ["/work/out"], "commit": "/work"}
    first, second = t.petri.job(body), t.petri.job(body, state=again)
    mine, other = first.result, second.result
    t.check(mine["layer"] and other["layer"], (first, second))
    t.check(mine["layer"] != other["layer"], "the same layer id in two stores")
    t.check(mine["files"]["/work/out"]["blob"] != other["files"]["/work/out"]["blob"], "the same blob id in two stores")
    honest = t.petri.call("blob", "put", t.write("out", "content\n")).out.strip()
    t.check(honest != mine["files"]["/work/out"]["blob"], "a job's blob has the id of an upload")
    for field, wish in (("layers[0]", {"layers": [other["layer"]]}), ("stdin", {"stdin": {"blob": other["files"]["/work/out"]["blob"]}}),
                        ("files", {"files": {"/work/x": {"blob": other["files"]["/work/out"]["blob"]}}})):
        run = t.petri.job({"argv": ["/bin/true"], **wish})
        t.check((run.result["status"], run.result["reason"]) == ("rejected", "missing") and run.result["field"].startswith(field), run)


if __name__ == "__main__":
    main(globals())
