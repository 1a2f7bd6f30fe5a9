#!/usr/bin/python3
"""Runs the tests of a build in the VM: suite.py BUILD JUNIT --only REGEX | --without REGEX.

ctest knows the tests and their properties; this runs them, since under emulation most of a short test's time is
python's start (1.5 s): a case of an integration test is forked from this process, which has the test's file loaded.
Everything else is what ctest does: labels, SKIP_RETURN_CODE, RUN_SERIAL, output of what failed, a report in JUnit's format.
Exit: 0 when all passed or were skipped.
"""
import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

HERE = os.path.dirname(os.path.abspath(__file__))
INTEGRATION = os.path.join(os.path.dirname(HERE), "integration")
sys.path.insert(0, INTEGRATION)
sys.dont_write_bytecode = True

import lib  # noqa: E402
import lib_leaks  # noqa: E402

TIMEOUT_S = 600
AT_ONCE = 2  # of the tests that may run beside others
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


class Test:
    """One of ctest's tests, and how it ended: "run", "fail" or "notrun"."""

    def __init__(self, entry):
        properties = {p["name"]: p["value"] for p in entry.get("properties", [])}
        self.name, self.command = entry["name"], entry.get("command")
        self.labels = properties.get("LABELS", [])
        self.serial = bool(properties.get("RUN_SERIAL"))
        self.directory = properties.get("WORKING_DIRECTORY", "/")
        self.skip_code = int(properties.get("SKIP_RETURN_CODE", -1))
        self.environment = dict(x.split("=", 1) for x in properties.get("ENVIRONMENT", []))
        self.status, self.seconds, self.why, self.said = None, 0.0, "", ""
        self.pid, self.began, self.file = None, 0.0, None

    def case(self):
        """(file, function) of an integration test's case; None for another program."""
        words = self.command
        if len(words) == 4 and words[1] == "-B" and os.path.dirname(words[2]) == INTEGRATION:
            return words[2], words[3]
        return None

    def start(self, modules):
        self.file = tempfile.TemporaryFile()
        self.began = time.monotonic()
        case = self.case()
        module = modules.load(case[0]) if case else None
        self.pid = os.fork()
        if self.pid:
            return
        code = 127
        try:
            os.setsid()
            os.dup2(self.file.fileno(), 1)
            os.dup2(self.file.fileno(), 2)
            os.environ.update(self.environment)
            os.chdir(self.directory)
            if module:
                code = lib.run_case(getattr(module, case[1]))
            else:
                os.execvp(self.command[0], self.command)
        except BaseException as e:  # whatever it is, it must not go on in this copy of the runner
            os.write(2, f"{type(e).__name__}: {e}\n".encode())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def overdue(self):
        return time.monotonic() - self.began > TIMEOUT_S

    def stop(self):
        self.why = f"no end after {TIMEOUT_S} s"
        for pid in [*lib_leaks.descendants(self.pid), self.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def ended(self, status):
        code = os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - self.began
        self.file.seek(0)
        self.said = self.file.read().decode("utf-8", "replace")
        self.file.close()
        if self.why or code not in (0, self.skip_code):
            self.status = "fail"
            self.why = self.why or (f"signal {-code}" if code < 0 else f"code {code}")
        else:
            self.status = "run" if code == 0 else "notrun"


class Modules:
    """The integration tests' files, each loaded once."""

    def __init__(self):
        self.loaded = {}

    def load(self, path):
        if path not in self.loaded:
            spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self.loaded[path] = module
        return self.loaded[path]


class Runner:
    def __init__(self, tests):
        self.tests, self.done, self.running = tests, 0, {}
        self.modules = Modules()

    def report(self, test):
        self.done += 1
        word = {"run": "passed", "fail": "FAILED", "notrun": "skipped"}[test.status]
        print(f"{self.done:4}/{len(self.tests)} {test.name} {'.' * max(2, 60 - len(test.name))} {word} "
              f"{test.seconds:6.1f} s", flush=True)
        if test.status == "fail":
            print(f"{test.why}\n{test.said}", flush=True)

    def collect(self):
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            for test in self.running.values():
                if not test.why and test.overdue():
                    test.stop()
            time.sleep(0.01)
            return
        test = self.running.pop(pid, None)
        if test:
            test.ended(status)
            self.report(test)

    def run(self):
        """Those that may run beside others first, then the rest alone."""
        for at_once, tests in ((AT_ONCE, [t for t in self.tests if not t.serial]), (1, [t for t in self.tests if t.serial])):
            for test in tests:
                while len(self.running) >= at_once:
                    self.collect()
                test.start(self.modules)
                self.running[test.pid] = test
            while self.running:
                self.collect()


def find_tests(build, listed):
    if listed:
        with open(listed, encoding="utf-8") as f:
            entries = json.load(f)["tests"]
    else:
        done = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], stdout=subprocess.PIPE, check=True)
        entries = json.loads(done.stdout)["tests"]
    tests = [Test(entry) for entry in entries]
    unbuilt = [t.name for t in tests if not t.command]
    if unbuilt:
        raise SystemExit(f"suite: not built: {', '.join(unbuilt)}")
    return [t for t in tests if "lint" not in t.labels]


def write_junit(tests, path):
    suite = ET.Element("testsuite", name="vm", tests=str(len(tests)))
    for test in tests:
        case = ET.SubElement(suite, "testcase", name=test.name, classname=test.name, time=f"{test.seconds:.3f}",
                             status=test.status)
        if test.status == "notrun":
            ET.SubElement(case, "skipped", message="SKIP_RETURN_CODE")
        elif test.status == "fail":
            ET.SubElement(case, "failure", message=test.why)
        ET.SubElement(case, "system-out").text = NOT_XML.sub("?", test.said)
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def main():
    parser = argparse.ArgumentParser(prog="suite.py")
    parser.add_argument("build")
    parser.add_argument("junit")
    parser.add_argument("--list", default="", help="what ctest said of the tests, for a machine without it")
    parser.add_argument("--only", default="", help="tests whose name matches")
    parser.add_argument("--without", default="(?!)", help="no tests whose name matches")
    options = parser.parse_args()
    tests = [t for t in find_tests(options.build, options.list) if re.search(options.only, t.name)
             and not re.search(options.without, t.name)]
    if not tests:
        raise SystemExit("suite: no test matches")
    runner = Runner(tests)
    runner.run()
    write_junit(tests, options.junit)
    return 1 if any(t.status == "fail" for t in tests) else 0


if __name__ == "__main__":
    sys.exit(main())
