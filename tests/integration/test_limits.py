"""Every limit: hit, reported with the right status, within its bound; and what usage says is true."""
import base64
import json
import os

from lib import SCALE, main
from lib_programs import cpu_ms, ended, exited, program

MIB = 1 << 20
# A limit is acted on within 10 ms (design, "Command line"). One run of several must show it, since other programs of
# the machine may delay any single one; none may be later than this.
PROMPT_MS, LATE_MS = 10 * SCALE, 250 * SCALE


def wall_ms(run):
    return run.result["usage"]["wall_us"] / 1000


def prompt(t, measure, limit_ms, tries=5):
    """measure() returns (ms, run): never less than the limit, never much more, and once within the promise."""
    seen = []
    for _ in range(tries):
        ms, run = measure()
        seen.append(round(ms, 1))
        # The deadline is the worker's clock, the figure init's and the kernel's: a hair of difference is no failure.
        t.check(limit_ms - 1 <= ms <= limit_ms + LATE_MS, f"{seen} ms with a limit of {limit_ms}\n{run}")
        if ms <= limit_ms + PROMPT_MS:
            return
    t.check(False, f"never within {PROMPT_MS} ms of the limit of {limit_ms}: {seen}")


# ---- time ----

def test_wall(t):
    def measure():
        run = t.petri.run("--wall", "200ms", "--", "/bin/sleep", "30")
        ended(t, run, "wall_limit")
        return wall_ms(run), run
    prompt(t, measure, 200)


def test_wall_of_a_busy_job(t):
    run = t.petri.run(*program(t, "burn"), "--wall", "200ms", "--", "/work/burn")
    ended(t, run, "wall_limit")
    t.check(wall_ms(run) <= 200 + LATE_MS, run)


SHM = """
#include <string.h>
#include <sys/shm.h>
int main(void)
{
	void *p = shmat(shmget(IPC_PRIVATE, 22 << 20, 0600), 0, 0);
	return p == (void *)-1 || !memset(p, 1, 22 << 20);
}"""


def test_memory_of_the_last_job(t):
    """The kernel frees System V memory some time after its namespace: it counts neither as the next job's nor against its limit.

    Negative control: without is_charged(), 109 of 150 jobs ended with memory_limit, their peaks at the limit."""
    worker = t.worker(slots=1)
    blob = t.petri.call("blob", "put", t.compile(SHM, "shm")).out.strip()
    for i in range(15):
        worker.submit({"id": f"s{i}", "argv": ["/work/shm"], "files": {"/work/shm": {"blob": blob, "mode": "0755"}}, "limits": {"memory_bytes": 24 * MIB}})
        worker.submit({"id": f"n{i}", "argv": ["/bin/sh", "-c", "head -c 4M /dev/zero > /dev/shm/x"], "limits": {"memory_bytes": 24 * MIB}})
    for i in range(15):
        filled, after = worker.result(f"s{i}"), worker.result(f"n{i}")
        t.equal((filled["status"], filled["exit_code"]), ("exited", 0), filled)
        t.equal((after["status"], after["exit_code"]), ("exited", 0), after)
        t.check(after["usage"]["memory_peak_bytes"] < 12 * MIB, after)


def test_wall_after_a_slow_launch(t):
    """Files that take longer to unpack than the limit do not lend the job the ten seconds that a launch may take.

    Negative control: with the timer set to those ten seconds while the program has not begun, the job exited after its 3 s."""
    file = base64.b64encode(os.urandom(4 << 20)).decode()
    run = t.petri.job({"argv": ["/bin/sleep", "3"], "files": {"/work/big": {"base64": file}}, "limits": {"wall_ms": 1}})
    ended(t, run, "wall_limit")
    t.check(run.result["timing"]["exec_us"] > 1000, "the launch was quick: this test shows nothing")
    t.check(wall_ms(run) < 1000, run)


def test_wall_is_not_hit_early(t):
    exited(t, t.petri.run("--wall", f"{int(2000 * SCALE)}ms", "--", "/bin/sleep", "0.3"))


def test_cpu(t):
    burn = program(t, "burn")

    def measure():
        run = t.petri.run(*burn, "--cpu", "300ms", "--", "/work/burn")
        ended(t, run, "cpu_limit")
        return cpu_ms(run), run
    prompt(t, measure, 300)


