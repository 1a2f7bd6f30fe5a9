#!/usr/bin/python3
"""What gcc -fanalyzer said in a build's log, less what was looked at and is known to be wrong: analyzer.txt, beside this file.

    analyzer.py LOG             exit 1 and a line for each finding that is not known
    analyzer.py --self-test     new and known findings, and one that is gone
"""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
KNOWN = os.path.join(HERE, "analyzer.txt")
ROOT = os.path.dirname(os.path.dirname(HERE))
# "…: In function 'f':", at times without the file's name.
FUNCTION = re.compile(r"In function ['\u2018]([^'\u2019]+)['\u2019]")
FINDING = re.compile(r"^(?:(?:\.\./)*([^:]+):\d+:\d+|cc1): (?:warning|error): (.*?)(?: \[-W(?:error=)?(?:analyzer-)?([a-z-]+)\])?$")


def known(text):
    """{(file or -, function, kind)} of lines "FILE FUNCTION KIND REASON"; # begins a comment."""
    return {tuple(line.split(None, 3)[:3]) for line in text.splitlines() if line.strip() and not line.startswith("#")}


def findings(log):
    """Yield (key, line) for each warning or error."""
    function = "-"
    for line in log.splitlines():
        m = FUNCTION.search(line)
        if m:
            function = m[1]
        m = FINDING.match(line)
        if m:
            name = m[1] or "-"  # as the compiler was called: beneath the build directory's parents, or in full
            yield (os.path.relpath(name, ROOT) if os.path.isabs(name) else name, function, m[3] or "-"), line


def judge(log, text):
    """Return: (lines of new findings, keys that were not found any more, how many were known)."""
    expected, seen, new = known(text), set(), []
    for key, line in findings(log):
        if key in expected:
            seen.add(key)
        else:
            new.append(f"{line}\n    in {key[1]}; not in tests/lint/analyzer.txt")
    return new, sorted(expected - seen), len(seen)


def self_test():
    log = ("[1/2] Building C object a.c.o\n../../base/a.c: In function 'one':\n../../base/a.c:9:2: warning: leak of 'x' [CWE-401] [-Wanalyzer-malloc-leak]\n"
           "In function \u2018two\u2019:\ncc1: warning: use of uninitialized value [CWE-457] [-Wanalyzer-use-of-uninitialized-value]\n"
           f"{ROOT}/base/a.c: In function 'full':\n{ROOT}/base/a.c:12:2: warning: leak of 'z' [CWE-401] [-Wanalyzer-malloc-leak]\n"
           "../../base/a.c: In function 'three':\n../../base/a.c:20:2: warning: leak of 'y' [CWE-401] [-Wanalyzer-malloc-leak]\n"
           "../../base/b.c:1:1: error: expected ';'\n")
    text = "# known\nbase/a.c one malloc-leak kept by its owner\n- two use-of-uninitialized-value cleanup\nbase/a.c full malloc-leak too\nbase/a.c gone malloc-leak mended\n"
    new, gone, count = judge(log, text)
    good = len(new) == 2 and "'y'" in new[0] and "expected" in new[1] and gone == [("base/a.c", "gone", "malloc-leak")] and count == 3
    print(f"self-test: {'good' if good else (new, gone, count)}")
    return 0 if good else 1


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    with open(sys.argv[1], encoding="utf-8", errors="replace") as f, open(KNOWN, encoding="utf-8") as k:
        new, gone, count = judge(f.read(), k.read())
    for key in gone:
        print(f"not found any more (another gcc, or mended): {' '.join(key)}")
    print("\n".join([*new, f"{count} known findings, {len(new)} new ones"]))
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
