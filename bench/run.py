#!/usr/bin/python3 -B
"""Measure petri and its alternatives in one run on this machine, and write a report: docs/bench.md.

    run.py [--quick] [--adapter FILE]... [--only SECTION]... [--save] [--build DIR] [--output DIR]
"""
import argparse
import json
import os
import sys

import goals
import report
import table
from harness import Harness
from host import HERE, ROOT
from measure import Measurement


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure petri and its alternatives; docs/bench.md explains.")
    parser.add_argument("--quick", action="store_true", help="a minute instead of ten: fewer runs, fewer sizes")
    parser.add_argument("--adapter", action="append", default=[], metavar="FILE", help="another executor to be measured")
    parser.add_argument("--only", action="append", default=[], choices=Measurement.SECTIONS, metavar="SECTION",
                        help="only this section (repeatable): " + ", ".join(Measurement.SECTIONS))
    parser.add_argument("--save", action="store_true", help="also write bench/results/latest.* and headline.svg")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), help="the build to measure")
    parser.add_argument("--output", default=os.path.join(ROOT, "build", "bench"), help="where the report goes")
    return parser.parse_args()


def anonymous(text, harness):
    """Without the paths of this machine, which mean nothing elsewhere."""
    for path, name in ((harness.dir, "DIR"), (os.path.abspath(harness.build), "BUILD"), (ROOT, ".")):
        text = text.replace(path, name)
    return text


def write(path, text):
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".new", path)


def write_all(directory, results):
    os.makedirs(directory, exist_ok=True)
    write(os.path.join(directory, "latest.json"), json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write(os.path.join(directory, "latest.html"), report.html(results))
    write(os.path.join(directory, "headline.svg"), report.headline(results, standalone=True))


def measure(args):
    with Harness(os.path.abspath(args.build)) as harness:
        measurement = Measurement(harness, args.quick, args.adapter)
        results = json.loads(anonymous(json.dumps(measurement.run(args.only)), harness))
        harness.say("done")
    results["goals"] = goals.judge(results)
    return results


def main():
    args = arguments()
    if os.geteuid() != 0:
        sys.exit("bench: petri needs root; run ./dev bench, which asks sudo")
    try:
        results = measure(args)
    except KeyboardInterrupt:
        print("bench: interrupted; everything that was made is removed", file=sys.stderr)
        return 130
    write_all(args.output, results)
    print("\n" + table.text(results))
    print(f"\nreport: {os.path.join(args.output, 'latest.html')}, data: {os.path.join(args.output, 'latest.json')}")
    if args.save:
        write_all(os.path.join(HERE, "results"), results)
        print(f"saved: {os.path.relpath(os.path.join(HERE, 'results'), ROOT)}/latest.html, latest.json, headline.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
