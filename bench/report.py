"""The report: one HTML file without external resources, for people who know nothing of petri; and the headline plot alone."""
import json
import shlex
from html import escape

import plots
import table
from plots import duration, number

FIXED = {"posix_spawn": "floor", "petri pool": "c0", "petri worker": "c1", "petri run": "c2"}
PAGE_STYLE = """
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .4rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
p { max-width: 48rem; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
figure { margin: .8rem 0; } figure svg { max-width: 100%; height: auto; } .small { display: flex; flex-wrap: wrap; gap: 1rem; } .small figure { margin: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; } th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child, td.words { text-align: left; } td.words { white-space: normal; min-width: 14rem; }
.met { color: var(--c4); } .missed { color: var(--c0); font-weight: 600; }
code, pre { font: .82rem/1.4 ui-monospace, monospace; } pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid var(--line); padding-left: .8rem; margin: .3rem 0; }
"""


def colour(results, name):
    if name in FIXED:
        return FIXED[name]
    others = [n for n in results["executors"] if n not in FIXED]
    return f"c{3 + others.index(name) % (plots.COLOURS - 3)}"


def figure(drawing, caption=""):
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>" if drawing else ""


def html_table(head, body):
    """Cells are text, or (text, class)."""
    def cell(c):
        return f'<td class="{c[1]}">{escape(c[0])}</td>' if isinstance(c, tuple) else f"<td>{escape(str(c))}</td>"
    rows = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in body)
    return f'<div class="wide"><table><tr>{"".join(f"<th>{escape(h)}</th>" for h in head)}</tr>{rows}</table></div>'


# ---- sections ----
def headline(results, standalone=False):
    rows = [(e["title"], colour(results, name), ratio, f["latency"]["p99_us"] / f["floor"]["p50_us"],
             f"{plots.times(ratio)}, {duration(f['latency']['p50_us'])}") for ratio, name, e, f in table.by_ratio(results)[0]]
    if not rows:
        return plots.svg(400, 40, [plots.text(10, 25, "nothing was measured")], "nothing", standalone)
    return plots.ranges(rows, "Latency of a static true in each executor", standalone,
                        caption="Starting a program and knowing that it has ended" if standalone else "")


def figures_table(title, good):
    body = []
    for ratio, _, e, f in good:
        d = f["latency"]
        native = table.best(f, "native_per_s")
        body.append([e["title"], *(duration(d[k]) for k in ("p50_us", "p90_us", "p99_us", "p99_9_us")), f"{ratio:.2f}", d["n"],
                     duration(f["cpu_us"]) if f["cpu_us"] else "", f"{table.best(f):.0f}" if native else "", f"{table.best(f) / native:.2f}" if native else ""])
    return html_table([title, "p50", "p90", "p99", "p99.9", "ratio", "runs", "CPU", "runs/s", "ratio"], body)


def latency(results):
    good, bad = table.by_ratio(results)
    curves = [(e["title"], colour(results, name), [(q, us / f["floor"]["p50_us"]) for q, us in f["latency"].get("curve", [])])
              for _, name, e, f in good]
    return [
        figure(headline(results), "Each executor takes turns with posix_spawn, one run of each, so that a ratio is of the same machine at the same time. "
                                  "At the right: the ratio at p50, and the time."),
        figures_table("static true", good),
        *(f'<p class="soft">{escape(words)}</p>' for words in table.durable(results)),
        *(f'<p class="soft">{escape(name)}: not measured: {escape(why)}</p>' for name, why in bad),
        "<h3>Distributions</h3>",
        figure(plots.distributions(curves, "Distribution of latency for each executor"), "Further right is slower; the upper part is the tail.")]


def rates(results):
    shown = [(e["title"], colour(results, name), f["rates"]) for _, name, e, f in table.by_ratio(results)[0] if f.get("rates")]
    per_s = [(t, c, [(r["inflight"], r["per_s"]) for r in rs]) for t, c, rs in shown]
    cpu = [(t, c, [(r["inflight"], r["cpu_us"]) for r in rs]) for t, c, rs in shown]
    at = results["inflight"]
    options = {"x_log": True, "ticks": at, "width": 820, "height": 340}
    return ["<h2>Many at a time</h2>", "<p>So many programs are kept running at once. CPU is that of all processes involved, "
            "the client's side included where it starts a process for each run.</p>",
            figure(plots.lines(per_s, "Runs a second", "in flight", "runs a second (logarithmic)", y_log=True, **options)),
            figure(plots.lines(cpu, "CPU time of a run", "in flight", "CPU a run (logarithmic)", y_log=True, y_text=duration, **options))]


