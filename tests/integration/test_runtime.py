"""Warm runtimes: an interpreter that waits in its slot, and jobs that cannot tell (docs/runtimes.md)."""
import json
import os
import time

from lib import main

WARM = "import sys; print('petri' in open('/proc/self/cmdline').read())\n"
LIMITS = {"wall_ms": 20000, "cpu_ms": 10000}
STUB = """
import json, os, sys
%s
os.write(3, b"R")
data = b""
while part := os.read(4, 65536):
    data += part
job = json.loads(data)
%s
"""


def runtime_worker(t, runtime="python3", image="host", slots=1, **kwargs):
    run = t.petri.call("image", "runtime", image, runtime)
    t.equal(run.code, 0, run)
    return t.worker(slots=slots, **kwargs)


def job(*argv, files=None, **more):
    body = {"argv": list(argv), "limits": dict(LIMITS), **more}
    body["limits"].update(more.get("limits", {}))
    if files:
        body["files"] = {path: {"data": text} for path, text in files.items()}
    return body


def script(source, *args, files=None, **more):
    return job("python3", "main.py", *args, files={"/work/main.py": source, **(files or {})}, **more)


def out(result):
    return result["stdout"].get("data", "")


def err(result):
    return result["stderr"].get("data", "")


def settle(w):
    """Until the slots wait again: a job that comes at once is served cold, which is not what is tested here."""
    time.sleep(0.4 * float(os.environ.get("PETRI_TEST_SCALE") or 1))
    return w


def until_warm(t, w):
    """What came before ran cold, so its slot is ready for more of the kind: one job teaches it otherwise."""
    t.eventually(lambda: out(settle(w).do(script(WARM))) == "True\n", "a warm job", 10)
    return w


def both(t, w, body):
    """The same job warm and cold (a stack limit of its own asks for that): no difference."""
    until_warm(t, w)
    first = settle(w).do(body)
    other = json.loads(json.dumps(body))
    other["limits"]["stack_bytes"] = (64 << 20) + 4096
    second = settle(w).do(other)
    for key in ("status", "exit_code", "signal", "stdout", "stderr"):
        t.equal(first.get(key), second.get(key), (first, second))
    return first


def test_hello_is_warm(t):
    w = settle(runtime_worker(t))
    for _ in range(3):
        r = w.do(script(WARM))
        t.equal((r["status"], r["exit_code"], out(r)), ("exited", 0, "True\n"), r)
        settle(w)
    t.equal(out(w.do(script(WARM, limits={"open_files": 200}))), "False\n")
    t.equal(out(w.do(script(WARM, env=["PYTHONHASHSEED=0"]))), "False\n")
    t.equal(out(w.do(script(WARM, policy="default"))), "False\n")
    t.equal(out(w.do(job("/bin/echo", "hi"))), "hi\n")
    r = w.do(script(WARM))
    t.equal(r["status"], "exited", r)


def test_a_program_sees_what_it_would(t):
    w = runtime_worker(t)
    r = both(t, w, script("""'''doc'''
import sys, os, signal
print(sys.argv, sys.path, sys.orig_argv, sys.executable, sys.flags, __file__, __name__, __doc__, __loader__.name, __spec__)
print(sorted(globals()), __package__, os.getcwd(), list(os.environ.items()), sorted(os.listdir("/proc/self/fd")))
print(sys.stdin.encoding, sys.stdout.line_buffering, sys.stdout.encoding, sys.excepthook is sys.__excepthook__)
print(signal.getsignal(signal.SIGINT), sys.getrecursionlimit(), os.umask(0), len(os.listdir("/proc/self/task")))
print(os.stat("data").st_mode, os.stat("/work/deep/er").st_mode, os.listdir("/work/deep/er"), sys.stdin.read())
""", "a", "b c", "\u00e9", files={"/work/data": "x", "/work/deep/er/file": "y"}, env=["K=v=w", "U=\u00fc"], stdin={"data": "in\nput"}))
    t.equal(r["exit_code"], 0, r)


def test_code_and_module(t):
    w = runtime_worker(t)
    r = both(t, w, job("python3", "-c", "import sys; print(sys.argv, sys.path, sorted(globals()), __name__)", "x"))
    t.equal(r["exit_code"], 0, r)
    r = both(t, w, job("python3", "-m", "mod", "x", files={"/work/mod.py": "import sys; print(sys.argv, sys.path, __spec__.name)"}))
    t.contains(out(r), "/work/mod.py")
    r = both(t, w, job("python3", "-m", "nothing"))
    t.equal(r["exit_code"], 1, r)
    both(t, w, job("python3", "../tmp/x.py", cwd="/work/sub", files={"/work/tmp/x.py": "print(__file__)", "/work/sub/y": ""}))


