# petri's runtime for Python (docs/runtimes.md): started with -c in a waiting sandbox, imports ahead, then becomes the program of
# one job. It must look as if `python3 …` had been started just then: what it cannot do exactly so it declines ("N").
def _petri():
    import sys
    if sys.path and sys.path[0] == "":
        del sys.path[0]
    at_start = set(sys.modules)
    import atexit, binascii, bisect, collections, datetime, functools, gc, heapq, itertools, json, math, operator, os, random, re
    import stat, time
    ahead = set(sys.modules) - at_start
    ahead_names = {name.partition(".")[0] for name in ahead}
    del sys.modules["__main__"].__dict__["_petri"]

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
        if "LC_CTYPE" in os.environ:
            env.setdefault("LC_CTYPE", os.environ["LC_CTYPE"])
        if list(os.environ.items()) != list(env.items()):
            os.environ.clear()
            os.environ.update(env)

    def forget_shadowed(directory):
        # A file of the job's that has the name of something imported ahead would have been found first.
        if not ahead_names.isdisjoint([entry.partition(".")[0] for entry in os.listdir(directory or ".")]):
            for name in ahead:
                sys.modules.pop(name, None)

    def read_source(path):
        if not stat.S_ISREG(os.stat(path).st_mode) or path.endswith(".pyc"):
            raise ValueError("not plain source")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        data = b"".join(iter(functools.partial(os.read, fd, 1 << 20), b""))
        os.close(fd)
        data.decode()
        if b"\0" in data:
            raise ValueError("not plain source")
        return data

    def script(path):
        data = read_source(path)
        here = os.getcwd()
        directory = here if "/" not in path and not os.path.islink(path) else os.path.dirname(os.path.realpath(path))
        forget_shadowed(directory)
        sys.path.insert(0, directory)
        whole = path if path.startswith("/") else here + "/" + path
        names = sys.modules["__main__"].__dict__
        loader = sys.modules["_frozen_importlib_external"].SourceFileLoader
        names.update(__file__=whole, __cached__=None, __loader__=loader("__main__", whole))
        return functools.partial(_petri_compile, data, whole, names)

    def _petri_compile(source, name, names):
        return functools.partial(exec, compile(source, name, "exec", dont_inherit=True), names)

    def unfinished():
        # What the interpreter's own end would still do something for that can be seen: __del__, open files, generators that wait
        # within a try, extensions whose objects write when they go.
        if any(hasattr(kind, "__del__") for kind in set(map(type, gc.get_objects()))):
            return True
        for name in set(sys.modules) - known:
            path = getattr(sys.modules[name], "__file__", None) or ""
            if name in ("_gdbm", "_dbm", "_sqlite3") or path.endswith(".so") and "/lib-dynload/" not in path:
                return True
        return False

    def end(status):
        # Freeing each object of a process that ends takes longer than most programs run. Return: it has to be done after all.
        try:
            if "threading" in sys.modules:
                sys.modules["threading"]._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            if not unfinished():
                os._exit(status)
        except BaseException:
            pass
        gc.unfreeze()

    def exits(code):
        if code is None or type(code) is int and abs(code) < 1 << 31:
            end((code or 0) & 255)
        gc.unfreeze()

    def fails():
        # No traceback shows the frames below the program's own.
        def show(kind, value, tb):
            sys.excepthook = hook
            rest = tb.tb_next
            if rest and rest.tb_frame.f_code.co_name == "_petri":
                rest = None
            hook(kind, value.with_traceback(rest), rest)

        gc.unfreeze()
        hook = sys.excepthook
        sys.excepthook = show

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
            import runpy
            return functools.partial(functools.partial, runpy._run_module_as_main, argv[2])
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
        if any("/.local/" in file["path"] for file in job["files"]):
            raise ValueError("looked for at the start, in the home directory")
        for file in job["files"]:
            write_file(file["path"], file["mode"], binascii.a2b_base64(file["data"]))
        os.chdir(job["cwd"])
        set_env(job["env"])
        if hasattr(sys, "orig_argv"):
            sys.orig_argv[:] = argv
        return command(argv)

    def rehearse():
        # What every job needs is touched once, so that its pages are there.
        text = "import os\nclass A:\n def f(self, *a, b=1):\n  try: return [str(x) + f'{x}' for x in a if x > b]\n  except ValueError: pass\n"
        names = {"__name__": "rehearsal"}
        exec(compile(text + "x = A().f(1, 2, 3.5)\nprint(end='')\n", "<rehearsal>", "exec", dont_inherit=True), names)
        exec(compile(text.encode(), "<rehearsal>", "exec", dont_inherit=True), names)
        job = json.loads(b'{"argv":["a"],"env":{"A":"\\u0020b"},"cwd":"/work","files":[{"mode":420,"data":"eA=="}]}')
        binascii.a2b_base64(job["files"][0]["data"])
        os.environ.update(os.environ.copy())
        read_source("/etc/passwd")
        os.path.islink("main.py")
        forget_shadowed("/")
        os.chdir(os.getcwd())
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()

    rehearse()
    known = set(sys.modules)
    gc.collect()
    gc.freeze()
    unfinished()
    os.write(3, b"R")
    try:
        prepared = take()
    except BaseException:
        os.write(3, b"N")
        os._exit(0)
    os.close(3)
    sys.modules["_frozen_importlib"]._petri = exits, fails
    return functools.partial.__call__, (prepared(), functools.partial(end, 0))


# Globals of its own: those of this module are to be the program's alone.
_petri = type(_petri)(_petri.__code__, {"__builtins__": __builtins__})
try:
    any(map(*_petri()))
except SystemExit:
    __import__("_frozen_importlib")._petri[0](__import__("sys").exc_info()[1].code)
    raise
except BaseException:
    __import__("_frozen_importlib")._petri[1]()
    raise