def test_cpu_of_threads(t):
    burn, cpus = program(t, "burn"), min(os.cpu_count(), 4)

    def measure():
        run = t.petri.run(*burn, "--cpu", "300ms", "--cpus", cpus, "--", "/work/burn", 4, 0)
        ended(t, run, "cpu_limit")
        return (cpu_ms(run) - 300) / cpus + 300, run  # all of them run on until they are killed
    prompt(t, measure, 300)


def test_cpu_of_children(t):
    """Time of children counts, also of those that nobody waits for."""
    run = t.petri.sh("for i in 1 2 3; do /work/burn 1 0 & done; exec sleep 30", *program(t, "burn"), "--cpu", "300ms")
    ended(t, run, "cpu_limit")
    t.check(300 <= cpu_ms(run) + 1 <= 300 + LATE_MS, run)


def test_cpu_is_not_hit_early(t):
    exited(t, t.petri.run(*program(t, "burn"), "--cpu", "1s", "--", "/work/burn", 1, 700))


def test_sleep_costs_no_cpu(t):
    exited(t, t.petri.run("--cpu", f"{int(200 * SCALE)}ms", "--", "/bin/sleep", "0.5"))


def test_cpus(t):
    run = t.petri.run(*program(t, "burn"), "--cpus", "0.2", "--wall", "1s", "--cpu", "20s", "--", "/work/burn", 2, 0)
    ended(t, run, "wall_limit")
    # A fifth of a second, and at most one period's quota over at either end; where others want the CPUs too, it may get less, and be
    # held back for less long.
    t.check(20 <= cpu_ms(run) <= 260 + 20 * SCALE, run)
    t.check(run.result["usage"]["throttled_us"] > 0, run)


def test_cpus_default_is_one(t):
    if os.cpu_count() < 2:
        t.skip("a second CPU")
    run = t.petri.run(*program(t, "burn"), "--wall", "600ms", "--cpu", "20s", "--", "/work/burn", 4, 0)
    ended(t, run, "wall_limit")
    t.check(cpu_ms(run) <= 750 + 20 * SCALE, run)


def test_cpus_two(t):
    """As many CPUs as there are need no quota, so nothing is ever throttled."""
    if os.cpu_count() < 2:
        t.skip("a second CPU")
    run = t.petri.run(*program(t, "burn"), "--cpus", os.cpu_count(), "--wall", "400ms", "--cpu", "20s", "--", "/work/burn",
                      os.cpu_count() + 1, 0)
    ended(t, run, "wall_limit")
    t.equal(run.result["usage"]["throttled_us"], 0, run)


def test_cpuset(t):
    show = "grep Cpus_allowed_list /proc/self/status"
    last = os.cpu_count() - 1
    run = t.petri.sh(show, "--cpuset", last)
    t.equal(run.out.split(), ["Cpus_allowed_list:", str(last)], run)
    t.rejected(t.petri.sh(show, "--cpuset", f"0-{last + 4000}"), "limits.cpuset")


