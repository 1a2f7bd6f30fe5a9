"""What a run measures, section by section. Every section fills its part of the results; what fails says why and the rest goes on."""
import json
import os
import re
import shutil
import time

import host
import peers
import store
from harness import NotMeasured

PYTHON = "/usr/bin/python3"

# How long each thing is measured: runs or seconds, whichever ends first.
FULL = {"pool": (2000, 8), "program": (400, 3), "command": (500, 4), "program_peer": (200, 1.5), "redis": (1000, 6), "redis_program": (100, 1), "growth": (300, 2),
        "limits": (200, 10), "runtime": (150, 6), "stamp": (500, 4), "import": (1 << 30, 2, 20), "rate": 0.8, "pool_rate": 2, "slots": (1, 4, 16, 64, 256, 512, 1024), "layers": (1, 2, 4, 8, 16, 32),
        "files": (10, 100, 1000, 10000, 100000), "queue": (1, 10, 100, 1000, 10000), "cgroups": (0, 10, 100, 1000)}
QUICK = {"pool": (300, 2), "program": (30, 0.7), "command": (100, 0.7), "program_peer": (30, 0.4), "redis": (150, 1), "redis_program": (30, 0.4), "growth": (60, 0.5),
         "limits": (8, 1), "runtime": (30, 1), "stamp": (100, 1), "import": (64 << 20, 1, 5), "rate": 0.2, "pool_rate": 0.4, "slots": (1, 16, 128), "layers": (1, 32), "files": (10, 3000),
         "queue": (1, 100, 1000), "cgroups": (0, 200)}
SLOTS = 64
OTHERS = ("dynamic", "python", "node", "cpp")  # programs beside the static true


