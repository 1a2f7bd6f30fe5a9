"""What the demo submits: real programs in C, C++ and Python, and what must become of each."""
from dataclasses import dataclass, field

MIB = 1 << 20
COMPILE_LIMITS = {"wall_ms": 60000, "cpu_ms": 30000, "memory_bytes": 512 * MIB, "disk_bytes": 64 * MIB}
RUN_LIMITS = {"wall_ms": 5000, "cpu_ms": 1000, "memory_bytes": 64 * MIB, "pids": 32, "disk_bytes": 16 * MIB,
              "output_bytes": 64 << 10}

# How each language is compiled and run. Everything happens beneath /work, which the compile job commits as a layer.
LANGUAGES = {
    "C": {"file": "/work/main.c", "compile": ["/usr/bin/gcc", "-O2", "-std=gnu17", "-o", "/work/a.out", "/work/main.c"],
          "run": ["/work/a.out"]},
    "C++": {"file": "/work/main.cpp",
            "compile": ["/usr/bin/g++", "-O2", "-std=gnu++20", "-o", "/work/a.out", "/work/main.cpp"],
            "run": ["/work/a.out"]},
    "Python": {"file": "/work/main.py", "compile": ["/usr/bin/python3", "-m", "py_compile", "/work/main.py"],
               "run": ["/usr/bin/python3", "/work/main.py"]},
}

# README's mapping, minus what needs more than the status: exited is AC, WA, RE or CE.
VERDICTS = {"signaled": "RE", "cpu_limit": "TLE", "wall_limit": "TLE", "memory_limit": "MLE", "output_limit": "OLE",
            "disk_limit": "DLE", "violation": "SV"}


@dataclass
class Submission:
    name: str
    language: str
    source: str
    verdict: str                       # what must come out
    status: str = "exited"
    stdin: str = ""
    answer: str = ""                   # the right answer
    limits: dict = field(default_factory=dict)
    exit_code: int | None = None       # where it matters
    signal: int | None = None
    violation: str | None = None
    hits_pids: bool = False            # pids_limit_hits must be more than 0

    def compile_job(self, job_id):
        language = LANGUAGES[self.language]
        return {"id": job_id, "image": "gcc", "argv": language["compile"], "policy": "judge",
                "env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"], "files": {language["file"]: {"data": self.source}},
                "commit": "/work", "limits": COMPILE_LIMITS}

    def run_job(self, job_id, layer, stdin=None):
        return {"id": job_id, "image": "gcc", "layers": [layer], "argv": LANGUAGES[self.language]["run"],
                "env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"], "policy": "judge",
                "stdin": {"data": self.stdin if stdin is None else stdin}, "limits": {**RUN_LIMITS, **self.limits}}

    def judge(self, result, compiling=False):
        """The verdict of an online judge on a result."""
        status = result["status"]
        if compiling and (status != "exited" or result["exit_code"] != 0):
            return "CE" if status == "exited" else VERDICTS.get(status, "IE")
        if status != "exited":
            return VERDICTS.get(status, "IE")
        if result["exit_code"] != 0:
            return "RE"
        return "AC" if (result["stdout"].get("data") or "").split() == self.answer.split() else "WA"

    def problems(self, result, compiling=False):
        """Everything in which a result differs from what was expected."""
        found = []
        verdict = self.judge(result, compiling)
        if verdict != self.verdict:
            found.append(f"verdict {verdict}")
        if result["status"] != self.status:
            found.append(f"status {result['status']}, not {self.status}")
        for key in ("exit_code", "signal"):
            want = getattr(self, key)
            if want is not None and result[key] != want:
                found.append(f"{key} {result[key]}, not {want}")
        if self.violation and (result.get("violation") or {}).get("syscall") != self.violation:
            found.append(f"violation {result.get('violation')}, not {self.violation}")
        if self.hits_pids and not result["usage"]["pids_limit_hits"]:
            found.append("no pids_limit_hits")
        if found and result.get("message"):
            found.append(result["message"])
        return found


SUM_C = r"""
#include <stdio.h>
int main(void)
{
        long long sum = 0, x;
        while (scanf("%lld", &x) == 1)
                sum += x;
        printf("%lld\n", sum);
}
"""

PRIMES_CPP = r"""
#include <iostream>
#include <vector>
int main()
{
        int n, count = 0;
        std::cin >> n;
        std::vector<bool> composite(n + 1);
        for (long i = 2; i <= n; i++) {
                if (composite[i])
                        continue;
                count++;
                for (long j = i * i; j <= n; j += i)
                        composite[j] = true;
        }
        std::cout << count << '\n';
}
"""

WORDS_PY = """
import collections, sys
words = collections.Counter(sys.stdin.read().split())
for word, n in sorted(words.items()):
    print(word, n)
"""

WRONG_C = r"""
#include <stdio.h>
int main(void)
{
        int a, b;
        if (scanf("%d %d", &a, &b) == 2)
                printf("%d\n", a - b);
}
"""