def programs(results):
    names = list(results["programs"])
    body = []
    for _, _, e, _ in table.by_ratio(results)[0]:
        cells = []
        for program in names:
            f = e["programs"].get(program, {})
            cells.append(f"{duration(f['latency']['p50_us'])} ({f['ratio_p50']:.1f})" if "latency" in f else "–")
        if any(cell != "–" for cell in cells):
            body.append([e["title"], *cells])
    reasons = {}
    for e in results["executors"].values():
        for program, f in e["programs"].items():
            if "error" in f:
                reasons.setdefault(f"{e['title']}: {f['error']}", []).append(results["programs"][program]["title"])
    each = [f"<details><summary>{escape(results['programs'][n]['title'])}: every figure</summary>"
            f"{figures_table(results['programs'][n]['title'], table.by_ratio(results, n)[0])}</details>"
            for n in names if n != "true" and table.by_ratio(results, n)[0]]
    return ["<h2>Programs</h2>", "<p>Time at p50, and in brackets its ratio to posix_spawn of a static <code>true</code> in the same run.</p>",
            html_table(["", *(results["programs"][n]["title"] for n in names)], body), *each,
            *(f'<p class="soft">Not measured: {escape(", ".join(of))} with {escape(reason)}</p>' for reason, of in reasons.items())]


DIMENSIONS = (("slots", "slots in the pool"), ("layers", "layers of the image"), ("files", "files in the image"), ("cgroups", "other cgroups on the host"))


def growth(results):
    found = results["growth"]
    if not found:
        return []
    parts = ["<h2>How cost grows</h2>", "<p>The pool's latency at p50 and p99 against posix_spawn at p50 of the same run, with a static true.</p>",
             '<div class="small">']
    for name, title in DIMENSIONS:
        good = [p for p in found.get(name, []) if "ratio_p50" in p]
        zero = min((p["x"] for p in good if p["x"] > 0), default=1) / 10  # where a logarithmic axis has room for 0
        at = [p["x"] or zero for p in good]
        series = [("p50", "c0", [(x, p["ratio_p50"]) for x, p in zip(at, good)]),
                  ("p99", "c1", [(x, p["latency"]["p99_us"] / p["floor"]["p50_us"]) for x, p in zip(at, good)])]
        parts.append(figure(plots.lines(series, title, title, "× posix_spawn", x_log=True, ticks=at,
                                        x_text=lambda x, zero=zero: "0" if x == zero else number(x))))
    slots = [p for p in found.get("slots", []) if "ready_ms" in p]
    parts.append(figure(plots.lines([("ready", "c0", [(p["x"], p["ready_ms"] * 1000) for p in slots])], "Time until all slots are ready",
                                    "slots in the pool", "start until all are ready", True, True, y_text=duration, ticks=[p["x"] for p in slots])))
    parts.append(figure(plots.lines([("idle", "c0", [(p["x"], p["idle_slot_kib"]) for p in slots])], "Memory of an idle slot",
                                    "slots in the pool", "KiB, the largest idle slot", True, ticks=[p["x"] for p in slots])))
    queues = [(title, cls, [(p["x"], p["ratio_rate"]) for p in found.get(name, []) if "ratio_rate" in p])
              for name, title, cls in (("queue", "pool", "c0"), ("redis queue", "through Redis", "c1"))]
    parts.append(figure(plots.lines(queues, "Rate with a queue", "jobs given at once", "jobs/s, × posix_spawn", x_log=True,
                                    ticks=[x for x, _ in queues[0][2]])))
    errors = [f"{name} {p['x']}: {p['error']}" for name, points in found.items() for p in points if "error" in p]
    return [*parts, "</div>", *(f'<p class="soft">Not measured: {escape(e)}</p>' for e in errors)]


def steps(results):
    parts = []
    for name in ("petri pool", "petri worker"):
        entry = results["executors"].get(name, {"programs": {}})
        found = entry["programs"].get("true", {}).get("steps", {})
        body = [[step, *(duration(d[k]) for k in ("p50_us", "p90_us", "p99_us", "max_us"))] for step, d in found.items() if d]
        if body:
            parts += [f"<h3>{escape(entry['title'])}</h3>", html_table(["step", "p50", "p90", "p99", "max"], body)]
    return ["<h2>Steps of a job</h2>", "<p>Where the time goes, one job at a time. Steps overlap: some are parts of others.</p>", *parts] if parts else []


def runtime(results):
    found = results.get("runtime", {})
    if "latency" not in found:
        return ["<h2>A warm runtime</h2>", f'<p class="soft">Not measured: {escape(found["error"])}</p>'] if "error" in found else []
    rows = (("python3 -c pass by posix_spawn", "native", 1.0), ("python3 main.py, warm", "latency", found["ratio_p50"]),
            ("python3 main.py, cold", "cold", found["cold_ratio_p50"]))
    body = [[title, *(duration(found[key][k]) for k in ("p50_us", "p90_us", "p99_us", "p99_9_us")), f"{ratio:.2f}", found[key]["n"]]
            for title, key, ratio in rows]
    return ["<h2>A warm runtime</h2>", "<p>A program that says hello, given to a python3 that waits in the slot, and the same started there; "
            f"{found['idle_slot_kib']:.0f} KiB are charged to a slot in which one waits.</p>",
            html_table(["", "p50", "p90", "p99", "p99.9", "ratio", "runs"], body)]


