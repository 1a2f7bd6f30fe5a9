"""What is wrong with a job is refused by the field's name, with exit 125 and a sentence that a stranger understands."""
import os
import subprocess
import time

from lib import main

TRUE = {"argv": ["/bin/true"]}
ID = "xxh128:00112233445566778899aabbccddeeff"


def understood(t, text):
    """Words, not numbers or jargon: what petri says to whoever made the mistake."""
    t.check(len(text.split()) >= 2 and len(text) < 400, text)
    for jargon in ("errno", "Error 0", "Success", "(null)", "-22", "assert"):
        t.check(jargon not in text, text)


def refused(t, job, field, reason=None, says=()):
    run = t.petri.job(job)
    t.rejected(run, field, reason)
    understood(t, run.result["message"])
    for word in [says] if isinstance(says, str) else says:
        t.contains(run.result["message"], word, run)
    t.equal(run.out, "", run)
    t.equal((run.result["exit_code"], run.result["signal"], run.result["violation"]), (None, None, None), run)
    t.contains(run.status_line, f"field={field}", run)
    return run


def flags_refused(t, *args, says=()):
    """A flag that makes no sense: said on stderr, by name, before anything is started."""
    run = t.petri.run(*args)
    t.equal(run.code, 125, run)
    understood(t, run.err)
    for word in [says] if isinstance(says, str) else says:
        t.contains(run.err, word, run)
    t.check(run.status in ("", "rejected"), run)
    return run


# ---- the document ----

def test_not_json(t):
    for text in ("", "{", "[]", "null", '"job"', "{'argv': ['/bin/true']}", '{"argv": ["/bin/true"],}', "\x00", "{}{}",
                 "\ufeff{}",
                 '{"argv": ["/bin/true"]} trailing'):
        refused(t, text, "", "invalid")
    refused(t, b'{"argv": ["\xff\xfe"]}', "", "invalid")


def test_rejected_says_one_line(t):
    for _ in range(5):
        run = refused(t, {"limit": {}}, "limit", "invalid")
        t.equal(len(run.err.splitlines()), 1, run)


def test_repeated_field(t):
    refused(t, '{"argv": ["/bin/true"], "policy": "default", "policy": "judge"}', "", "invalid", "policy")


def test_deep_and_large(t):
    t.check(t.petri.job("[" * 100000 + "]" * 100000).status == "rejected")
    deep = '{"meta": ' + '{"a":' * 3000 + "1" + "}" * 3000 + ', "argv": ["/bin/true"]}'
    t.check(t.petri.job(deep).status in ("rejected", "exited"))
    refused(t, '{"argv": ["/bin/true"], "meta": "' + "x" * (8 << 20) + '"}', "", "too_large")
    refused(t, {**TRUE, "meta": "x" * 5000}, "meta", "too_large")


def test_unknown_fields(t):
    refused(t, {**TRUE, "limit": {}}, "limit", "invalid")
    refused(t, {**TRUE, "limits": {"memory": 1 << 30}}, "limits.memory", "invalid")
    refused(t, {**TRUE, "limits": {"io": {"bps": 1}}}, "limits.io.bps", "invalid")
    refused(t, {**TRUE, "stdin": {"text": "x"}}, "stdin", "invalid")
    refused(t, {**TRUE, "files": {"/work/a": {"data": "x", "owner": "root"}}}, "files./work/a.owner", "invalid")
    refused(t, {**TRUE, "collect": [{"path": "/work/a", "max": 1}]}, "collect[0].max", "invalid")
    refused(t, {**TRUE, "ARGV": []}, "ARGV", "invalid")


def test_wrong_types(t):
    for field, value in (("argv", "/bin/true"), ("env", {"A": "B"}), ("cwd", 1), ("image", 7),
                         ("limits", []), ("files", []),
                         ("stdin", "text"), ("collect", "/work/a"), ("policy", True), ("id", 5), ("layers", ID),
                         ("not_after_ms", "soon"),
                         ("network", 1), ("worker", []), ("tenant", {}), ("reply", 1), ("commit", ["/work"]),
                         ("priority", 1)):
        refused(t, {**TRUE, field: value}, field, "invalid")
    refused(t, {"argv": ["/bin/true", 1]}, "argv[1]", "invalid")
    refused(t, {"argv": ["/bin/true", None]}, "argv[1]", "invalid")


