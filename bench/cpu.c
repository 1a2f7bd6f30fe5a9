/* CPU time by process tree; see the header. Reads proc(5), needs no privilege. */
#include "bench/cpu.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

static uint64_t timeval_us(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

uint64_t cpu_self_us(void)
{
	struct rusage children;
	struct timespec own;
	if (getrusage(RUSAGE_CHILDREN, &children) < 0 || clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own) < 0)
		return 0;
	return timeval_us(children.ru_utime) + timeval_us(children.ru_stime) + (uint64_t)own.tv_sec * 1000000 +
		(uint64_t)own.tv_nsec / 1000;
}

/* Return: the length of what the file holds, or -1. */
static ssize_t read_text(const char *path, char *buf, size_t cap)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, cap - 1);
	buf[MAX(n, (ssize_t)0)] = '\0';
	return n;
}

/* Sum of the first number of each thread's schedstat: nanoseconds on a CPU. */
static uint64_t threads_ns(pid_t pid)
{
	char path[64], text[128];
	uint64_t sum = 0;
	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	_cleanup_closedir_ DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		if (e->d_name[0] == '.')
			continue;
		char file[128];
		(void)snprintf(file, sizeof(file), "/proc/%d/task/%.20s/schedstat", pid, e->d_name);
		if (read_text(file, text, sizeof(text)) > 0)
			sum += strtoull(text, NULL, 10);
	}
	return sum;
}

struct stat_line {
	pid_t parent;
	uint64_t own_us, reaped_us;
};

/* Return: 0, or -1 when the process is gone. */
static int read_stat(pid_t pid, struct stat_line *ret)
{
	char path[64], line[1024];
	long ticks = sysconf(_SC_CLK_TCK);
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_text(path, line, sizeof(line)) <= 0)
		return -1;
	/* The name may hold anything, blanks and brackets too. */
	char *rest = strrchr(line, ')');
	long long parent, user, system, reaped_user, reaped_system;
	if (!rest || sscanf(rest + 1, " %*c %lld %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld %lld %lld", &parent, &user, &system, &reaped_user, &reaped_system) != 5)
		return -1;
	ret->parent = (pid_t)parent;
	ret->own_us = (uint64_t)(user + system) * 1000000 / (uint64_t)ticks;
	ret->reaped_us = (uint64_t)(reaped_user + reaped_system) * 1000000 / (uint64_t)ticks;
	return 0;
}

static uint64_t process_us(pid_t pid, const struct stat_line *stat)
{
	if (pid == getpid())
		return cpu_self_us();
	uint64_t exact = threads_ns(pid) / 1000;
	return MAX(exact, stat->own_us) + stat->reaped_us;
}

struct process {
	pid_t pid;
	struct stat_line stat;
	bool ours;
};

static int compare_pids(const void *a, const void *b)
{
	pid_t x = ((const struct process *)a)->pid, y = ((const struct process *)b)->pid;
	return x < y ? -1 : x > y;
}

static size_t read_processes(struct process **ret)
{
	struct process *all = NULL;
	size_t n = 0, cap = 0;
	_cleanup_closedir_ DIR *dir = opendir("/proc");
	for (struct dirent *e; dir && (e = readdir(dir));) {
		if (e->d_name[0] < '0' || e->d_name[0] > '9')
			continue;
		if (n == cap) {
			cap = cap ? cap * 2 : 256;
			struct process *bigger = realloc(all, cap * sizeof(*bigger));
			if (!bigger)
				abort();
			all = bigger;
		}
		all[n] = (struct process){.pid = (pid_t)strtol(e->d_name, NULL, 10)};
		if (read_stat(all[n].pid, &all[n].stat) == 0)
			n++;
	}
	if (n > 0)
		qsort(all, n, sizeof(*all), compare_pids);
	*ret = all;
	return n;
}

static bool is_ours(const struct process *all, size_t n, pid_t parent)
{
	const struct process key = {.pid = parent}, *found = bsearch(&key, all, n, sizeof(key), compare_pids);
	return found && found->ours;
}

uint64_t cpu_tree_us(pid_t root, pid_t except)
{
	_cleanup_free_ struct process *all = NULL;
	size_t n = read_processes(&all);
	uint64_t sum = 0;
	/* A child may come before its parent where pids have wrapped around: look until nothing is added. */
	for (bool more = true; more;) {
		more = false;
		for (size_t i = 0; i < n; i++) {
			if (all[i].ours || all[i].pid == except || (all[i].pid != root && !is_ours(all, n, all[i].stat.parent)))
				continue;
			all[i].ours = more = true;
			sum += process_us(all[i].pid, &all[i].stat);
		}
	}
	return sum;
}
