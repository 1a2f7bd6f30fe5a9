"""The figures that petri is to reach, and what a run says of each. Medians of one run, ratios where a ratio can be had."""


def lookup(results, executor, program="true"):
    figures = results["executors"].get(executor, {}).get("programs", {}).get(program, {"error": "not part of this run"})
    return None if "error" in figures else figures


def best_rate(figures):
    """Most runs a second, whatever was in flight, against the same of posix_spawn in the same run."""
    if not figures or not figures.get("rates"):
        return None
    return max(r["per_s"] for r in figures["rates"]) / max(r["native_per_s"] for r in figures["rates"])


def quotient(a, b):
    return a / b if a is not None and b else None


def points(results, dimension):
    return {p["x"]: p for p in results["growth"].get(dimension, []) if "error" not in p}


def growth_quotient(results, dimension, key, large, small):
    """How much worse the large one is than the small one, each against the floor of its own run."""
    found = points(results, dimension)
    if small is None or (large not in found) or (small not in found):
        return None
    return quotient(found[large][key], found[small][key])


def limit_goals(results):
    for case in results["limits"].get("cases", []):
        if case["over"]:
            yield (f"past {case['name']}: p99", case["over"]["p99_us"] / 1000, case["goal_us"] / 1000, "ms")


def slot_goals(results):
    slots = points(results, "slots")
    if not slots:
        return
    most = max(slots)
    yield (f"{most} slots ready", slots[most]["ready_ms"] / 1000, 3.0 * most / 1024, "s")
    near = min(slots, key=lambda n: abs(n - 16))
    if most > near:
        yield (f"dispatch with {most} slots, against {near}", growth_quotient(results, "slots", "ratio_p50", most, near), 1.2, "×")


def image_goal(results):
    small, large = points(results, "files"), points(results, "files and layers")
    if small and large:
        x = max(large)
        yield (f"dispatch with {x} files and 32 layers, against a small image",
               quotient(large[x]["ratio_p50"], small[min(small)]["ratio_p50"]), 1.2, "×")


def rows(results):
    """(name, got or None, limit, unit, "at most" or "at least")"""
    pool, redis, crun, runc = (lookup(results, name) for name in ("petri pool", "petri worker", "crun", "runc"))
    most = [("warm dispatch until exit known, against posix_spawn + wait", pool and pool["ratio_p50"], 1.0, "×"),
            ("its p99, against its p50", pool and pool["latency"]["p99_us"] / pool["latency"]["p50_us"], 2.0, "×"),
            ("XADD to result, against posix_spawn + 4 round trips", redis and redis["ratio_to_native_and_4_pings"], 1.0, "×"),
            ("python3 hello from a warm runtime, against python3 -c pass", results.get("runtime", {}).get("ratio_p50"), 0.15, "×"),
            ("largest idle slot", pool and pool["idle_slot_kib"], 400, "KiB")]
    most += [*slot_goals(results), *image_goal(results), *limit_goals(results)]
    least = [("jobs/s of the pool, against posix_spawn", best_rate(pool), 0.55, "×"),
             ("jobs/s through Redis, against posix_spawn", best_rate(redis), 0.45, "×"),
             ("jobs/s of the pool, against crun", quotient(best_rate(pool), best_rate(crun)), 6, "×"),
             ("jobs/s of the pool, against runc", quotient(best_rate(pool), best_rate(runc)), 20, "×"),
             ("import of a large image, against tar -x and sync", results.get("store", {}).get("import", {}).get("speed"), 0.8, "×")]
    return [(*row, "at most") for row in most] + [(*row, "at least") for row in least]


def judge(results):
    """rows() as objects, with met: True, False, or None when it was not measured."""
    return [{"name": name, "got": got, "limit": limit, "unit": unit, "sense": sense,
             "met": None if got is None else got <= limit if sense == "at most" else got >= limit}
            for name, got, limit, unit, sense in rows(results)]
