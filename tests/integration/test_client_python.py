"""A client in another language: the one that docs/clients.md shows, run as it stands there with Debian's python3-redis."""
import os
import re
import time

from lib import PREFIX, main

DOCUMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "clients.md")


def client(t):
    """The document's own class, on this case's Redis."""
    try:
        import redis
    except ImportError:
        t.skip("python3-redis")
    with open(DOCUMENT, encoding="utf-8") as f:
        source = re.search(r"```python\n(.*?)```", f.read(), re.S).group(1)
    names = {}
    exec(compile(source, DOCUMENT, "exec"), names)  # pylint: disable=exec-used
    connection = redis.Redis(unix_socket_path=t.redis.socket, decode_responses=True)
    t.defer(connection.close)
    return names["Petri"](connection, PREFIX), names


def sleeper(seconds, **more):
    return {"argv": ["/bin/sh", "-c", f"sleep {seconds}; echo slept"], **more}


def test_submit_and_wait(t):
    petri, _ = client(t)
    t.worker(slots=2)
    petri.submit("one", {"argv": ["/bin/echo", "ü"], "meta": {"k": [1, None]}, "reply": "front"})
    result = petri.wait("one", 30)
    t.equal((result["id"], result["status"], result["stdout"]["data"], result["meta"]), ("one", "exited", "ü\n", {"k": [1, None]}))
    t.equal(petri.wait("one", 0), result, "a second waiter gets it, too")
    t.equal(petri.wait("never", 0.2), None)
    petri.submit("one", {"argv": ["/bin/echo", "again"]})  # an answer that was lost: it is added again
    petri.submit("bad", {"argv": ["/bin/true"], "limits": {"wall_ms": -1}, "reply": "front"})
    t.equal(petri.wait("bad", 30)["field"], "limits.wall_ms")
    t.equal(petri.wait("one", 30), result)
    told = list(petri.results("front"))
    t.equal([(i, status, meta) for _, i, status, meta in told][0], ("one", "exited", {"k": [1, None]}))
    t.equal(list(petri.results("front", told[-1][0])), [])


def test_status_and_cancel(t):
    petri, _ = client(t)
    t.worker(slots=1)
    petri.submit("long", sleeper(30))
    t.eventually(lambda: petri.status("long") == "running", "it runs", 20)
    petri.submit("queued", {"argv": ["/bin/true"]})
    t.equal(petri.status("queued"), "unknown")
    t.equal(petri.cancel("queued"), "cancelled")
    t.equal(petri.wait("queued", 5)["status"], "cancelled")
    began = time.monotonic()
    t.equal(petri.cancel("long"), "requested")
    t.equal(petri.wait("long", 20)["status"], "cancelled")
    t.check(time.monotonic() - began < 5 * t.scale, "it was to be killed at once")
    t.equal((petri.status("long"), petri.cancel("long")), ("done", "finished"))
    petri.submit("after", {"argv": ["/bin/echo", "x"]})
    t.equal(petri.wait("after", 30)["status"], "exited")
    t.eventually(lambda: petri.redis.xlen(petri.key("jobs")) == 0, "what was cancelled is dropped")


def test_tenants_and_priorities(t):
    """A single slot that is busy while jobs pile up: the order in which they end tells how they were chosen."""
    petri, _ = client(t)
    worker = t.worker(slots=1)
    petri.submit("plug", sleeper(1.5))
    t.eventually(lambda: petri.status("plug") == "running", "it runs", 20)
    for i in range(20):
        petri.submit(f"a{i}", {"argv": ["/bin/true"], "tenant": "a", "reply": "order"})
    petri.submit("b0", {"argv": ["/bin/true"], "tenant": "b", "reply": "order"})
    for i in range(2):
        petri.submit(f"l{i}", {"argv": ["/bin/true"], "priority": "low", "reply": "order"})
    for i in range(8):
        petri.submit(f"h{i}", {"argv": ["/bin/true"], "priority": "high", "reply": "order"})
    t.eventually(lambda: len(list(petri.results("order"))) == 31, f"all are done\n{worker.log}", 60)
    order = [i for _, i, _, _ in petri.results("order")]
    t.check(order.index("b0") < 8, f"one tenant's jobs kept another's waiting: {order}")
    t.check(order.index("h7") < 16, f"high ones first: {order}")
    t.check(order.index("l0") < 16, f"low ones in between: {order}")


def test_one_worker_and_depth(t):
    petri, names = client(t)
    t.worker(slots=1, name="here")
    petri.submit("routed", {"argv": ["/bin/echo", "x"], "worker": "here"})
    t.equal(petri.wait("routed", 30)["worker"], "here")
    petri.submit("nobody", {"argv": ["/bin/true"], "worker": "elsewhere"}, max_depth=1)
    t.equal(petri.wait("nobody", 0.5), None)
    try:
        petri.submit("too-many", {"argv": ["/bin/true"], "worker": "elsewhere"}, max_depth=1)
    except names["Full"]:
        pass
    else:
        t.check(False, "the queue was full")
    petri.submit("late", {"argv": ["/bin/true"], "not_after_ms": 1})
    result = petri.wait("late", 30)
    t.equal((result["status"], result["message"]), ("cancelled", "not_after_ms has passed"))


if __name__ == "__main__":
    main(globals())
