/* What the attacks on the boundary share: text of small files, the pids that can be seen, attempts in a child. */
#pragma once

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attack.h"

/* read_text - the beginning of a file as a string. Return: its length, or -1 with errno. */
static inline long read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -1;
	size_t len = 0;
	long n = 0;
	while (len < size - 1 && (n = read(fd, text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	int saved = errno;
	(void)close(fd);
	errno = saved;
	text[len] = '\0';
	return n < 0 && len == 0 ? -1 : (long)len;
}

/* status_field - a line of /proc/PID/status, without its name. Return: 0, or -1 when there is none. */
static inline int status_field(int pid, const char *name, char *value, size_t size)
{
	char path[64], text[4096];
	(void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (read_text(path, text, sizeof(text)) < 0)
		return -1;
	const char *line = strstr(text, name);
	if (!line)
		return -1;
	line += strlen(name) + 1;
	line += strspn(line, " \t");
	(void)snprintf(value, size, "%.*s", (int)strcspn(line, "\n"), line);
	return 0;
}

/* in_child - run an attempt in a process of its own; what it says counts. Return: its wait status. */
static inline int in_child(void (*attempt)(void *arg), void *arg)
{
	int status = -1;
	(void)attack_broken();
	pid_t pid = fork();
	if (pid == 0) {
		attempt(arg);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		broken("no child for an attempt: %s", strerror(errno));
	return status;
}

/* unprivileged - this process has no capability and no id but the one it began with, and can get none by exec. */
static inline void unprivileged(const char *after, uid_t uid)
{
	static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
	char value[64], ids[64], want[64];
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		if (status_field(getpid(), sets[i], value, sizeof(value)) < 0 || strspn(value, "0") != strlen(value))
			broken("%s: %s is %s", after, sets[i], value);
	(void)snprintf(want, sizeof(want), "%u\t%u\t%u\t%u", uid, uid, uid, uid);
	if (status_field(getpid(), "Uid", ids, sizeof(ids)) < 0 || strcmp(ids, want) != 0)
		broken("%s: the ids are %s", after, ids);
	if (status_field(getpid(), "NoNewPrivs", value, sizeof(value)) < 0 || strcmp(value, "1") != 0)
		broken("%s: no_new_privs is %s", after, value);
	held("%s: no capability, no id, no way to one", after);
}

/* Do this for every process that can be seen but this one and its threads. Return: how many there were. */
static inline int each_pid(void (*f)(int pid))
{
	int seen = 0;
	DIR *dir = opendir("/proc");
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (isdigit((unsigned char)e->d_name[0]) && atoi(e->d_name) != getpid()) {
			f(atoi(e->d_name));
			seen++;
		}
	if (dir)
		(void)closedir(dir);
	return seen;
}