class Measurement:
    def __init__(self, harness, quick, extra_adapters):
        self.harness = harness
        self.sizes = QUICK if quick else FULL
        self.quick = quick
        self.rootfs = host.make_rootfs(harness)
        no_hello = host.make_hello(harness, self.rootfs)
        self.adapters = peers.find(harness, extra_adapters)
        cpus = os.cpu_count() or 1
        self.inflight = sorted({1, cpus, 2 * cpus, 4 * cpus})
        self.programs = self.find_programs(no_hello)
        self.results = {"schema": 1, "quick": quick, "host": {}, "programs": {}, "executors": {}, "growth": {}, "limits": {},
                        "inflight": self.inflight}
        for name, program in self.programs.items():
            self.results["programs"][name] = {key: program[key] for key in ("title", "argv", "missing") if key in program}

    def find_programs(self, no_hello):
        node = shutil.which("node", path="/usr/bin:/bin:/usr/local/bin")
        programs = {
            "true": {"title": "static true", "argv": ["/true"]},
            "dynamic": {"title": "dynamic true", "argv": ["/usr/bin/true"]},
            "python": {"title": "python3 -c pass", "argv": [PYTHON, "-c", "pass"]},
            "node": {"title": "node -e 0", "argv": [node or "/usr/bin/node", "-e", "0"]},
            "cpp": {"title": "C++ hello", "argv": ["/hello"]}}
        if not os.path.exists(PYTHON):
            programs["python"]["missing"] = "there is no python3"
        if not node or not os.path.realpath(node).startswith("/usr/"):
            programs["node"]["missing"] = "there is no node in /usr"
        if no_hello:
            programs["cpp"]["missing"] = no_hello
        return programs

    # ---- helpers ----
    def bounds(self, what):
        runs, seconds = self.sizes[what]
        return ["--runs", runs, "--seconds", seconds]

    def rates(self, seconds="rate", inflight=None):
        wanted = self.inflight if inflight is None else inflight
        return ["--rate-seconds", self.sizes[seconds], "--inflight", ",".join(map(str, wanted)) or "0"]

    def store(self, executor, program, figures):
        entry = self.results["executors"].setdefault(executor, {"title": executor, "programs": {}})
        entry["programs"][program] = figures
        if "error" in figures:
            self.harness.say(f"  not measured: {executor}, {self.programs[program]['title']}: {figures['error']}")
        return entry

    def attempt(self, executor, program, function):
        """function() as the figures of a program with an executor, or why not."""
        try:
            missing = self.programs[program].get("missing")
            if missing:
                raise NotMeasured(missing)
            figures = function()
        except NotMeasured as e:
            figures = {"error": str(e)}
        return self.store(executor, program, figures)

    # ---- sections ----
    def pool(self):
        """The pool by its engine: static true with all in-flight rates and every step; then the other programs."""
        self.harness.say("pool: static true")
        entry = self.attempt("petri pool", "true", lambda: self.harness.measure(
            "pool", *self.bounds("pool"), *self.rates("pool_rate"), "--slots", SLOTS, "--trace"))
        entry.update(title="petri pool", covers="everything petri has", lacks="",
                     how="petri-bench pool: from the job in hand until its exit is known, without a queue")
        for name in OTHERS:
            self.harness.say(f"pool: {self.programs[name]['title']}")
            self.attempt("petri pool", name, lambda name=name: self.harness.measure(
                "pool", *self.bounds("program"), *self.rates(inflight=self.inflight[1:2]), "--slots", 8, "--host", *self.pool_program(name)))

    def pool_program(self, name):
        """Options for a program in the image `host`; the C++ one comes as a file with each job, as a submission would."""
        argv = self.programs[name]["argv"]
        if name == "cpp":
            return ["--file", f"/work/hello={self.rootfs}/hello", "--native", self.rootfs + "/hello", "--", "/work/hello"]
        return ["--", *argv]

    def floor(self):
        """posix_spawn itself, as an executor among others: taken from the pool's run, where both took turns."""
        for name, pool in self.results["executors"].get("petri pool", {"programs": {}})["programs"].items():
            if "error" in pool:
                continue
            native = {"latency": pool["native"], "floor": pool["floor"], "ratio_p50": pool["native"]["p50_us"] / pool["floor"]["p50_us"],
                      "cpu_us": pool["native_cpu_us"], "floor_cpu_us": pool["floor_cpu_us"],
                      "rates": [{"inflight": r["inflight"], "per_s": r["native_per_s"], "native_per_s": r["native_per_s"], "ratio": 1.0,
                                 "cpu_us": r["native_cpu_us"]} for r in pool["rates"]],
                      "command": self.programs[name]["argv"]}
            self.store("posix_spawn", name, native)
        self.results["executors"].setdefault("posix_spawn", {"title": "posix_spawn", "programs": {}}).update(
            title="posix_spawn + wait", covers="nothing", lacks="all isolation, every limit, usage report", how="the floor: the bare process")

    def redis(self):
        self.harness.say("redis: XADD to result")
        entry = self.attempt("petri worker", "true", lambda: self.harness.measure(
            "redis", *self.bounds("redis"), *self.rates("pool_rate"), "--slots", SLOTS, "--trace"))
        entry.update(title="petri worker, Redis", covers="everything petri has, and a queue", lacks="",
                     how="petri-bench redis: from XADD until BLPOP says that the result is there; Redis without persistence")
        self.harness.say("redis: the same with appendfsync always")
        try:
            durable = self.harness.measure("redis", *self.bounds("growth"), *self.rates("rate"), "--slots", SLOTS, "--durable")
        except NotMeasured as e:
            durable = {"error": str(e)}
        entry["durable"] = durable
        for name in OTHERS:
            self.harness.say(f"redis: {self.programs[name]['title']}")
            self.attempt("petri worker", name, lambda name=name: self.harness.measure(
                "redis", *self.bounds("redis_program"), *self.rates(inflight=self.inflight[1:2]), "--slots", 8, "--host", *self.pool_program(name)))

    def petri_run(self):
        """The command line: a nursery, a worker and a zygote for each run."""
        state = os.path.join(self.harness.dir, "run")
        base = [self.harness.petri, "run", "--state", state, "--result", "/dev/null"]
        try:
            self.harness.run([self.harness.petri, "image", "--state", state, "import", "bench", self.rootfs], 60)
        except NotMeasured as e:
            self.store("petri run", "true", {"error": str(e)})
            return
        words = {"true": [*base, "--image", "bench", "--", "/true"],
                 "cpp": [*base, "--file", f"/work/hello={self.rootfs}/hello", "--", "/work/hello"]}
        for name, program in self.programs.items():
            self.harness.say(f"petri run: {program['title']}")
            argv = words.get(name, [*base, "--", *program["argv"]])
            options = [*self.bounds("command"), *self.rates()] if name == "true" else \
                [*self.bounds("program_peer"), *self.rates(inflight=[])]
            entry = self.attempt("petri run", name, lambda argv=argv, options=options: dict(
                self.harness.measure("command", *options, "--", *argv), command=argv))
        entry.update(title="petri run", covers="everything petri has", lacks="", how="one process tree for each run, nothing warm")

    def peers(self):
        for adapter in self.adapters:
            try:
                adapter.check()
            except NotMeasured as e:
                self.store(adapter.name, "true", {"error": str(e)})
                continue
            for name, program in self.programs.items():
                self.harness.say(f"{adapter.name}: {program['title']}")
                self.attempt(adapter.name, name, lambda adapter=adapter, name=name: self.peer(adapter, name))

    def peer(self, adapter, name):
        options = [*self.bounds("command"), *self.rates()] if name == "true" else [*self.bounds("program_peer"), *self.rates(inflight=[])]
        plan, figures = peers.measure(adapter, self.rootfs, self.programs[name]["argv"], options)
        entry = self.results["executors"].setdefault(adapter.name, {"title": adapter.name, "programs": {}})
        entry.update({key: plan[key] for key in ("title", "covers", "lacks", "config") if key in plan})
        return figures

    # ---- growth ----
    def grow(self, dimension, values, function):
        points = self.results["growth"].setdefault(dimension, [])
        for value in values:
            self.harness.say(f"growth: {dimension} {value}")
            try:
                points.append({"x": value, **function(value)})
            except NotMeasured as e:
                points.append({"x": value, "error": str(e)})
                self.harness.say(f"  not measured: {e}")

    def point(self, *options, inflight=()):
        figures = self.harness.measure("pool", *self.bounds("growth"), *self.rates(inflight=list(inflight)), *options, timeout=240)
        for curve in (figures["latency"], figures["floor"]):
            curve.pop("curve", None)
        return {key: figures[key] for key in ("latency", "floor", "ratio_p50", "ready_ms", "idle_slot_kib", "cpu_us", "rates")}

    def growth(self):
        sizes = self.sizes
        most = json.loads(self.harness.run([self.harness.bench, "info"], 10))
        slots = sorted({min(n, most["slots_max"]) for n in sizes["slots"]})
        busy = self.inflight[1:2]
        self.grow("slots", slots, lambda n: self.point("--slots", n, inflight=busy))
        self.grow("slots", self.slots_possible(), lambda n: self.point("--slots", n, inflight=busy))
        self.grow("layers", sizes["layers"], lambda n: self.point("--slots", 8, "--layers", n, inflight=busy))
        self.grow("files", sizes["files"], lambda n: self.point("--slots", 8, "--files", n, inflight=busy))
        self.grow("files and layers", [sizes["files"][-1]], lambda n: self.point("--slots", 8, "--files", n, "--layers", 32))
        self.queue_growth()
        self.cgroup_growth()

    def slots_possible(self):
        """Where RLIMIT_NOFILE does not allow the most slots, petri says how many it does allow: those are measured instead."""
        points = self.results["growth"]["slots"]
        told = [int(found[1]) for found in (re.search(r"or take (\d+) slots", p.get("error", "")) for p in points) if found]
        return [n for n in told[:1] if n > max((p["x"] for p in points if "error" not in p), default=0)]

    def queue_growth(self):
        """So many jobs given at once: all but a few wait."""
        for name, verb in (("queue", "pool"), ("redis queue", "redis")):
            self.grow(name, self.sizes["queue"], lambda n, verb=verb: self.queue_point(verb, n))

    def queue_point(self, verb, n):
        figures = self.harness.measure(verb, "--runs", self.sizes["growth"][0], "--seconds", 0.2, "--inflight", n, "--slots", 16)
        rate = figures["rates"][0]
        rate["latency"].pop("curve", None)
        return {"ratio_rate": rate["ratio"], "per_s": rate["per_s"], "native_per_s": rate["native_per_s"], "cpu_us": rate["cpu_us"],
                "latency": rate["latency"]}

    def cgroup_growth(self):
        cgroups = host.Cgroups(self.harness)

        def at(n):
            try:
                cgroups.grow(n)
            except OSError as e:
                raise NotMeasured(str(e)) from e
            return self.point("--slots", 8, inflight=self.inflight[1:2])
        try:
            self.grow("cgroups", self.sizes["cgroups"], at)
        finally:
            cgroups.remove()

    def limits(self):
        self.harness.say("limits: how far past")
        try:
            self.results["limits"] = self.harness.measure("limits", *self.bounds("limits"), timeout=300)
        except NotMeasured as e:
            self.results["limits"] = {"error": str(e), "cases": []}
            self.harness.say(f"  not measured: {e}")

    def runtime(self):
        self.harness.say("runtime: python3 that waits")
        try:
            self.results["runtime"] = self.harness.measure("runtime", *self.bounds("runtime"))
        except NotMeasured as e:
            self.results["runtime"] = {"error": str(e)}
            self.harness.say(f"  not measured: {e}")

    def store_figures(self):
        found = self.results["store"] = {}
        for name, say, function in (("stamp", "a root of 1 layer and of 32", lambda: self.harness.measure("stamp", *self.bounds("stamp"))),
                                    ("import", "the import of a large image, and tar -x", lambda: store.measure_import(self.harness, *self.sizes["import"]))):
            self.harness.say(f"store: {say}")
            try:
                found[name] = function()
            except (NotMeasured, OSError) as e:
                found[name] = {"error": str(e)}
                self.harness.say(f"  not measured: {e}")

    SECTIONS = ("pool", "runtime", "floor", "redis", "petri_run", "peers", "growth", "limits", "store")

    def run(self, only):
        self.results["host"] = host.describe(self.harness)
        for section in self.SECTIONS:
            if not only or section in only or section == "floor":
                getattr(self, "store_figures" if section == "store" else section)()
        self.results["seconds"] = round(time.monotonic() - self.harness.begun)
        return self.results
