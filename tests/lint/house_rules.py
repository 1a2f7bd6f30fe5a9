#!/usr/bin/python3
"""Rules of the house that a machine can see: no source file over 600 lines, no notes to self left in the tree.

    house_rules.py [ROOT]       check the tree; exit 1 and one line a violation
    house_rules.py --self-test  plant violations and see them found
"""
import os
import re
import sys
import tempfile

MAX_LINES = 600
SUFFIXES = (".c", ".h", ".py", ".sh", ".cmake", ".lua", "CMakeLists.txt", ".md")
NAMES = ("dev", "run")  # scripts without a suffix
SKIPPED_DIRS = {".git", "build", ".cache", "__pycache__"}
# Spelled in two halves, so that this file passes its own test.
NOTES = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")


def sources(root):
    for directory, dirs, files in os.walk(root):
        dirs[:] = sorted(d for d in dirs if d not in SKIPPED_DIRS)
        for name in sorted(files):
            if name.endswith(SUFFIXES) or name in NAMES:
                yield os.path.join(directory, name)


def check(root):
    found, count = [], 0
    for path in sources(root):
        count += 1
        with open(path, encoding="utf-8", errors="replace") as f:
            lines = f.read().splitlines()
        name = os.path.relpath(path, root)
        if len(lines) > MAX_LINES and not name.endswith(".md"):
            found.append(f"{name}: {len(lines)} lines; the most is {MAX_LINES}")
        for number, line in enumerate(lines, 1):
            note = NOTES.search(line)
            if note:
                found.append(f"{name}:{number}: {note[1]} left behind")
    return count, found


def self_test():
    with tempfile.TemporaryDirectory(prefix="petri-lint-") as root:
        for name, text in (("good.c", "int x;\n" * MAX_LINES + ""), ("long.c", "\n" * (MAX_LINES + 1)),
                           ("note.h", "int x; /* " + "TO" + "DO: y */\n"), ("fine.c", 'mkstemp("' + "X" * 6 + '");\n')):
            with open(os.path.join(root, name), "w", encoding="utf-8") as f:
                f.write(text)
        _, found = check(root)
    good = len(found) == 2 and found[0].startswith("long.c: ") and found[1].startswith("note.h:1: ")
    print(f"self-test: {'good' if good else found}")
    return 0 if good else 1


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    count, found = check(os.path.abspath(root))
    print("\n".join([*found, f"{count} files, {len(found)} violations"]))
    return 1 if found or not count else 0


if __name__ == "__main__":
    sys.exit(main())
