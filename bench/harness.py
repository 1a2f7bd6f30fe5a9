"""Running petri-bench from here: one process at a time, with a deadline, and nothing left behind however it ends."""
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
END_PATIENCE_S = 30


class NotMeasured(Exception):
    """Why a figure is not there. It is shown in its place; the rest goes on."""


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def last_words(text, limit=300):
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-limit:] or "it said nothing"


class Harness:
    """The programs that are measured with, and a directory for all that is made. Use as a context."""

    def __init__(self, build):
        self.bench = os.path.join(build, "bench", "petri-bench")
        self.petri = os.path.join(build, "executor", "petri")
        self.true = os.path.join(build, "bench", "bench-true")
        self.build = build
        self.dir = None
        self.child = None
        self.undo = []  # what is to be called at the end, the last one first
        self.begun = time.monotonic()
        for program in (self.bench, self.petri, self.true):
            if not os.access(program, os.X_OK):
                raise SystemExit(f"bench: there is no {program}: build first")

    def __enter__(self):
        # In /var/tmp: petri's store wants a disk, and firejail shows it there. Traversable, for workers are unprivileged.
        self.dir = tempfile.mkdtemp(prefix="petri-bench-run-", dir="/var/tmp")
        os.chmod(self.dir, 0o711)
        for sig in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, self._on_signal)
        return self

    def __exit__(self, *exc):
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, signal.SIG_IGN)  # what follows is short, and must be whole
        self.end_child()
        for undo in reversed(self.undo):
            try:
                undo()
            except (OSError, subprocess.SubprocessError, NotMeasured) as e:
                print(f"bench: while cleaning up: {e}", file=sys.stderr)
        self.undo.clear()
        shutil.rmtree(self.dir, ignore_errors=True)

    @staticmethod
    def _on_signal(number, _frame):
        raise KeyboardInterrupt(number)

    def say(self, text):
        print(f"[{time.monotonic() - self.begun:4.0f} s] {text}", flush=True)

    def end_child(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(END_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.child = None

    def run(self, argv, timeout, env=None):
        """A command's stdout; NotMeasured when it fails or takes too long."""
        full = dict(os.environ, TMPDIR=self.dir, **(env or {}))
        try:
            # A session of its own: a terminal's Ctrl-C comes to this process alone, which then ends it.
            self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                          errors="replace", start_new_session=True, preexec_fn=die_with_parent, env=full)
        except OSError as e:
            raise NotMeasured(str(e)) from e
        try:
            out, err = self.child.communicate(timeout=timeout)
            code = self.child.returncode
        except subprocess.TimeoutExpired as e:
            self.end_child()
            raise NotMeasured(f"not finished after {timeout} s") from e
        finally:
            self.end_child()
        if code != 0:
            raise NotMeasured(last_words(err or out))
        return out

    def measure(self, verb, *options, timeout=180, around=()):
        """petri-bench VERB --json OPTIONS as an object, its own command line with it."""
        argv = [*around, self.bench, verb, "--json", *map(str, options)]
        out = self.run(argv, timeout)
        try:
            figures = json.loads(out)
        except ValueError as e:
            raise NotMeasured(f"{' '.join(argv)} printed no JSON: {last_words(out)}") from e
        figures["command"] = argv
        return figures
