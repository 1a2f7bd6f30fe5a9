"""`petri run` does the simplest things right."""
from lib import main


def test_echo(t):
    run = t.petri.run("--", "/bin/echo", "hi")
    t.equal(run.out, "hi\n", run)
    t.equal(run.code, 0, run)
    t.equal(run.status, "exited", run)
    t.equal(run.result["exit_code"], 0, run)
    t.equal(run.result["signal"], None, run)


def test_exit_code(t):
    for code in (0, 1, 3, 255):
        run = t.petri.sh(f"exit {code}")
        t.equal(run.code, code, run)
        t.equal(run.result["exit_code"], code, run)


def test_signal(t):
    run = t.petri.sh("kill -TERM $$")
    t.equal(run.code, 128 + 15, run)
    t.equal(run.status, "signaled", run)
    t.equal(run.result["signal"], 15, run)
    t.equal(run.result["exit_code"], None, run)


def test_status_line(t):
    run = t.petri.sh("echo out; echo err >&2")
    t.equal(run.out, "out\n", run)
    t.check(run.err.startswith("err\n"), run)
    lines = [x for x in run.err.splitlines() if x.startswith("petri: ")]
    t.equal(len(lines), 1, run)
    t.check(lines[0].startswith("petri: status=exited"), run)


def test_stdin(t):
    text = "".join(f"line {i}\n" for i in range(20000))
    run = t.petri.run("--", "/bin/cat", stdin=text)
    t.equal(run.code, 0, run)
    t.check(run.out == text, f"{len(run.out)} characters came back of {len(text)}")


def test_stdin_empty(t):
    run = t.petri.run("--", "/usr/bin/wc", "-c")
    t.equal(run.out.strip(), "0", run)


def test_stdin_file(t):
    run = t.petri.run("--stdin", t.write("input", "from a file\n"), "--", "/bin/cat", stdin="not this\n")
    t.equal(run.out, "from a file\n", run)


def test_arguments_and_environment(t):
    run = t.petri.run("--env", "A=one two", "--", "/bin/sh", "-c", 'printf "%s|" "$A" "$@"', "sh", "", "a b", "*")
    t.equal(run.out, "one two||a b|*|", run)


def test_work_is_writable(t):
    run = t.petri.sh("pwd && echo x > /work/file && cat /work/file && ls -A /work && "
                     "stat -c %u:%a /work | grep -q ^$(id -u): && echo mine")
    t.equal(run.out, "/work\nx\nfile\nmine\n", run)
    t.equal(run.code, 0, run)


def test_work_is_fresh(t):
    t.equal(t.petri.sh("echo secret > /work/left; echo secret > /tmp/left").code, 0)
    run = t.petri.sh("ls -A /work /tmp /dev/shm")
    t.check("left" not in run.out, run)


def test_root_is_read_only(t):
    run = t.petri.sh("for d in / /usr /usr/bin /etc; do touch $d/petri-was-here 2>/dev/null && echo $d; done; true")
    t.equal(run.out, "", run)


def test_not_root_inside(t):
    run = t.petri.sh("id -u; id -g; id -G; grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs)' /proc/self/status")
    lines = run.out.splitlines()
    t.check(int(lines[0]) != 0 and int(lines[1]) != 0 and "0" not in lines[2].split(), run)
    facts = dict(x.split(":\t") for x in lines[3:])
    t.equal(facts, {"CapPrm": "0" * 16, "CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1"}, run)


def test_file_in(t):
    source = t.write("hello.sh", "#!/bin/sh\necho hello from $0\n", 0o755)
    run = t.petri.run("--file", f"/work/hello.sh={source}", "--", "/work/hello.sh")
    t.equal(run.out, "hello from /work/hello.sh\n", run)


def test_usage_is_reported(t):
    run = t.petri.sh("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
    usage = run.result["usage"]
    t.check(usage["wall_us"] > 0 and usage["cpu_user_us"] + usage["cpu_system_us"] > 0, run)
    t.check(usage["memory_peak_bytes"] > 0 and usage["oom_kills"] == 0, run)


def test_unknown_policy(t):
    t.rejected(t.petri.run("--policy", "no-such-policy", "--", "/bin/true"), "policy")


def test_unknown_image(t):
    t.rejected(t.petri.run("--image", "no-such-image", "--", "/bin/true"), "image", "missing")


def test_program_not_found(t):
    run = t.petri.run("--", "/no/such/program")
    t.equal(run.code, 127, run)
    t.equal(run.status, "exec_failed", run)


def test_program_not_executable(t):
    run = t.petri.run("--file", f"/work/plain={t.write('plain', 'text')}", "--", "/work/plain")
    t.equal(run.code, 126, run)
    t.equal(run.status, "exec_failed", run)


def test_worker_runs_a_job(t):
    worker = t.worker()
    result = worker.do({"id": "smoke", "argv": ["/bin/cat"], "stdin": {"data": "1 2\n"}, "meta": {"n": 1}})
    t.equal(result["status"], "exited", result)
    t.equal(result["stdout"], {"data": "1 2\n", "truncated": False}, result)
    t.equal((result["id"], result["meta"]), ("smoke", {"n": 1}), result)
    t.equal(worker.stop(), 0, worker.log)


if __name__ == "__main__":
    main(globals())