# ---- limits ----

def test_limits_too_little(t):
    for name, value in (("wall_ms", 0), ("wall_ms", -1), ("cpu_ms", -5), ("memory_bytes", -1), ("memory_bytes", 0),
                        ("memory_bytes", 1000),
                        ("pids", 0), ("pids", -1), ("cpus", 0), ("cpus", -1.5), ("disk_bytes", -1), ("disk_inodes", 0),
                        ("output_bytes", -1),
                        ("open_files", 0), ("stack_bytes", 1), ("wall_ms", 1.5), ("pids", "8"), ("pids", True),
                        ("swap_bytes", -1)):
        refused(t, {**TRUE, "limits": {name: value}}, f"limits.{name}", "invalid")


def test_limits_too_much(t):
    for name, value in (("wall_ms", 10**13), ("cpu_ms", 2**63 - 1), ("memory_bytes", 2**62), ("pids", 10**9),
                        ("cpus", 1e6),
                        ("disk_bytes", 2**60), ("open_files", 10**8), ("output_bytes", 2**40), ("stack_bytes", 2**50),
                        ("memory_bytes", 2**64),
                        ("wall_ms", 10**30), ("cpus", 1e300)):
        refused(t, {**TRUE, "limits": {name: value}}, f"limits.{name}", "too_large")


def test_limits_of_this_machine(t):
    refused(t, {**TRUE, "limits": {"cpuset": "4000"}}, "limits.cpuset", "invalid")
    for text in ("", "x", "1-", "-1", "3-1", "0,,1", "0 1", "0x1"):
        run = t.petri.job({**TRUE, "limits": {"cpuset": text}})
        t.check(run.status == "rejected" and run.result["field"] == "limits.cpuset" or text == "", run)


def test_limit_that_nothing_enforces(t):
    """Never run without it: the refusal says what the machine would need."""
    doctor = t.petri.call("doctor", "--json")
    t.equal(doctor.code, 0, doctor)
    asked = {"io": {"rbps": 1 << 20, "wbps": 1 << 20, "riops": 100, "wiops": 100}}
    run = t.petri.job({**TRUE, "limits": asked})
    if run.status == "exited":
        t.contains(doctor.out, "blkio" if '"cgroup": "hybrid"' in doctor.out else "io.max", doctor)
        t.equal(run.result["unenforced"], [], run)
        t.skip("a machine that cannot enforce an io limit")
    t.equal((run.code, run.result["reason"]), (125, "unsupported"), run)
    t.check(run.result["field"].startswith("limits.io."), run)
    t.contains(run.result["message"], "needs", run)


def test_limit_flags(t):
    for args, word in ((("--wall", "-1"), "--wall"), (("--wall", "ten"), "--wall"), (("--memory", "1E"), "--memory"),
                       (("--memory", "12Q"), "--memory"),
                       (("--cpus", "0"), "--cpus"), (("--pids", "1.5"), "--pids"), (("--memory", ""), "--memory"),
                       (("--cpu", "9999999d"), "--cpu"),
                       (("--io", "rbps"), "--io"), (("--io", "speed=1M"), "--io"), (("--cpuset", "a"), "--cpuset"),
                       (("--stack", "1"), "--stack")):
        flags_refused(t, *args, "--", "/bin/true", says=word)


# ---- names and paths ----

def test_missing_things(t):
    refused(t, {**TRUE, "image": "gcc:99"}, "image", "missing", "gcc:99")
    refused(t, {**TRUE, "policy": "lenient"}, "policy", "missing", "lenient")
    refused(t, {**TRUE, "layers": [ID]}, "layers[0]", "missing", ID)
    refused(t, {**TRUE, "stdin": {"blob": ID}}, "stdin", "missing", ID)
    refused(t, {**TRUE, "files": {"/work/a": {"blob": ID}}}, "files./work/a", "missing", ID)


def test_names_that_are_paths(t):
    for name in ("../../etc/passwd", "/etc/passwd", "..", "a/../../b", ""):
        for field in ("image", "policy"):
            run = t.petri.job({**TRUE, field: name})
            t.rejected(run, field)
    for bad in ("xxh128:", "xxh128:zz", "sha256:" + "0" * 64, "../../../etc/passwd", "xxh128:" + "0" * 31,
                "xxh128:" + "0" * 33, ""):
        refused(t, {**TRUE, "layers": [bad]}, "layers[0]", "invalid")
    refused(t, {**TRUE, "layers": [ID, ID]}, "layers[1]", "invalid")


