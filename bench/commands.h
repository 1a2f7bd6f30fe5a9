/* The verbs of petri-bench. Each parses its options and returns an exit code. */
#pragma once

int bench_pool(int argc, char **argv);
/* bench_combined - without a verb: a short form of pool. */
int bench_combined(int argc, char **argv);
int bench_command(int argc, char **argv);
int bench_serve(int argc, char **argv);
int bench_queue(int argc, char **argv);
int bench_redis(int argc, char **argv);
int bench_runtime(int argc, char **argv);
int bench_stamp(int argc, char **argv);
int bench_limits(int argc, char **argv);
int bench_info(int argc, char **argv);
