"""The results as text, for a terminal."""
import shlex


def us(value):
    return f"{value:.0f}" if value < 100000 else f"{value / 1000:.0f} ms"


def by_ratio(results, program="true"):
    """Executors that ran the program, the quickest first; then those that did not, with why."""
    good, bad = [], []
    for name, executor in results["executors"].items():
        figures = executor["programs"].get(program)
        if figures and "error" not in figures:
            good.append((figures["ratio_p50"], name, executor, figures))
        elif figures:
            bad.append((name, figures["error"]))
    return sorted(good, key=lambda row: row[0]), bad


def best(figures, key="per_s"):
    return max((r[key] for r in figures.get("rates", [])), default=0)


def latency_table(results):
    good, bad = by_ratio(results)
    lines = [f"{'static true; µs':24} {'p50':>8} {'p90':>8} {'p99':>8} {'p99.9':>8} {'ratio':>7} {'CPU':>8} {'runs/s':>8} {'ratio':>6} {'runs':>6}"]
    for ratio, _, executor, f in good:
        d = f["latency"]
        native = best(f, "native_per_s")
        rate = f"{best(f):8.0f} {best(f) / native:6.2f}" if native else f"{'':8} {'':6}"
        lines.append(f"{executor['title'][:24]:24} {us(d['p50_us']):>8} {us(d['p90_us']):>8} {us(d['p99_us']):>8} {us(d['p99_9_us']):>8} "
                     f"{ratio:7.2f} {us(f['cpu_us']):>8} {rate} {d['n']:6}")
    lines += [f"{name[:24]:24} not measured: {why}" for name, why in bad]
    lines += durable(results)
    lines.append("ratio: to posix_spawn + wait of the same program, in turn with it; at p50, and of the most runs a second")
    return lines


def durable(results):
    """What a queue on disk costs, as a sentence, if it was measured."""
    f = results["executors"].get("petri worker", {}).get("durable", {})
    if "latency" in f:
        yield (f"petri worker with appendfsync always: p50 {us(f['latency']['p50_us'])} µs, p99 {us(f['latency']['p99_us'])} µs, "
               f"{f['ratio_p50']:.2f} × posix_spawn; {best(f):.0f} jobs/s")


def program_table(results):
    names = list(results["programs"])
    lines = [f"{'p50, ratio to static true':24} " + " ".join(f"{results['programs'][n]['title']:>16}" for n in names)]
    for _, _, executor, _ in by_ratio(results)[0]:
        cells = []
        for name in names:
            f = executor["programs"].get(name, {})
            cells.append(f"{f['ratio_p50']:16.2f}" if "ratio_p50" in f else f"{'-':>16}")
        lines.append(f"{executor['title'][:24]:24} " + " ".join(cells))
    return lines


def store_rows(results):
    """(what, seconds or µs as text, ratio as text)"""
    found = results.get("store", {})
    for p in found.get("stamp", {}).get("points", []):
        word = "layer" if p["lowers"] == 1 else "layers"
        yield f"a root stamped of {p['lowers']} {word}", f"{us(p['make']['p50_us'])} µs", f"{p['ratio_p50']:.2f} × posix_spawn"
    done = found.get("import", {})
    if "speed" in done:
        size = f"{done['bytes'] / (1 << 20):.0f} MiB, {done['files']} files"
        yield f"tar -x and sync, {size}", f"{done['tar_median_s']:.2f} s", "1.00 × tar's speed"
        yield "petri image import of the same", f"{done['import_median_s']:.2f} s", f"{done['speed']:.2f} × tar's speed"
        yield "once more, being there already", f"{done['again_median_s']:.2f} s", f"{done['tar_median_s'] / done['again_median_s']:.2f} × tar's speed"


def store_table(results):
    return [f"{'the store':48} {'median':>10}", *(f"{what[:48]:48} {time:>10}   {ratio}" for what, time, ratio in store_rows(results)),
            *(f"{name}: not measured: {f['error']}" for name, f in results.get("store", {}).items() if "error" in f)]


def goal_table(goals):
    lines = [f"{'goal':64} {'wanted':>16} {'got':>10}"]
    for g in goals:
        got = "-" if g["got"] is None else f"{g['got']:.3f}"
        word = {True: "met", False: "missed", None: "not measured"}[g["met"]]
        lines.append(f"{g['name'][:64]:64} {g['sense'] + ' ' + format(g['limit'], 'g'):>16} {got:>10} {g['unit']:4} {word}")
    return lines


def command_table(results):
    return ["command lines, static true"] + [f"  {e['title']}: {shlex.join(f['command'])}" for _, _, e, f in by_ratio(results)[0] if f.get("command")]


def text(results):
    parts = [latency_table(results), program_table(results), command_table(results), store_table(results), goal_table(results["goals"])]
    return "\n\n".join("\n".join(part) for part in parts if len(part) > 1)