def test_cpuset_ends_with_the_job(t):
    if os.cpu_count() < 2:
        t.skip("a second CPU")
    worker = t.worker(slots=1)
    show = {"argv": ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"]}
    one = worker.do({"id": "one", "limits": {"cpuset": "1"}, **show})
    t.equal(one["stdout"]["data"].split()[1], "1", one)
    after = worker.do({"id": "after", **show})
    t.check(after["stdout"]["data"].split()[1] not in ("0", "1"), after)


def test_pin(t):
    """Slots are pinned to CPUs that petri may use. With any of the machine's in pinned_to(): "got '0', wanted '1'"."""
    mine = os.sched_getaffinity(0)
    if 1 not in mine:
        t.skip("a second CPU")
    t.defer(lambda: os.sched_setaffinity(0, mine))
    os.sched_setaffinity(0, {1})
    worker = t.worker("--pin", slots=1)
    result = worker.do({"argv": ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"]})
    t.equal(result["stdout"]["data"].split()[1], "1", result)


# ---- memory ----

def test_memory(t):
    eat = program(t, "eat")
    for how in ("", "shm", "memfd"):
        run = t.petri.run(*eat, "--memory", "48M", "--", "/work/eat", 100, how)
        ended(t, run, "memory_limit")
        t.check(run.result["usage"]["oom_kills"] >= 1, run)
        t.check(run.result["usage"]["memory_peak_bytes"] <= 49 * MIB, run)
        exited(t, t.petri.run(*eat, "--memory", "48M", "--", "/work/eat", 30, how))


def test_memory_of_python(t):
    code = "x = bytearray(200 << 20); print(len(x))"
    ended(t, t.petri.run("--memory", "64M", "--", "/usr/bin/python3", "-c", code), "memory_limit")
    run = t.petri.run("--memory", "300M", "--", "/usr/bin/python3", "-c", code)
    exited(t, run)
    t.equal(run.out, "209715200\n", run)


def test_memory_of_a_child(t):
    """The parent survives its child's OOM kill and says that all is well; the verdict does not believe it."""
    run = t.petri.run(*program(t, "eat"), "--memory", "48M", "--", "/work/eat", 100, "child")
    ended(t, run, "memory_limit")
    t.check(run.result["usage"]["oom_kills"] >= 1, run)


def test_memory_of_many(t):
    """Together they pass the limit, none does so alone."""
    code = ("import os, time\nfor i in range(4):\n  if os.fork() == 0:\n    x = bytearray(20 << 20); time.sleep(30)\n"
            "time.sleep(30)")
    ended(t, t.petri.run("--memory", "48M", "--", "/usr/bin/python3", "-c", code), "memory_limit")


def test_memory_of_shm_files(t):
    run = t.petri.sh("head -c 100M /dev/zero > /dev/shm/x; echo survived", "--memory", "48M")
    ended(t, run, "memory_limit")


def test_memory_is_prompt(t):
    """The whole leaf dies, not only the process that was caught."""
    run = t.petri.sh("sleep 30 & /work/eat 100; echo on; wait", *program(t, "eat"), "--memory", "48M", "--wall", "20s")
    ended(t, run, "memory_limit")
    t.check(run.seconds < 5 * SCALE, run)


def test_memory_least(t):
    """The least that is accepted gives a verdict about the job, not an error."""
    run = t.petri.run("--memory", "1M", "--", "/bin/true")
    t.check(run.status in ("exited", "memory_limit"), run)


# ---- processes ----

def test_pids(t):
    """N tasks: the program itself and N - 1 more; init is not counted."""
    forks = program(t, "forks")
    for how in ("", "thread"):
        run = t.petri.run(*forks, "--pids", 8, "--", "/work/forks", 1000, how)
        t.equal(run.out, "7\n", run)
        exited(t, run, 1)
        t.check(run.result["usage"]["pids_limit_hits"] > 0, run)
        run = t.petri.run(*forks, "--pids", 8, "--", "/work/forks", 7, how)
        exited(t, run)
        t.equal(run.result["usage"]["pids_limit_hits"], 0, run)


def test_pids_one(t):
    run = t.petri.sh("echo alone; /bin/true", "--pids", 1)
    t.check(run.out == "alone\n" and run.code != 0, run)
    t.check(run.result["usage"]["pids_limit_hits"] > 0, run)


def test_fork_bomb(t):
    bomb = program(t, "bomb")
    for flags in (("--wall", "400ms", "--cpu", "20s"), ("--wall", "20s", "--cpu", "400ms", "--pids", 40)):
        run = t.petri.run(*bomb, *flags, "--", "/work/bomb", timeout=60)
        ended(t, run, "wall_limit" if "400ms" == flags[1] else "cpu_limit")
        t.check(run.result["usage"]["pids_limit_hits"] > 0, run)
        t.check(run.seconds < 5 * SCALE, run)


def test_fork_bomb_of_the_shell(t):
    run = t.petri.sh("b() { b | b & }; b; exec sleep 30", "--wall", "500ms")
    t.check(run.status in ("wall_limit", "cpu_limit"), run)


# ---- disk ----

def test_disk_bytes(t):
    for where in ("/work", "/tmp", "/var/tmp"):
        run = t.petri.sh(f"head -c 20M /dev/zero > {where}/x", "--disk", "8M")
        ended(t, run, "disk_limit")
        t.contains(run.err, "No space left", run)
        t.check(7 * MIB <= run.result["usage"]["disk_bytes"] <= 8 * MIB, run)
    exited(t, t.petri.sh("head -c 7M /dev/zero > /work/x", "--disk", "8M"))


def test_disk_is_one_limit(t):
    """/work and /tmp share it."""
    run = t.petri.sh("head -c 5M /dev/zero > /work/x && head -c 5M /dev/zero > /tmp/x", "--disk", "8M")
    ended(t, run, "disk_limit")


def test_disk_full_but_content(t):
    """A program that hit the limit and succeeded all the same has exited; one that made room again, too."""
    exited(t, t.petri.sh("head -c 20M /dev/zero > /work/x; exit 0", "--disk", "8M"))
    exited(t, t.petri.sh("head -c 20M /dev/zero > /work/x; rm /work/x; exit 3", "--disk", "8M"), 3)


def test_disk_holes(t):
    """Neither a deleted file that is still open nor a sparse one passes by the limit."""
    run = t.petri.sh("exec 3>/work/x; rm /work/x; head -c 20M /dev/zero >&3", "--disk", "8M")
    exited(t, run, 1)  # when it ended there was room again
    t.contains(run.err, "No space left", run)
    run = t.petri.sh("truncate -s 1G /work/x && head -c 20M /dev/zero | dd of=/work/x conv=notrunc bs=64k", "--disk",
                     "8M")
    ended(t, run, "disk_limit")


def test_disk_inodes(t):
    run = t.petri.sh("i=0; while true > /work/f$i; do i=$((i + 1)); done; echo $i; exit 1", "--inodes", 100, "--cpu",
                     "10s")
    ended(t, run, "disk_limit")
    t.check(70 <= int(run.out) <= 100, run)
    run = t.petri.sh("i=0; while mkdir /tmp/d$i; do i=$((i + 1)); done; exit 1", "--inodes", 100, "--cpu", "10s")
    ended(t, run, "disk_limit")


# ---- output ----

def test_output(t):
    for fd, name in ((1, "stdout"), (2, "stderr")):
        run = t.petri.sh(f"head -c 70000 /dev/zero >&{fd}", "--output", 70000)
        exited(t, run)
        t.equal(len(run.result[name]["data"] if "data" in run.result[name] else run.result[name]["base64"]) > 70000,
                True)
        t.equal(run.result[name]["truncated"], False, name)
        run = t.petri.sh(f"head -c 70001 /dev/zero >&{fd}; sleep 10", "--output", 70000)
        ended(t, run, "output_limit")
        t.equal(run.result[name]["truncated"], True, name)
        t.equal(run.result["stdout" if fd == 2 else "stderr"]["truncated"], False, name)
        t.check(run.seconds < 5 * SCALE, f"{run.seconds} s")


def test_output_is_kept_up_to_the_cap(t):
    run = t.petri.sh("printf 0123456789; printf x; sleep 10", "--output", 10)
    ended(t, run, "output_limit")
    t.equal(run.out, "0123456789", run)
    t.equal(run.result["stdout"], {"data": "0123456789", "truncated": True}, run)


def test_output_is_per_stream(t):
    run = t.petri.sh("printf 0123456789; printf 0123456789 >&2", "--output", 10)
    exited(t, run)


def test_output_none(t):
    exited(t, t.petri.run("--output", 0, "--", "/bin/true"))
    ended(t, t.petri.run("--output", 0, "--", "/bin/echo"), "output_limit")


def test_output_flood(t):
    run = t.petri.run("--output", "1M", "--", "/usr/bin/yes")
    ended(t, run, "output_limit")
    t.equal(len(run.stdout), MIB, f"{len(run.stdout)} bytes")


# ---- rlimits ----

def test_open_files(t):
    code = ("import os, resource\nn = 0\ntry:\n  while True:\n    os.dup(0); n += 1\nexcept OSError as e:\n"
            "  print(n, e.errno, resource.getrlimit(resource.RLIMIT_NOFILE))\n")
    run = t.petri.run("--open-files", 20, "--", "/usr/bin/python3", "-c", code)
    t.equal(run.out, "17 24 (20, 20)\n", run)


def test_stack(t):
    recurse = program(t, "recurse")
    run = t.petri.run(*recurse, "--stack", "1M", "--", "/work/recurse", 8)
    t.equal((run.status, run.code, run.result["signal"]), ("signaled", 128 + 11, 11), run)
    exited(t, t.petri.run(*recurse, "--stack", "64M", "--", "/work/recurse", 48))


def test_no_core_file(t):
    run = t.petri.sh("ulimit -c unlimited 2>/dev/null; sh -c 'kill -SEGV $$'; ls -A /work")
    t.equal(run.out, "", run)
    run = t.petri.run("--", "/usr/bin/python3", "-c",
                      "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))")
    t.equal(run.out, "(1, 1)\n", run)


# ---- I/O ----

def test_io(t):
    """Enforced where doctor says so, refused by name elsewhere."""
    doctor = t.petri.call("doctor", "--json")
    enforced = json.loads(doctor.stdout)["limits"]["io"]["enforced"]
    for name in ("rbps", "wbps", "riops", "wiops"):
        run = t.petri.run("--io", f"{name}=1000000", "--", "/bin/true")
        if enforced:
            t.check(run.status == "exited" or (run.status, run.result["field"], run.result["reason"]) ==
                    ("rejected", f"limits.io.{name}", "unsupported"), run)
        else:
            t.rejected(run, f"limits.io.{name}", "unsupported")


def test_allowed_unenforced(t):
    """What cannot be enforced here is left out and named, but only what the operator allows; what can be is enforced all the same."""
    args = ("--io", "rbps=1000000", "--io", "wiops=100", "--", "/bin/true")
    refused = t.petri.run(*args)
    both = t.petri.run("--allow-unenforced", "cpus,io.rbps,io.wiops", *args)
    if refused.status == "exited":
        t.equal((both.status, both.result["unenforced"]), ("exited", []), both)
        return
    t.equal(refused.result["reason"], "unsupported", refused)
    named = both.result["unenforced"]
    t.check(both.status == "exited" and refused.result["field"] == "limits." + named[0] and set(named) <= {"io.rbps", "io.wiops"}, both)
    other = t.petri.run("--allow-unenforced", ",".join(["io.riops"] + named[1:]), *args)
    t.equal((other.status, other.result["field"], other.result["unenforced"]), ("rejected", "limits." + named[0], []), other)
    wrong = t.petri.call("run", "--allow-unenforced", "io.rbps,pids", "--", "/bin/true")
    t.check(wrong.code == 125 and "'pids' is none of" in wrong.err, wrong)


def test_io_reads_are_slowed(t):
    source = next((p for p in ("/usr/bin/python3.11", "/usr/bin/perl", "/usr/bin/bash") if os.path.exists(p)), "")
    if not source or os.path.getsize(source) < MIB:
        t.skip("a program of a MiB or more to read")
    read = f"dd if={source} of=/dev/null iflag=direct bs=64k count=16"
    free = t.petri.sh(read)
    if free.code != 0:
        t.skip("direct reads of /usr")
    slow = t.petri.sh(read, "--io", "rbps=1M", "--wall", "20s")
    if slow.status == "rejected":
        t.equal(slow.result["reason"], "unsupported", slow)
        t.skip("a driver of io limits")
    exited(t, slow)
    t.check(wall_ms(slow) > 700, f"{free}\n{slow}")
    t.check(slow.result["usage"]["io_read_bytes"] >= MIB, slow)


# ---- those that are hard to end ----

def test_stubborn(t):
    stubborn = program(t, "stubborn")
    for flags, status in ((("--wall", "300ms"), "wall_limit"), (("--cpu", "50ms", "--wall", "20s"), "cpu_limit")):
        run = t.petri.run(*stubborn, "--cpus", "0.1", *flags, "--", "/work/stubborn", "stay")
        ended(t, run, status)
        t.check(wall_ms(run) < 1000 * SCALE + 300 and run.seconds < 1.0 * SCALE + 1.3, run)


def test_daemons_end_with_the_job(t):
    """The first process decides: what it leaves behind is killed, and its exit code stands."""
    run = t.petri.run(*program(t, "stubborn"), "--cpus", "0.1", "--wall", "20s", "--cpu", "20s", "--", "/work/stubborn",
                      "leave")
    exited(t, run)
    t.check(wall_ms(run) < 1000 * SCALE and run.seconds < 2 * SCALE, run)


def test_stopped_job(t):
    run = t.petri.sh("kill -STOP $$", "--wall", "300ms")
    ended(t, run, "wall_limit")
    t.check(wall_ms(run) < 300 + LATE_MS, run)


def test_orphans_keep_the_streams(t):
    """A child that holds stdout does not hold up the result."""
    run = t.petri.sh("sleep 30 & echo done", "--wall", "20s")
    exited(t, run)
    t.equal(run.out, "done\n", run)
    t.check(run.seconds < 3 * SCALE, run)


# ---- usage ----

def test_usage_cpu(t):
    burn = program(t, "burn")
    for threads, ms in ((1, 500), (2, 300)):
        run = t.petri.run(*burn, "--", "/work/burn", threads, ms)
        exited(t, run)
        t.check(0.95 * threads * ms - 5 <= cpu_ms(run) <= 1.2 * threads * ms + 20 * SCALE, run)
        t.check(wall_ms(run) >= 0.85 * threads * ms, run)  # one CPU is the default, after a first period's burst


def test_usage_memory(t):
    run = t.petri.run(*program(t, "eat"), "--", "/work/eat", 60)
    exited(t, run)
    t.check(60 * MIB <= run.result["usage"]["memory_peak_bytes"] <= 68 * MIB, run)


def test_usage_wall(t):
    run = t.petri.run("--", "/bin/sleep", "0.4")
    t.check(400 <= wall_ms(run) <= 460 + 100 * SCALE, run)
    t.check(cpu_ms(run) < 100 * SCALE, run)


def test_usage_disk(t):
    run = t.petri.sh("head -c 8M /dev/zero > /work/x; head -c 1M /dev/zero > /tmp/y")
    t.check(9 * MIB <= run.result["usage"]["disk_bytes"] <= 10 * MIB, run)
    t.check(t.petri.run("--", "/bin/true").result["usage"]["disk_bytes"] < 256 << 10)


def test_usage_pids(t):
    run = t.petri.run(*program(t, "forks"), "--", "/work/forks", 5)
    exited(t, run)
    t.equal(run.result["usage"]["pids_peak"], 6, run)


def test_usage_starts_at_zero(t):
    """What one job used is not the next one's, in the same slot."""
    worker = t.worker(slots=1)
    heavy = worker.do({"id": "heavy", "argv": ["/usr/bin/python3", "-c", "x = bytearray(100 << 20)\ntry:\n  import os\n"
                       "  for i in range(100): os.fork() or os.pause()\nexcept Exception: pass\n"
                       "open('/work/x', 'wb').write(b'x' * (4 << 20))"], "limits": {"pids": 5, "cpus": 0.5}})
    t.check(heavy["usage"]["memory_peak_bytes"] > 100 * MIB and heavy["usage"]["pids_limit_hits"] > 0, heavy)
    killed = worker.do({"id": "killed", "argv": ["/usr/bin/python3", "-c", "x = bytearray(100 << 20)"],
                        "limits": {"memory_bytes": 32 * MIB}})
    t.equal(killed["status"], "memory_limit", killed)
    light = worker.do({"id": "light", "argv": ["/bin/true"]})
    t.equal(light["status"], "exited", light)
    for name in ("pids_limit_hits", "oom_kills", "throttled_us"):
        t.equal(light["usage"][name], 0, light)
    t.equal(light["usage"]["pids_peak"], 1, light)
    t.check(light["usage"]["memory_peak_bytes"] < 8 * MIB and light["usage"]["disk_bytes"] < MIB, light)
    t.check(light["usage"]["cpu_user_us"] + light["usage"]["cpu_system_us"] < 50000 * SCALE, light)


def test_limits_do_not_outlive_the_job(t):
    """A tight job, then one with the defaults in the same slot, which must have them."""
    worker = t.worker(slots=1)
    tight = {"memory_bytes": 16 * MIB, "pids": 2, "cpus": 0.1, "disk_bytes": MIB, "disk_inodes": 50, "open_files": 10}
    t.equal(worker.do({"id": "tight", "argv": ["/bin/true"], "limits": tight})["status"], "exited")
    roomy = worker.do({"id": "roomy",
                       "argv": ["/bin/sh", "-c", "head -c 20M /dev/zero > /work/x && ulimit -n && nproc & "
                       "for i in 1 2 3 4 5 6; do sleep 0.1 & done; wait"]})
    t.equal((roomy["status"], roomy["exit_code"]), ("exited", 0), roomy)
    t.check(roomy["stdout"]["data"].startswith("256\n"), roomy)
    t.equal(roomy["usage"]["pids_limit_hits"], 0, roomy)


if __name__ == "__main__":
    main(globals())