def test_ends(t):
    w = runtime_worker(t)
    for source in ("def f(): raise ValueError('x')\nf()\n", "x = \n", "import sys; sys.exit(7)", "import sys; sys.exit('why')",
                   "import os, signal; os.kill(os.getpid(), signal.SIGINT)", "import os; os.abort()", "raise KeyboardInterrupt",
                   "try:\n 1/0\nexcept Exception as e:\n raise KeyError from e\n", "print('no newline', end='')", "import gone\n",
                   "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
                   "class A:\n def __del__(self): print('gone')\na = A()",
                   "class A:\n def __del__(self): print('gone', B)\na = A(); B = 5; import sys; sys.exit(2)",
                   "class A:\n def __del__(self): print('gone', B)\na = A(); B = 5; 1 / 0", "f = open('/dev/stdout', 'w'); f.write('kept')",
                   "def g():\n try: yield\n finally: print('finally')\nx = g(); next(x)", "import sys; sys.exit(-1)", "raise SystemExit",
                   "import os\nif os.fork() == 0: print('child')\nelse: os.wait(); print('parent')", "import sys; sys.exit(1 << 40)",
                   "import atexit; atexit.register(print, 'bye'); import os; print('x'); os.close(1)"):
        both(t, w, script(source))
    r = both(t, w, script("import json, random; print(json.X)", files={"/work/json.py": "X = 5", "/work/random.py": ""}))
    t.equal(out(r), "5\n", r)


def test_what_it_declines_runs_cold(t):
    w = runtime_worker(t)
    both(t, w, job("python3", "gone.py"))
    both(t, w, job("python3", "/work"))
    both(t, w, script("import sys; print(sys.stdin.read())", files={"/etc/not/there": "x"}, stdin={"data": "twice?"}))
    both(t, w, script("print(1)", cwd="/work/gone"))
    both(t, w, job("/usr/bin/python3", "main.py", files={"/work/main.py": "# coding: latin-1\nprint('ok')"}))


def test_limits(t):
    w = runtime_worker(t)
    cases = (("while True: pass", {"cpu_ms": 200}, "cpu_limit"), ("import time; time.sleep(60)", {"wall_ms": 300}, "wall_limit"),
             ("x = 'a' * (1 << 30)", {}, "memory_limit"), ("while True: print('x' * 1000)", {}, "output_limit"),
             ("x = bytearray(60 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1", {"memory_bytes": 48 << 20}, "memory_limit"))
    for source, limits, status in cases:
        settle(w)
        r = w.do(script("print(end='', flush=True)\n" + source, limits=limits))
        t.equal(r["status"], status, r)
    r = settle(w).do(script("import time; time.sleep(0.3)"))
    t.check(0.29 < r["usage"]["wall_us"] / 1e6 < 5, r)
    settle(w)
    r = w.do(script(WARM + "import subprocess; subprocess.run(['/bin/true'])", limits={"pids": 1}))
    t.equal((out(r), r["exit_code"]), ("True\n", 1), r)


def test_violation(t):
    w = settle(runtime_worker(t))
    r = w.do(script(WARM + "import sys; sys.stdout.flush()\nimport ctypes; ctypes.CDLL(None).unshare(0x10000000)", policy="judge"))
    t.equal((r["status"], out(r)), ("violation", "True\n"), r)


def test_large_and_many_files(t):
    w = settle(runtime_worker(t))
    files = {f"/work/d{i % 7}/f{i}": "\u00e4" * 20000 for i in range(20)}
    source = WARM + "import glob; print(sum(len(open(f).read()) for f in glob.glob('/work/d*/f*')))"
    r = w.do(script(source, files=files))
    t.equal(out(r), "True\n400000\n", r)
    files["/work/more"] = "x" * 300000
    r = settle(w).do(script(source, files=files))
    t.equal(out(r), "False\n400000\n", r)


