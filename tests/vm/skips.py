#!/usr/bin/python3
"""Which tests may be skipped: skips.py JUNIT ALLOWED [HOST] compares ctest's report with an allow-list.

ALLOWED has a line for each test that may be skipped there: NAME HOSTS REASON…, NAME a shell pattern, HOSTS a comma
separated list of the names that HOST can have (a kernel of the VM), or *. Exit: 1 when another test was skipped.
"""
import fnmatch
import sys
import xml.etree.ElementTree as ET


def allowed(path, host):
    patterns = []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            words = line.split("#", 1)[0].split(None, 2)
            if not words:
                continue
            if len(words) < 3:
                raise ValueError(f"{path}:{number}: wanted NAME HOSTS REASON")
            if words[1] == "*" or host in words[1].split(","):
                patterns.append(words[0])
    return patterns


def skipped(report):
    for case in ET.parse(report).getroot().findall(".//testcase"):
        if case.get("status") in ("notrun", "disabled"):
            yield case.get("name")


def main():
    report, path, host = (sys.argv[1:] + [""])[:3]
    try:
        patterns = allowed(path, host)
        bad = [name for name in skipped(report) if not any(fnmatch.fnmatchcase(name, p) for p in patterns)]
    except (OSError, ValueError, ET.ParseError) as e:
        print(f"skips: {e}", file=sys.stderr)
        return 1
    for name in bad:
        print(f"==> SKIPPED, which {path} does not allow: {name}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
