"""The end of `./dev test`: what failed, what was skipped and why, and the sums, from ctest's JUnit file."""
import collections
import sys
import xml.etree.ElementTree as ET


def reason(case):
    """The test's own last words; a skipped test says what is missing."""
    text = case.findtext("system-out") or ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("SKIP")]
    return (said or lines or ["no reason given"])[-1].removeprefix("SKIP:").strip()


def main():
    try:
        cases = ET.parse(sys.argv[1]).getroot().findall(".//testcase")
    except (OSError, ET.ParseError) as e:
        print(f"==> test: no report from ctest: {e}")
        return 1
    groups = collections.defaultdict(collections.Counter)
    skipped, failed, seconds = [], [], 0.0
    for case in cases:
        name, status = case.get("name"), case.get("status")
        seconds += float(case.get("time") or 0)
        if status == "run":
            kind = "passed"
        elif status == "notrun" and case.find("skipped") is not None and "Unable to find" not in reason(case):
            kind = "skipped"
            skipped.append((name, reason(case)))
        elif status == "disabled":
            kind = "skipped"
            skipped.append((name, "disabled"))
        else:
            kind = "failed"
            failed.append(name)
        groups[name.split("/")[0]][kind] += 1
    for name, why in skipped:
        print(f"==> skipped: {name}: {why}")
    for name in failed:
        print(f"==> FAILED: {name}")
    for group, counts in sorted(groups.items()):
        print(f"==> {group}: " + ", ".join(f"{counts[k]} {k}" for k in ("passed", "failed", "skipped")))
    total = sum(sum(c.values()) for c in groups.values())
    print(f"==> test: {total - len(failed) - len(skipped)} of {total} passed, {len(failed)} failed, "
          f"{len(skipped)} skipped, {seconds:.0f} s of tests")
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
