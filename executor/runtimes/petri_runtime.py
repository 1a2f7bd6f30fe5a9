# petri's runtime for Python (docs/runtimes.md): started with -c in a waiting sandbox, imports ahead, then becomes the program of
# one job. It must look as if `python3 …` had been started just then: what it cannot do exactly so it declines ("N").
def _petri():
    import sys
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    at_start = set(sys.modules)
    import binascii, bisect, collections, copy, datetime, functools, gc, heapq, io, itertools, json, math, operator, os, random
    import re, runpy, stat, string, time, typing
    ahead = set(sys.modules) - at_start
    del globals()["_petri"]

    def write_file(path, mode, data):
        try:
            os.unlink(path)
        except IsADirectoryError:
            os.rmdir(path)
        except OSError:
            pass
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            fd = os.open(path, flags, 0o600)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
        os.fchmod(fd, mode & 0o777)
        os.close(fd)

    def set_env(env):
        # Put there by the interpreter itself at its start (PEP 538), and so it would be for the job.
        coerced = os.environ.get("LC_CTYPE") if "LC_CTYPE" not in env else None
        os.environ.clear()
        os.environ.update(env)
        if coerced is not None:
            os.environ["LC_CTYPE"] = coerced

    def forget_shadowed(directory):
        # A file of the job's that has the name of something imported ahead would have been found first.
        names = {name.partition(".")[0] for name in ahead}
        if any(entry.partition(".")[0] in names for entry in os.listdir(directory or ".")):
            for name in ahead:
                sys.modules.pop(name, None)

    def script(path):
        if not stat.S_ISREG(os.stat(path).st_mode) or path.endswith(".pyc"):
            raise ValueError("not plain source")
        with open(path, "rb", buffering=0) as f:
            data = f.read()
        data.decode()
        if b"\0" in data or sys.path_importer_cache.get(path):
            raise ValueError("not plain source")
        whole = path if path.startswith("/") else os.getcwd() + "/" + path
        forget_shadowed(os.path.dirname(os.path.realpath(path)))
        sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
        names = sys.modules["__main__"].__dict__
        loader = sys.modules["_frozen_importlib_external"].SourceFileLoader
        names.update(__file__=whole, __cached__=None, __loader__=loader("__main__", whole))
        return functools.partial(_petri_compile, data, whole, names)

    def _petri_compile(source, name, names):
        return functools.partial(exec, compile(source, name, "exec", dont_inherit=True), names)

    def command(argv):
        if argv[1] == "-c":
            if sys.version_info >= (3, 13):
                raise ValueError("tracebacks show the source of -c there")
            forget_shadowed("")
            sys.path.insert(0, "")
            sys.argv[:] = ["-c", *argv[3:]]
            return functools.partial(_petri_compile, argv[2] + "\n", "<string>", sys.modules["__main__"].__dict__)
        if argv[1] == "-m":
            forget_shadowed("")
            sys.path.insert(0, os.getcwd())
            sys.argv[:] = ["-m", *argv[3:]]
            return lambda: functools.partial(runpy._run_module_as_main, argv[2])
        sys.argv[:] = argv[1:]
        return script(argv[1])

    def take():
        parts = []
        while True:
            part = os.read(4, 1 << 20)
            if not part:
                break
            parts.append(part)
        os.close(4)
        job = json.loads(b"".join(parts))
        argv = job["argv"]
        if "/" in argv[0] and argv[0] != sys.executable:
            raise ValueError("another interpreter")
        for file in job["files"]:
            write_file(file["path"], file["mode"], binascii.a2b_base64(file["data"]))
        os.chdir(job["cwd"])
        set_env(job["env"])
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[:] = argv
        return command(argv)

    gc.collect()
    os.write(3, b"R")
    try:
        prepared = take()
    except BaseException:
        os.write(3, b"N")
        os._exit(0)
    os.close(3)
    return prepared


# One frame beneath the program's own, which no traceback of an uncaught exception shows.
try:
    _petri()()()
except SystemExit:
    raise
except BaseException:
    __import__("sys").excepthook = (lambda hook: lambda kind, value, tb: (lambda rest: hook(kind, value.with_traceback(rest), rest))(
        tb.tb_next.tb_next if tb.tb_next and tb.tb_next.tb_frame.f_code.co_name == "_petri_compile" else tb.tb_next))(
        __import__("sys").excepthook)
    raise