WRONG_PY = "print(sum(int(x) for x in input().split()) + 1)\n"

SEGV_C = r"""
int main(void)
{
        volatile int *nowhere = 0;
        return *nowhere;
}
"""

THROW_CPP = r"""
#include <stdexcept>
int main()
{
        throw std::runtime_error("nobody catches this");
}
"""

RAISE_PY = "print([1, 2, 3][3])\n"

EXIT_C = "int main(void)\n{\n        return 42;\n}\n"

BROKEN_CPP = "#include <iostream>\nint main()\n{\n        std::cout << undeclared << std::endl\n}\n"

BROKEN_PY = "def f(:\n    pass\n"

SPIN_C = "int main(void)\n{\n        for (volatile unsigned i = 0;; i++)\n                ;\n}\n"

SPIN_PY = "while True:\n    pass\n"

SLEEP_CPP = """
#include <chrono>
#include <thread>
int main()
{
        std::this_thread::sleep_for(std::chrono::hours(1));
}
"""

MEMORY_CPP = """
#include <cstring>
#include <vector>
int main()
{
        std::vector<char *> kept;
        for (;;) {
                kept.push_back(new char[1 << 20]);
                std::memset(kept.back(), 1, 1 << 20);
        }
}
"""

MEMORY_PY = "kept = []\nwhile True:\n    kept.append(bytearray(b'x' * (1 << 20)))\n"

OUTPUT_C = r"""
#include <stdio.h>
int main(void)
{
        for (;;)
                puts("all work and no play makes a long output");
}
"""

DISK_C = r"""
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
int main(void)
{
        static char block[1 << 16];
        memset(block, 'x', sizeof(block));
        int fd = open("/work/big", O_WRONLY | O_CREAT, 0600);
        if (fd < 0)
                return 2;
        for (;;)
                if (write(fd, block, sizeof(block)) < 0)
                        return 1;
}
"""

# Forks until it may not, then says how far it came. The children wait for the end that petri gives them.
FORK_C = r"""
#include <stdio.h>
#include <unistd.h>
int main(void)
{
        for (int n = 0;; n++) {
                pid_t pid = fork();
                if (pid < 0) {
                        printf("%d children\n", n);
                        return 1;
                }
                if (pid == 0)
                        for (;;)
                                pause();
        }
}
"""

MOUNT_C = r"""
#include <stdio.h>
#include <sys/mount.h>
int main(void)
{
        if (mount("none", "/tmp", "tmpfs", 0, "") < 0)
                perror("mount");
}
"""

MOUNT_PY = """
import ctypes
ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None)
print("still here")
"""

SUBMISSIONS = (
    Submission("sum", "C", SUM_C, "AC", stdin="1 2 3 4 5\n", answer="15", exit_code=0),
    Submission("primes", "C++", PRIMES_CPP, "AC", stdin="1000000\n", answer="78498", exit_code=0),
    Submission("word count", "Python", WORDS_PY, "AC", stdin="b a b\n", answer="a 1 b 2", exit_code=0),
    Submission("minus for plus", "C", WRONG_C, "WA", stdin="2 2\n", answer="4", exit_code=0),
    Submission("off by one", "Python", WRONG_PY, "WA", stdin="2 2\n", answer="4", exit_code=0),
    Submission("null pointer", "C", SEGV_C, "RE", status="signaled", signal=11),
    Submission("exit code 42", "C", EXIT_C, "RE", exit_code=42),
    Submission("uncaught throw", "C++", THROW_CPP, "RE", status="signaled", signal=6),
    Submission("index error", "Python", RAISE_PY, "RE", exit_code=1),
    Submission("does not compile", "C++", BROKEN_CPP, "CE", exit_code=1),
    Submission("syntax error", "Python", BROKEN_PY, "CE", exit_code=1),
    Submission("endless loop", "C", SPIN_C, "TLE", status="cpu_limit", limits={"cpu_ms": 300}),
    Submission("endless loop", "Python", SPIN_PY, "TLE", status="cpu_limit", limits={"cpu_ms": 300}),
    Submission("sleeps for ever", "C++", SLEEP_CPP, "TLE", status="wall_limit", limits={"wall_ms": 500}),
    Submission("eats memory", "C++", MEMORY_CPP, "MLE", status="memory_limit"),
    Submission("eats memory", "Python", MEMORY_PY, "MLE", status="memory_limit"),
    Submission("endless output", "C", OUTPUT_C, "OLE", status="output_limit"),
    Submission("fills the disk", "C", DISK_C, "DLE", status="disk_limit", limits={"disk_bytes": 8 * MIB}),
    Submission("fork bomb", "C", FORK_C, "RE", exit_code=1, hits_pids=True),
    Submission("calls mount()", "C", MOUNT_C, "SV", status="violation", violation="mount"),
    Submission("calls mount()", "Python", MOUNT_PY, "SV", status="violation", violation="mount"),
)