def test_nothing_is_left_for_the_next_job(t):
    w = settle(runtime_worker(t))
    first = w.do(script(WARM + """
import os, random, sys
print(hash("x"), random.random(), id(object()), open("/proc/self/stat").read().split()[27])
open("/tmp/left", "w").write("x"); open("/work/left", "w").write("x"); open("/dev/shm/left", "w").write("x")
sys.modules["json"].left = 1
if os.fork() == 0:
    import time; os.setsid(); time.sleep(30)
"""))
    second = settle(w).do(script(WARM + """
import os, random
print(hash("x"), random.random(), id(object()), open("/proc/self/stat").read().split()[27])
import json
assert not hasattr(json, "left")
assert not [p for p in ("/tmp/left", "/work/left", "/dev/shm/left") if os.path.exists(p)]
assert [p for p in os.listdir("/proc") if p.isdigit()] == ["1", "2"], os.listdir("/proc")
"""))
    t.equal((first["exit_code"], second["exit_code"]), (0, 0), (first, second))
    a, b = out(first).split(), out(second).split()
    t.equal((a[0], b[0]), ("True", "True"))
    with open("/proc/sys/kernel/randomize_va_space", encoding="ascii") as f:
        differ = 5 if f.read().strip() != "0" else 3  # the last two are addresses
    t.check(all(x != y for x, y in zip(a[1:differ], b[1:differ])), (a, b))


def custom(t, before="", after="", serves=("python3",), python="/usr/bin/python3"):
    return t.write("runtime.json", json.dumps({"argv": [python, "-c", STUB % (before, after)], "serves": serves}))


def test_custom_runtime(t):
    after = "print(job['argv'], job['env'].get('K'), job['cwd'], job['files'][0]['path'], sys.stdin.read(), flush=True); os._exit(5)"
    w = settle(runtime_worker(t, custom(t, after=after, serves=["my-language"])))
    r = w.do(job("my-language", "x", files={"/work/f": "x"}, env=["K=v"], stdin={"data": "s"}))
    t.equal((r["exit_code"], out(r)), (5, "['my-language', 'x'] v /work /work/f s\n"), r)
    r = settle(w).do(script(WARM))
    t.equal(out(r), "False\n", r)


def falls_back(t, why, **how):
    w = runtime_worker(t, custom(t, **how), slots=2)
    t.eventually(lambda: why in w.log, f"the log says {why!r}", 15)
    for _ in range(3):
        r = w.do(script(WARM))
        t.equal((r["status"], out(r)), ("exited", "False\n"), r)
    t.equal(w.log.count("runtime failed"), 1, w.log)


def test_runtime_that_is_never_ready(t):
    falls_back(t, "was not ready in time", before="import time; time.sleep(100)")


def test_runtime_that_ends(t):
    falls_back(t, "runtime failed", before="sys.exit(3)")


def test_runtime_that_talks(t):
    falls_back(t, "stdout or stderr", before="print('hello', flush=True); import time; time.sleep(100)")


def test_runtime_that_is_forbidden_something(t):
    falls_back(t, "policy forbids", before="import ctypes; ctypes.CDLL(None).unshare(0x10000000)")


def test_runtime_that_says_something_else(t):
    falls_back(t, "did not say", before="os.write(3, b'RRRR')")


def test_runtime_that_is_not_there(t):
    falls_back(t, "runtime failed", python="/no/python")


def test_job_that_waits_for_a_runtime_that_hangs(t):
    w = runtime_worker(t, custom(t, before="import time; time.sleep(100)"))
    r = w.do(script(WARM))
    t.equal((r["status"], out(r)), ("exited", "False\n"), r)


def test_runtime_that_declines_late_is_not_believed(t):
    after = "print('said', flush=True); import time; time.sleep(0.3); os.write(3, b'N'); os._exit(4)"
    w = settle(runtime_worker(t, custom(t, after=after)))
    r = w.do(script("print('never')"))
    t.equal((r["exit_code"], out(r)), (4, "said\n"), r)


def test_runtime_that_declines(t):
    w = settle(runtime_worker(t, custom(t, after="sys.stdin.read(1); os.write(3, b'N'); os._exit(4)")))
    for _ in range(2):
        r = settle(w).do(script(WARM + "print(sys.stdin.read())", stdin={"data": "whole"}))
        t.equal((r["status"], r["exit_code"], out(r)), ("exited", 0, "False\nwhole\n"), r)
    t.check("runtime failed" not in w.log, w.log)


def test_runtime_that_never_reads_its_job(t):
    stub = "import os, time; os.write(3, b'R'); time.sleep(100)"
    path = t.write("runtime.json", json.dumps({"argv": ["/usr/bin/python3", "-c", stub], "serves": ["python3"]}))
    w = settle(runtime_worker(t, path))
    r = w.do(script("#" * 900000, limits={"wall_ms": 500}))
    t.equal(r["status"], "wall_limit", r)