def store(results):
    found = results.get("store", {})
    body = list(table.store_rows(results))
    errors = [f'<p class="soft">Not measured: {escape(name)}: {escape(f["error"])}</p>' for name, f in found.items() if "error" in f]
    if not found:
        return []
    return ["<h2>The store</h2>", "<p>A root is stamped when no slot waits that was made for a job: a fresh scratch, the image's layers, the overlay. An import "
            "unpacks and hashes an archive until all of it is on the disk; it takes turns with <code>tar -x</code> and <code>sync</code> of the same one.</p>",
            html_table(["", "median", "against"], body) if body else "", *errors]


def limits(results):
    cases = [c for c in results["limits"].get("cases", []) if c["over"]]
    body = [[c["name"], c["over"]["n"], *(duration(c["over"][k]) for k in ("p50_us", "p99_us", "max_us")), duration(c["goal_us"]), c["early"], c["wrong"]]
            for c in cases]
    return ["<h2>Limits</h2>", "<p>How far past a limit of 50 ms a job got before it was ended. CPU time is that of all its processes.</p>",
            html_table(["limit", "runs", "p50", "p99", "max", "wanted p99", "ended early", "ended otherwise"], body)] if cases else []


def goals(results):
    words = {True: ("met", "met"), False: ("missed", "missed"), None: ("not measured", "")}
    body = [[g["name"], f"{g['sense']} {g['limit']:g} {g['unit']}", "–" if g["got"] is None else f"{g['got']:.3f} {g['unit']}", words[g["met"]]]
            for g in results["goals"]]
    return ["<h2>Goals</h2>", html_table(["", "wanted", "this run", ""], body)]


def executors(results):
    parts = ["<h2>What was compared</h2>", "<p>Each was given isolation and limits as close to petri's as it can give by itself. What it lacks "
             "it is not charged for.</p>"]
    for _, _, e, f in table.by_ratio(results)[0]:
        parts.append(f"<h3>{escape(e['title'])}</h3><p class=\"soft\">Covers: {escape(e.get('covers', 'not told'))}. "
                     f"Lacks: {escape(e.get('lacks') or 'nothing')}.{' ' + escape(e['how']) + '.' if e.get('how') else ''}</p>")
        if f.get("command"):
            parts.append(f"<pre>{escape(shlex.join(f['command']))}</pre>")
        others = [shlex.join(p["command"]) for name, p in e["programs"].items() if name != "true" and "command" in p]
        if others:
            parts.append(f"<details><summary>with the other programs</summary><pre>{escape(chr(10).join(others))}</pre></details>")
        if e.get("config"):
            parts.append(f"<details><summary>its configuration</summary><pre>{escape(json.dumps(e['config']))}</pre></details>")
    return parts


def host(results):
    h = results["host"]
    doctor = h["doctor"]
    rows = [("CPU", f"{h['cpus']} × {h['cpu']}{', a virtual machine' if h['virtualised'] else ''}"), ("memory", f"{h['memory_gib']} GiB"),
            ("kernel", f"{h['kernel']}, {h['architecture']}"), ("system", h["system"]), ("frequency governor", h["governor"]),
            ("cgroups", doctor.get("cgroup", "unknown")), ("scratch", doctor.get("scratch", "unknown")), ("load before", number(h["load_before"])),
            ("petri", h["commit"]), ("measured", f"{h['when']}, {results['seconds']} s{', --quick' if results['quick'] else ''}")]
    return ["<h2>The machine</h2>", html_table(["", ""], [[name, (str(value), "words")] for name, value in rows])]


def html(results):
    body = "\n".join(part for section in (latency, rates, programs, runtime, growth, steps, limits, store, goals, executors, host) for part in section(results))
    quick = " A quick run: few samples, only a glance." if results["quick"] else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>petri: what it costs to start a program</title><style>{plots.STYLE}{PAGE_STYLE}</style></head><body>
<h1>What it costs to start a program</h1>
<p>petri runs untrusted programs in full isolation, in processes that were made ready before the job arrived. This page compares it with a bare
process (<code>posix_spawn</code> and wait) and with other ways to isolate one, all measured in one run on one machine:
{escape(str(results['host']['cpus']))} CPUs, Linux {escape(results['host']['kernel'])}, {escape(results['host']['when'])}.{quick}
How it is measured: <code>docs/bench.md</code>.</p>
{body}
</body></html>
"""