def test_bad_paths(t):
    for path in ("relative", "/work/../etc/x", "..", "/..", "", "/work/a/../../b", "/" + "x" * 300,
                 "/" + "/".join("x" * 200 for _ in range(30))):
        t.rejected(t.petri.job({**TRUE, "cwd": path}), "cwd")
        t.rejected(t.petri.job({**TRUE, "collect": [path]}), "collect[0]")
        t.rejected(t.petri.job({**TRUE, "commit": path}), "commit")
        run = t.petri.job({**TRUE, "files": {path: {"data": ""}}})
        t.equal((run.status, run.code), ("rejected", 125), run)
        t.check(run.result["field"].startswith("files"), run)
    run = t.petri.run("--file", f"/work/../etc/x={t.write('x', 'x')}", "--", "/bin/true")
    t.equal((run.code, run.status), (125, "rejected"), run)


def test_nul(t):
    for job in ('{"argv": ["/bin/true\\u0000x"]}', '{"argv": ["/bin/true", "a\\u0000b"]}',
                '{"argv": ["/bin/true"], "env": ["A=\\u0000"]}',
                '{"argv": ["/bin/true"], "cwd": "/work\\u0000/x"}',
                '{"argv": ["/bin/true"], "files": {"/work/a\\u0000b": {"data": ""}}}',
                '{"argv": ["/bin/true"], "image": "host\\u0000x"}',
                '{"argv": ["/bin/true"], "collect": ["/work/\\u0000"]}',
                '{"id": "a\\u0000b", "argv": ["/bin/true"]}', '{"argv": ["/bin/true"], "policy": "judge\\u0000"}'):
        run = t.petri.job(job)
        t.equal((run.status, run.code, run.result["reason"]), ("rejected", 125, "invalid"), run)
    # As data it is only a byte.
    t.equal(t.petri.job('{"argv": ["/usr/bin/wc", "-c"], "stdin": {"data": "a\\u0000b"}}').out.strip(), "3")


def test_ids(t):
    for name in ("", "a b", "a/b", "x" * 129, "ü", "a\n"):
        refused(t, {**TRUE, "id": name}, "id", "invalid")
    t.equal(t.petri.job({**TRUE, "id": "A-z_0.9"}).result["id"], "A-z_0.9")


def test_files(t):
    big = 70 << 20
    refused(t, {**TRUE, "files": {"/work/a": {"data": "x" * 5000}}, "limits": {"disk_bytes": 4096}}, "files./work/a",
            "too_large")
    blob = t.petri.call("blob", "put", t.write("big", b"x" * big)).out.strip()
    refused(t, {**TRUE, "files": {"/work/a": {"blob": blob}}}, "files./work/a", "too_large")
    refused(t, {**TRUE, "files": {"/work/a": {"data": "x", "base64": "eA=="}}}, "files./work/a", "invalid")
    refused(t, {**TRUE, "files": {"/work/a": {}}}, "files./work/a", "invalid")
    refused(t, {**TRUE, "files": {"/work/a": {"base64": "****"}}}, "files./work/a.base64", "invalid")
    for mode in ("4755", "999", "rwx", 644, "", "07777"):
        refused(t, {**TRUE, "files": {"/work/a": {"data": "", "mode": mode}}}, "files./work/a.mode", "invalid")
    refused(t, {**TRUE, "files": {"/work/a": {"data": ""}, "/work/a/b": {"data": ""}}}, "files./work/a/b", "invalid")
    refused(t, {**TRUE, "files": {"/": {"data": ""}}}, "files./", "invalid")
    run = t.petri.run("--file", f"/work/a={t.path('big')}", "--", "/bin/true")
    t.rejected(run, "files./work/a", "too_large")


def test_files_together_too_big(t):
    """Each fits, all do not: found while they are written."""
    files = {f"/work/f{i}": {"data": "x" * 30000} for i in range(4)}
    refused(t, {**TRUE, "files": files, "limits": {"disk_bytes": 65536}}, "files", "too_large")