def test_killed_worker_leaves_nothing(t):
    w = settle(runtime_worker(t, slots=3))
    w.submit(script("import time; time.sleep(20)"))
    time.sleep(0.3)
    w.kill()
    w.process.wait(10)


def test_image_runtime_words(t):
    run = t.petri.call("image", "runtime", "host", "python3")
    t.equal(run.code, 0, run)
    t.equal(json.loads(t.petri.call("image", "inspect", "host").out)["runtime"], "python3")
    own = {"argv": ["/bin/x", "-y"], "serves": ["x"]}
    t.equal(t.petri.call("image", "runtime", "host", t.write("own.json", json.dumps(own))).code, 0)
    t.equal(json.loads(t.petri.call("image", "inspect", "host").out)["runtime"], own)
    for text, said in (("{}", "runtime.argv is missing"), ('{"argv": ["x"]}', "runtime.serves is missing"), ("[", "line 1"), ("[1]", "must be an object"),
                       ('{"argv": ["x"], "serves": [1]}', "runtime.serves[0]"), ('{"argv": [], "serves": ["x"]}', "runtime.argv"),
                       ('{"argv": ["x"], "serves": ["x"], "env": {}}', "runtime.env is not known")):
        run = t.petri.call("image", "runtime", "host", t.write("bad.json", text))
        t.equal(run.code, 1, run)
        t.contains(run.err, said)
    t.contains(t.petri.call("image", "runtime", "host", "perl").err, "neither python3, node or none")
    t.contains(t.petri.call("image", "runtime", "nosuch", "python3").err, "there is no image nosuch")
    t.equal(json.loads(t.petri.call("image", "inspect", "host").out)["runtime"], own)
    # The layer of `host` is made anew, compared with the one that is there, and the setting stays. With a child that wants rights which the
    # supervisor has not: "got 125", "confine the child: Operation not permitted".
    path = os.path.join(t.state, "images", "host.json")
    with open(path, encoding="utf-8") as f:
        image = json.load(f)
    image["stamp"] = "old"
    os.chmod(path, 0o644)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(image, f)
    t.equal(t.petri.run("--", "/bin/true").code, 0)
    with open(path, encoding="utf-8") as f:
        image = json.load(f)
    t.check(image["stamp"] != "old" and image["runtime"] == own, image)
    t.equal(t.petri.call("image", "runtime", "host", "none").code, 0)
    t.equal(json.loads(t.petri.call("image", "inspect", "host").out)["runtime"], None)


def node_worker(t):
    if not os.access("/usr/bin/node", os.X_OK):
        t.skip("/usr/bin/node")
    w = settle(settle(runtime_worker(t, "node")))
    return settle(w)


def node_script(source, *args, **more):
    return job("node", "main.js", *args, files={"/work/main.js": source}, limits={"memory_bytes": 512 << 20}, **more)


def test_node(t):
    w = node_worker(t)
    source = """
console.log(require("fs").readFileSync("/proc/self/cmdline", "utf8").includes("petri"));
console.log(process.argv, process.execArgv, require.main === module, __filename, typeof globalThis.require, process.env, process.cwd());
console.log(process.argv0, require("fs").readFileSync(0, "utf8"));
setTimeout(() => process.exit(3), 1);
"""
    warm = w.do(node_script(source, "a", env=["K=v"], stdin={"data": "in"}))
    cold = node_script(source, "a", env=["K=v"], stdin={"data": "in"})
    cold["limits"]["stack_bytes"] = (64 << 20) + 4096
    cold = settle(w).do(cold)
    t.equal((warm["exit_code"], cold["exit_code"]), (3, 3), (warm, cold))
    t.equal(out(warm).partition("\n")[0], "true", warm)
    t.equal(out(warm).partition("\n")[2], out(cold).partition("\n")[2])


def test_node_ends(t):
    w = node_worker(t)
    for source, code, said in (("throw new Error('why')", 1, "Error: why"), ("x = (", 1, "SyntaxError"), ("process.exitCode = 4", 4, ""),
                               ("require('./gone')", 1, "Cannot find module")):
        r = w.do(node_script(source))
        t.equal((r["status"], r["exit_code"]), ("exited", code), r)
        t.contains(err(r), said)
        settle(w)
    r = w.do(job("node", "-e", "console.log(process.argv.length, require('path').sep)", "x", limits={"memory_bytes": 512 << 20}))
    t.equal(out(r), "2 /\n", r)


if __name__ == "__main__":
    main(globals())
