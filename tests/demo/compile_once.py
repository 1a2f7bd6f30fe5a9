"""Compile once, run on a hundred tests: what a compile job commits is the layer of all the runs, which differ in their input only."""
from dataclasses import replace

from submissions import Submission

TESTS = 100
LARGE = 10          # of them have an input that comes from the store
NUMBERS = 150000    # in each of those

PROGRAM = Submission("sums", "C++", verdict="AC", limits={"cpu_ms": 300}, source=r"""
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <set>

int main()
{
	std::ios::sync_with_stdio(false);
	uint64_t n = 0, sum = 0;
	volatile bool on = true;
	std::set<int64_t> seen;
	for (int64_t x; std::cin >> x; n++) {
		if (x == -1)
			abort();
		while (x == -2 && on)
			;
		sum += static_cast<uint64_t>(x);
		if (seen.size() < 1000)
			seen.insert(x);
	}
	printf("%llu %llu %zu\n", (unsigned long long)n, (unsigned long long)sum, seen.size());
}
""")


def numbers(test):
    """Of test number `test`: a few, or many. No two tests have the same."""
    count = NUMBERS if test < LARGE else 5 + test
    return [(test * 7919 + i * i * 31 + 17) % 1000003 for i in range(count)]


def expected(values):
    first = set()
    for x in values:
        if len(first) == 1000:
            break
        first.add(x)
    return f"{len(values)} {sum(values)} {len(first)}"


def cases():
    """[(the submission with the verdict that must come out, input)]; the last two make the program fail."""
    found = []
    for test in range(TESTS - 2):
        values = numbers(test)
        found.append((replace(PROGRAM, answer=expected(values)), " ".join(map(str, values)) + "\n"))
    found.append((replace(PROGRAM, verdict="RE", status="signaled", signal=6), "1 2 -1\n"))
    found.append((replace(PROGRAM, verdict="TLE", status="cpu_limit"), "1 2 -2\n"))
    return found