def test_files_in_places_of_the_image(t):
    """They are written with the job's own rights."""
    for path in ("/etc/passwd", "/usr/bin/env", "/newdir/file", "/proc/version", "/dev/null"):
        run = t.petri.job({**TRUE, "files": {path: {"data": "x"}}})
        t.check(run.status == "rejected" or path == "/dev/null", run)
        t.check(run.status != "internal_error", run)


def test_cwd(t):
    refused(t, {**TRUE, "cwd": "/no/such"}, "cwd", "missing", "/no/such")
    refused(t, {**TRUE, "cwd": "/etc/passwd"}, "cwd", "invalid")
    refused(t, {**TRUE, "cwd": "/root"}, "cwd", "invalid")
    t.equal(t.petri.run("--cwd", "/tmp/", "--", "/bin/pwd").out, "/tmp\n")


# ---- argv ----

def test_argv(t):
    refused(t, {"argv": []}, "argv", "invalid")
    refused(t, {"argv": [""]}, "argv[0]", "invalid")
    refused(t, {}, "argv", "invalid")  # and the image has no command of its own
    refused(t, {"argv": ["/bin/true", "x" * 140000]}, "argv", "too_large")
    refused(t, {"argv": ["/bin/true"] + ["x" * 1000] * 1100}, "argv", "too_large")
    refused(t, {"argv": ["/bin/true"], "env": [f"A{i}=" + "x" * 1000 for i in range(1100)]}, "env", "too_large")
    refused(t, {**TRUE, "env": ["NOVALUE"]}, "env[0]", "invalid")
    refused(t, {**TRUE, "env": ["A=1", "=x"]}, "env[1]", "invalid")
    run = t.petri.run("--")
    t.equal((run.code, run.status), (125, "rejected"), run)


def test_argv_at_its_most(t):
    """A megabyte of arguments works, in few strings or many."""
    for argv in (["/bin/sh", "-c", "echo $#", "sh"] + ["x" * 1000] * 1000,
                 ["/bin/sh", "-c", "echo $#", "sh"] + ["y"] * 60000,
                 ["/bin/sh", "-c", "echo $#", "sh", "x" * 131000]):
        run = t.petri.job({"argv": argv})
        t.equal((run.status, run.out), ("exited", f"{len(argv) - 4}\n"), run.result["message"])


def test_too_many_strings(t):
    run = t.petri.job({"argv": ["/bin/true"] + ["x"] * 200000})
    t.equal((run.status, run.code, run.result["field"], run.result["reason"]), ("rejected", 125, "argv", "too_large"),
            run.result["message"])
    understood(t, run.result["message"])


# ---- programs ----

def test_programs_that_do_not_start(t):
    cases = (("/no/such", 127), ("/etc/passwd/x", 127), ("no-such-program", 127), ("/work", 126), ("/etc/passwd", 126),
             ("/work/plain", 126),
             ("/work/script", 127), ("/work/garbage", 126))
    plain, script = t.write("plain", "text"), t.write("script", "#!/no/such/interpreter\n", 0o755)
    garbage = t.write("garbage", b"\x7fELF" + b"\xff" * 100, 0o755)
    for program, code in cases:
        run = t.petri.run("--file", f"/work/plain={plain}", "--file", f"/work/script={script}", "--file",
                          f"/work/garbage={garbage}", "--", program)
        t.equal((run.code, run.status), (code, "exec_failed"), run)
        t.contains(run.result["message"], program, run)
        understood(t, run.result["message"])
        t.equal((run.result["exit_code"], run.result["signal"], run.out), (None, None, ""), run)


def test_path_lookup(t):
    t.equal(t.petri.run("--", "true").code, 0)
    mine = t.write("mine", "#!/bin/sh\necho mine\n", 0o755)
    run = t.petri.run("--env", "PATH=/nowhere:/work/bin:/usr/bin", "--file", f"/work/bin/mine={mine}", "--", "mine")
    t.equal(run.out, "mine\n", run)
    t.equal(t.petri.run("--env", "PATH=/nowhere", "--", "true").code, 127)


# ---- the command line ----

