#!/usr/bin/python3
"""--help, the manual pages and the completion of bash: all from the verbs' tables, so that each says what is there."""
import os
import re
import shutil
import subprocess

from lib import Skip, main


def verbs(t):
    return re.findall(r"^  petri (\w+)", t.petri.call("--help").out, re.M)


def options(t, verb):
    """The long options that a verb's help lists."""
    return set(re.findall(r"^  (--[a-z-]+)", t.petri.call(verb, "--help").out, re.M))


def test_help_of_every_verb(t):
    names = verbs(t)
    t.check({"run", "worker", "submit", "help"} <= set(names), names)
    for verb in names:
        for args in ([verb, "--help"], [verb, "-h"], ["help", verb]):
            run = t.petri.call(*args)
            t.equal(run.code, 0, run)
            t.contains(run.out, f"petri {verb}", run)
            t.equal(run.err, "", run)
            t.check(all(len(line) <= 101 for line in run.out.splitlines()), run)
    t.equal(t.petri.call("help", "nope").code, 125)
    t.equal(t.petri.call("nope").code, 125)


def test_unknown_options(t):
    for verb in verbs(t):
        run = t.petri.call(verb, "--no-such-option")
        t.equal(run.code, 125, run)
        t.contains(run.err, "no-such-option", run)


def test_manual_pages(t):
    """Each page passes the linters that are there, and names each option of its verb."""
    mandoc, groff = shutil.which("mandoc"), shutil.which("groff")
    if not mandoc:
        raise Skip("mandoc")
    for verb in ["", *verbs(t)]:
        page = t.petri.call("help", "--man", *([verb] if verb else []))
        t.equal(page.code, 0, page)
        path = t.write(f"petri-{verb}.1", page.stdout)
        lint = subprocess.run([mandoc, "-T", "lint", "-W", "warning", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        t.equal((lint.returncode, lint.stdout), (0, b""), verb)
        if groff:
            said = subprocess.run([groff, "-ww", "-mdoc", "-T", "utf8", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
            t.equal(said.stderr, b"", verb)
        text = subprocess.run([mandoc, "-T", "ascii", path], stdout=subprocess.PIPE, check=True).stdout.decode()
        text = re.sub(".\b", "", text)
        if verb:
            for option in options(t, verb):
                t.contains(text, "\n     " + option, verb)
        else:
            t.contains(text, "petri-worker", "petri(1)")


def complete(t, script, line):
    """What bash offers for a line whose last word is under the cursor; "--a=b" is three words there, as for readline."""
    words = [w for w in re.split(r"(=)|\s+", line) if w]
    if line.endswith((" ", "=")):
        words.append("")
    program = ("source $1; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _petri; printf '%s\\n' \"${COMPREPLY[@]}\"")
    done = subprocess.run(["bash", "--norc", "-c", program, "bash", script, *words], cwd=t.tmp, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    t.equal((done.returncode, done.stderr), (0, b""), line)
    return set(done.stdout.decode().split())


def test_completion(t):
    script = t.write("completion", t.petri.call("help", "--completion", "bash").stdout)
    names = set(verbs(t))
    os.mkdir(t.path("directory"))
    t.write("file.json", "{}")
    t.equal(complete(t, script, "petri "), names | {"--help", "--version"})
    t.equal(complete(t, script, "petri wo"), {"worker"})
    t.check(names == complete(t, script, "petri help "))
    for verb in names:
        t.equal(complete(t, script, f"petri {verb} --"), options(t, verb) | {"--help"}, verb)
    t.equal(complete(t, script, "petri worker --scratch "), {"auto", "tmpfs"})
    t.equal(complete(t, script, "petri worker --scratch=t"), {"tmpfs"})
    t.equal(complete(t, script, "petri worker --scratch="), {"auto", "tmpfs"})
    t.equal(complete(t, script, "petri worker --state "), {"directory"})
    t.check({"directory", "file.json"} <= complete(t, script, "petri submit --wait "))
    t.equal(complete(t, script, "petri worker --slots "), set())
    t.equal(complete(t, script, "petri image "), {"import", "list", "inspect", "rm", "runtime"})
    t.equal(complete(t, script, "petri image --state directory i"), {"import", "inspect"})
    t.check("file.json" in complete(t, script, "petri image import x "))
    t.equal(complete(t, script, "petri nonsense "), set())


if __name__ == "__main__":
    main(globals())
