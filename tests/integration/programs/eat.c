/* eat MIB [HOW]: touch MIB mebibytes of anonymous memory (default), System V shared memory ("shm") or a memfd
 * ("memfd"), and say so; "hold": keep it for two seconds. "child": a child does it and is killed for it, the parent ends as
 * if nothing had been. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

static void *get(const char *how, size_t bytes)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS, fd = -1;
	if (strcmp(how, "shm") == 0) {
		int id = shmget(IPC_PRIVATE, bytes, 0600);
		return id < 0 ? MAP_FAILED : shmat(id, NULL, 0);
	}
	if (strcmp(how, "memfd") == 0) {
		fd = memfd_create("eat", 0);
		if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
			return MAP_FAILED;
		flags = MAP_SHARED;
	}
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
}

int main(int argc, char **argv)
{
	size_t bytes = (argc > 1 ? strtoul(argv[1], NULL, 10) : 1) << 20;
	const char *how = argc > 2 ? argv[2] : "";
	if (strcmp(how, "child") == 0) {
		pid_t pid = fork();
		int status;
		if (pid > 0) {
			waitpid(pid, &status, 0);
			puts("the parent lives");
			return 0;
		}
	}
	char *p = get(how, bytes);
	if (p == MAP_FAILED) {
		perror("eat");
		return 1;
	}
	for (size_t i = 0; i < bytes; i += 4096)
		p[i] = 1;
	puts("eaten");
	if (strcmp(how, "hold") == 0)
		sleep(2);
	return 0;
}