def test_unknown_words(t):
    flags_refused(t, "--no-such-flag", "--", "/bin/true", says="--no-such-flag")
    flags_refused(t, "--network", "host", "--", "/bin/true", says="network")
    flags_refused(t, "--file", "nonsense", "--", "/bin/true", says="--file")
    flags_refused(t, "--file", "/work/x=/no/such/file", "--", "/bin/true", says="/no/such/file")
    flags_refused(t, "--stdin", "/no/such/file", "--", "/bin/true", says="/no/such/file")
    flags_refused(t, "--layer", "nonsense", "--", "/bin/true", says="layer")
    flags_refused(t, "--job", "/no/such/job.json", says="/no/such/job.json")
    for words in ((), ("frobnicate",), ("image",), ("image", "frobnicate"), ("blob", "cat"), ("store",), ("submit",)):
        run = t.petri.call(*words)
        t.check(run.code not in (0, 1) or words == (), run)
        t.check("petri" in run.err + run.out, run)


def test_scratch_word(t):
    flags_refused(t, "--scratch", "floppy", "--", "/bin/true", says="--scratch")


def test_help(t):
    for words in (("--help",), *((verb, "--help") for verb in ("run", "worker", "submit", "status", "cancel", "image",
                                                               "blob", "store", "doctor"))):
        run = t.petri.call(*words)
        t.equal(run.code, 0, run)
        t.contains(run.out, "petri", run)


def test_redis_credentials_on_the_command_line(t):
    for url in ("redis://user:sesame@127.0.0.1:6379/0", "redis://:sesame@127.0.0.1/"):
        for words in (("worker", "--redis", url), ("status", "--redis", url, "x"), ("cancel", "--redis", url, "x")):
            run = t.petri.call(*words)
            t.check(run.code != 0, run)
            t.contains(run.err, "PETRI_REDIS", run)
            t.check("sesame" not in run.err + run.out, run)  # nor is it repeated into a log


def test_redis_urls(t):
    for url in ("http://127.0.0.1", "redis://", "unix:relative", "redis://127.0.0.1:99999/0",
                "redis://127.0.0.1:6379/x"):
        run = t.petri.call("worker", "--redis", url, timeout=10)
        t.equal(run.code, 125, run)
        t.contains(run.err, "--redis", run)


def test_worker_flags(t):
    for words, says in ((("--slots", "0"), "slots"), (("--slots", "many"), "slots"), (("--lease", "0"), "lease"),
                        (("--prefix", "a b"), "prefix"),
                        (("--name", "a b"), "name"), (("--config", "/no/such"), "/no/such"),
                        (("--nonsense",), "--nonsense")):
        run = t.petri.call("worker", "--redis", "unix:///no/such", *words, timeout=10)
        t.check(run.code != 0, run)
        t.contains(run.err, says, run)


# ---- the machine ----

def test_not_root(t):
    """A clear sentence, whatever the verb that needs root."""
    os.chmod(t.tmp, 0o777)
    for words in (("run", "--", "/bin/true"), ("worker",), ("doctor",)):
        done = subprocess.run([t.petri.binary, *words], env=t.petri.env(), cwd=t.tmp, stdin=subprocess.DEVNULL,
                              capture_output=True, user=65534,
                              group=65534, extra_groups=(), check=False, timeout=20 * t.scale)
        said = done.stderr.decode()
        t.check(done.returncode not in (0, None) and done.returncode > 0, done)
        t.contains(said, "root", said)
        t.contains(said, "sudo", said)


def test_state_that_is_no_directory(t):
    run = t.petri.run("--", "/bin/true", state=t.write("file", "x"))
    t.equal(run.code, 125, run)
    t.contains(run.err, t.path("file"), run)


def test_result_that_cannot_be_written(t):
    run = t.petri.call("run", "--result", "/no/such/dir/result", "--", "/bin/true")
    t.equal(run.code, 125, run)
    t.contains(run.err, "/no/such/dir/result", run)


def test_reader_that_goes_away(t):
    """petri run | head: the rest of the output is dropped, and petri ends."""
    job = subprocess.Popen([t.petri.binary, "run", "--output", "200M", "--cpu", "20s", "--", "/usr/bin/yes"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           stdin=subprocess.DEVNULL, env=t.petri.env())
    t.equal(job.stdout.read(2), b"y\n")
    job.stdout.close()
    start = time.monotonic()
    said = job.stderr.read().decode()
    t.check(job.wait() in (153, 124, 137) and time.monotonic() - start < 20 * t.scale, said)


if __name__ == "__main__":
    main(globals())
