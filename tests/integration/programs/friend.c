/* friend: an honest program, run beside and after hostile ones (tests/attacks). It needs a little of everything that they try to
 * exhaust, and finds its places as empty as they were promised. Says what is wrong, and exits 1, or one fixed line. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1 << 20)

static int wrong;

static void check(int good, const char *what)
{
	if (good)
		return;
	wrong = 1;
	printf("wrong: %s\n", what);
	perror("the last error");
}

/* Nothing lies there but, perhaps, this program. */
static void check_empty(const char *path)
{
	DIR *d = opendir(path);
	check(d != NULL, path);
	if (!d)
		return;
	for (const struct dirent *e; (e = readdir(d)) != NULL;) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && strcmp(e->d_name, "friend") != 0) {
			printf("wrong: %s/%s is there\n", path, e->d_name);
			wrong = 1;
		}
	}
	closedir(d);
}

static void check_disk(const char *path)
{
	static char out[MIB], in[MIB];
	memset(out, 'x', sizeof(out));
	FILE *f = fopen(path, "w+");
	check(f != NULL, path);
	if (!f)
		return;
	check(fwrite(out, 1, sizeof(out), f) == sizeof(out) && fflush(f) == 0, "a file can be written");
	rewind(f);
	check(fread(in, 1, sizeof(in), f) == sizeof(in) && memcmp(in, out, sizeof(in)) == 0, "a file can be read back");
	check(fclose(f) == 0 && unlink(path) == 0, "a file can be removed");
}

static void check_memory(void)
{
	char *p = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(p != MAP_FAILED, "16 MiB of memory");
	if (p != MAP_FAILED)
		memset(p, 1, 16 * MIB);
}

static void *count(void *arg)
{
	unsigned long *sum = arg;
	for (unsigned long i = 1; i <= 1000000; i++)
		*sum += i;
	return NULL;
}

static void check_threads(void)
{
	pthread_t threads[4];
	unsigned long sums[4] = {0};
	for (int i = 0; i < 4; i++)
		check(pthread_create(&threads[i], NULL, count, &sums[i]) == 0, "a thread");
	for (int i = 0; i < 4; i++)
		check(pthread_join(threads[i], NULL) == 0 && sums[i] == 500000500000UL, "what a thread computed");
}

static void check_children(void)
{
	for (int i = 0; i < 8; i++) {
		int fds[2], status = -1;
		char byte = 0;
		check(pipe(fds) == 0, "a pipe");
		pid_t pid = fork();
		if (pid == 0)
			_exit(write(fds[1], "y", 1) == 1 ? i : 99);
		check(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == i, "a child");
		check(read(fds[0], &byte, 1) == 1 && byte == 'y', "a byte through a pipe");
		close(fds[0]);
		close(fds[1]);
	}
}

/* What a job beside this one may have locked under the same name. */
static void check_locks(void)
{
	static const char *const names[] = {"/", "/etc/passwd", "/usr/bin", "/usr"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int fd = open(names[i], O_RDONLY);
		check(fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0, names[i]);
	}
}

int main(void)
{
	check_locks();
	struct stat st;
	check(stat("/work", &st) == 0 && st.st_uid == getuid(), "/work is the job's own");
	check_empty("/work");
	check_empty("/tmp");
	check_empty("/dev/shm");
	check_disk("/work/file");
	check_disk("/tmp/file");
	check_memory();
	check_threads();
	check_children();
	if (!wrong)
		puts("the honest job found all as it should be");
	return wrong;
}
