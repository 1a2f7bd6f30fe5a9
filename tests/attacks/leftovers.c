/*
 * Tries: in files, IPC, processes, sockets, locks, memory and attributes, to leave something that the slot's next job finds
 * Must: the next job sees exactly what the first one in a new slot saw
 * Stopped by: what is made anew for every job (mounts, places, pid, ipc and network namespaces), the leaf that is killed and must be empty,
 *             the overlay that is thrown away as soon as a job changed anything in it
 * Without it: (CLONE_NEWIPC left out) "shm 0 msg 0 sem 0 mq 3"; (/dev/shm kept) its mode and all names; (the root taken for untouched)
 *             all names in /var/tmp
 */
// driven-by: tests/integration/test_attacks_leftovers.py
/*
 * leftovers plant all: leave all that can be left; root: without a second process, so that its cgroup may be used again; daemon: without
 * a change to the root, so that its overlay may be; quiet: without either.
 * leftovers hold: what has to do with locks and sockets, until it is cancelled. leftovers nothing: nothing.
 * leftovers look: print what a job can see of its surroundings, "key: value" lines that should be the same for every job.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define KEY 0x4711
#define MIB (1ul << 20)
#define PATTERN 0x5ec2e75ec2e75ec2ul /* what is looked for in memory */
#define FILL (16 * MIB)

static const char *const places[] = {"/work", "/tmp", "/dev/shm", "/var/tmp"};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void join(char *buf, size_t size, const char *dir, const char *name)
{
	(void)!snprintf(buf, size, "%s/%s", dir, name);
}

/* ---- plant ---- */
static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	if (fd < 0)
		return;
	(void)!write(fd, text, strlen(text));
	(void)fsetxattr(fd, "user.left", "x", 1, 0);
	close(fd);
}

static void plant_files(const char *top)
{
	char path[512], other[512];
	static const char *const names[] = {"left", ".hidden", "...", " ", "\n", "\xff\xfe", "-rf", ".wh.left", ".wh..wh..opq"};
	for (size_t i = 0; i < COUNT(names); i++) {
		join(path, sizeof(path), top, names[i]);
		write_file(path, "secret");
	}
	join(path, sizeof(path), top, "dir");
	(void)mkdir(path, 0);
	join(path, sizeof(path), top, "fifo");
	(void)mkfifo(path, 0666);
	join(path, sizeof(path), top, "link");
	(void)!symlink("/etc/passwd", path);
	join(path, sizeof(path), top, "left");
	join(other, sizeof(other), top, "hard");
	(void)!link(path, other);
	(void)setxattr(top, "user.left", "x", 1, 0);
	(void)chmod(top, 0711);
	const struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	(void)utimensat(AT_FDCWD, top, old, 0);
}

static void plant_ipc(void)
{
	int shm = shmget(KEY, 4096, IPC_CREAT | 0666);
	char *p = shm < 0 ? NULL : shmat(shm, NULL, 0);
	if (p && (intptr_t)p != -1)
		memcpy(p, "secret", 7);
	int msg = msgget(KEY, IPC_CREAT | 0666);
	const struct {
		long type;
		char text[8];
	} m = {1, "secret"};
	(void)msgsnd(msg, &m, sizeof(m.text), IPC_NOWAIT);
	(void)semget(KEY, 3, IPC_CREAT | 0666);
	mqd_t mq = mq_open("/left", O_CREAT | O_RDWR, 0666, NULL);
	if (mq != (mqd_t)-1)
		(void)mq_send(mq, "secret", 6, 0);
}

static int listening(int family, int type, const struct sockaddr *addr, socklen_t len)
{
	int s = socket(family, type, 0);
	if (s < 0 || bind(s, addr, len) < 0 || (type == SOCK_STREAM && listen(s, 5) < 0))
		return -1;
	return s;
}

/* Sockets that hold each other in flight, which only the kernel's collector ends. */
static void plant_cycle(void)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return;
	(void)!write(pair[0], "secret", 6);
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = (char[]){"x"}, .iov_len = 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(&control.header), &pair[1], sizeof(int));
	(void)sendmsg(pair[0], &m, 0);
	close(pair[0]);
	close(pair[1]);
}

static void plant_sockets(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "\0left"};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(KEY), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	(void)listening(AF_UNIX, SOCK_STREAM, (struct sockaddr *)&un, sizeof(un));
	(void)listening(AF_UNIX, SOCK_DGRAM, (struct sockaddr *)&un, sizeof(un));
	memcpy(un.sun_path, "/tmp/left.sock", 15);
	(void)listening(AF_UNIX, SOCK_STREAM, (struct sockaddr *)&un, sizeof(un));
	(void)listening(AF_INET, SOCK_STREAM, (struct sockaddr *)&in, sizeof(in));
	int udp = listening(AF_INET, SOCK_DGRAM, (struct sockaddr *)&in, sizeof(in));
	for (int i = 0; i < 100; i++)
		(void)sendto(udp, "x", 1, 0, (struct sockaddr *)&in, sizeof(in));
	plant_cycle();
}

/* On files that all jobs of the image see. */
static void plant_locks(const char *path)
{
	int fd = open(path, O_RDONLY), other = open(path, O_RDONLY);
	struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	(void)flock(fd, LOCK_EX | LOCK_NB);
	(void)fcntl(other, F_OFD_SETLK, &whole);
	(void)fcntl(fd, F_SETLK, &whole);
	(void)fcntl(fd, F_SETLEASE, F_RDLCK);
	(void)fcntl(fd, F_SETLEASE, F_WRLCK);
	(void)fcntl(fd, F_NOTIFY, DN_ACCESS | DN_MULTISHOT);
	uint64_t hint = 5;
	(void)fcntl(fd, 1036 /* F_SET_RW_HINT */, &hint);
	int watch = inotify_init1(0);
	(void)inotify_add_watch(watch, path, IN_ALL_EVENTS);
	(void)inotify_add_watch(watch, "/", IN_ALL_EVENTS);
}

/* 24 pages at each place where the next program could get pages from: anonymous, stack, shared, pipe. */
static void plant_memory(void)
{
	uint64_t *p = mmap(NULL, FILL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; p != MAP_FAILED && i < FILL / sizeof(*p); i++)
		p[i] = PATTERN;
	for (int i = 0; i < 16; i++) {
		int fds[2];
		if (pipe2(fds, O_NONBLOCK) == 0 && p != MAP_FAILED)
			(void)!write(fds[1], p, 65536);
	}
}

static void plant_attributes(void)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	(void)sched_setaffinity(0, sizeof(one), &one);
	(void)setpriority(PRIO_PROCESS, 0, 15);
	(void)setpriority(PRIO_USER, 0, 15);
	(void)setpriority(PRIO_PGRP, 0, 15);
	(void)sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
	(void)syscall(SYS_ioprio_set, 3 /* IOPRIO_WHO_USER */, getuid(), 3 << 13 /* idle */);
	(void)prctl(PR_SET_TIMERSLACK, 1000000);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	(void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	(void)prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0);
	(void)prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0);
	(void)prctl(PR_SET_NAME, "left");
	struct rlimit low = {7, 7};
	(void)setrlimit(RLIMIT_SIGPENDING, &low);
	(void)setrlimit(RLIMIT_MSGQUEUE, &low);
	(void)umask(0777);
	sigset_t all;
	sigfillset(&all);
	(void)sigprocmask(SIG_BLOCK, &all, NULL);
	for (int s = 1; s < NSIG; s++)
		(void)signal(s, SIG_IGN);
	for (int i = 0; i < 20; i++)
		(void)sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
	if (getenv("SOCKETS")) /* a violation where sockets are */
		(void)sethostname("left", 4);
}

static void hold_everything(void)
{
	plant_cycle();
	plant_locks("/etc/passwd");
	plant_locks("/work/attack");
	if (getenv("SOCKETS"))
		plant_sockets();
	plant_attributes();
}

/* A process that nobody waits for, deaf to every signal but one. */
static void plant_daemon(void)
{
	if (fork() != 0) {
		(void)wait(NULL);
		return;
	}
	(void)setsid();
	if (fork() == 0) {
		hold_everything();
		for (;;)
			(void)pause();
	}
	_exit(0);
}

static int plant(const char *how)
{
	int forks = strcmp(how, "daemon") == 0 || strcmp(how, "all") == 0, root = strcmp(how, "root") == 0 || strcmp(how, "all") == 0;
	for (size_t i = 0; i < COUNT(places) - (size_t)!root; i++)
		plant_files(places[i]);
	plant_ipc();
	plant_memory();
	if (forks)
		plant_daemon();
	hold_everything();
	const struct timespec a_little = {.tv_nsec = 20000000};
	(void)nanosleep(&a_little, NULL); /* for the daemon */
	return 0;
}

/* ---- look ---- */
static void look_place(const char *path)
{
	struct stat st;
	char names[4096] = "", list[512];
	if (stat(path, &st) < 0) {
		printf("%s: %s\n", path, strerror(errno));
		return;
	}
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (strlen(names) < sizeof(names) - 300)
			sprintf(names + strlen(names), "%s ", e->d_name);
	for (char *c = names; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	if (dir)
		closedir(dir);
	ssize_t n = listxattr(path, list, sizeof(list));
	printf("%s: mode %o uid %u gid %u links %ld new %d xattrs %zd: %s\n", path, st.st_mode, st.st_uid, st.st_gid, (long)st.st_nlink,
		st.st_mtime > 1000000, n, names);
}

static void look_ipc(void)
{
	printf("shm %d msg %d sem %d mq %d\n", shmget(KEY, 0, 0), msgget(KEY, 0), semget(KEY, 0, 0), mq_open("/left", O_RDWR));
}

/* Lines, without what counts for the whole machine (mount ids, device numbers: see docs/security.md). */
static void look_text(const char *path)
{
	char line[4096];
	FILE *f = fopen(path, "r");
	if (!f) {
		printf("%s: %s\n", path, strerror(errno));
		return;
	}
	while (fgets(line, sizeof(line), f))
		printf("%s| %s%s", path, line, strchr(line, '\n') ? "" : "\n");
	fclose(f);
}

/* All of /proc/self/net, however deep. */
static void look_net(const char *path)
{
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		char name[600];
		struct stat st;
		join(name, sizeof(name), path, e->d_name);
		if (e->d_name[0] == '.' || lstat(name, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			look_net(name);
		else
			look_text(name);
	}
	if (dir)
		closedir(dir);
}

static void look_locks(const char *path)
{
	int fd = open(path, O_RDONLY), other = open(path, O_RDONLY);
	struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET}, test = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	uint64_t hint = 0;
	struct stat st;
	int flocked = flock(fd, LOCK_EX | LOCK_NB), ofd = fcntl(other, F_OFD_SETLK, &whole), lease = fcntl(fd, F_GETLEASE);
	(void)fcntl(fd, F_SETLK, &whole);
	(void)fcntl(other, F_OFD_GETLK, &test);
	(void)fcntl(fd, 1035 /* F_GET_RW_HINT */, &hint);
	(void)stat(path, &st);
	printf("%s: flock %d ofd %d lease %d hint %d type %d atime %ld\n", path, flocked, ofd, lease, (int)hint, test.l_type,
		strcmp(path, "/etc/passwd") == 0 ? (long)st.st_atime : 0);
	close(fd);
	close(other);
	look_text("/proc/locks");
}

static size_t found_in(const uint64_t *p, size_t bytes)
{
	size_t found = 0;
	for (size_t i = 0; i < bytes / sizeof(*p); i++)
		found += p[i] != 0;
	return found;
}

/* Fresh memory holds zeroes; below the stack pointer lies what the kernel gave. */
static void look_memory(void)
{
	const int kinds[] = {MAP_PRIVATE, MAP_SHARED, MAP_PRIVATE | 0x4000000 /* MAP_UNINITIALIZED */};
	for (size_t i = 0; i < COUNT(kinds); i++) {
		uint64_t *p = mmap(NULL, FILL, PROT_READ | PROT_WRITE, kinds[i] | MAP_ANONYMOUS, -1, 0);
		printf("mapping %zu: %zu\n", i, p == MAP_FAILED ? 1 : found_in(p, FILL));
		if (p != MAP_FAILED)
			(void)munmap(p, FILL);
	}
	char *heap = sbrk(4 * (long)MIB);
	printf("heap: %zu\n", (intptr_t)heap == -1 ? 1 : found_in((uint64_t *)(void *)heap, 4 * MIB));
	int memfd = memfd_create("x", 0), file = open("/work/look", O_CREAT | O_RDWR | O_TRUNC, 0600);
	const int fds[] = {memfd, file};
	static uint64_t buf[MIB / 8];
	for (size_t i = 0; i < COUNT(fds); i++) {
		memset(buf, 0, sizeof(buf));
		int grown = ftruncate(fds[i], MIB) == 0 || fallocate(fds[i], 0, 0, MIB) == 0;
		ssize_t n = pread(fds[i], buf, MIB, 0);
		printf("file %zu: %d %zd %zu\n", i, grown, n, found_in(buf, MIB));
		close(fds[i]);
	}
	(void)unlink("/work/look");
}

static void look_attributes(void)
{
	sigset_t set;
	cpu_set_t cpus;
	struct rlimit limit;
	char name[65] = "", cwd[512] = "";
	(void)sched_getaffinity(0, sizeof(cpus), &cpus);
	printf("affinity %d nice %d policy %d ioprio %ld slack %d subreaper ", CPU_COUNT(&cpus), getpriority(PRIO_PROCESS, 0),
		sched_getscheduler(0), syscall(SYS_ioprio_get, 1, 0), prctl(PR_GET_TIMERSLACK));
	int subreaper = 0, death = 0;
	(void)prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
	(void)prctl(PR_GET_PDEATHSIG, &death);
	printf("%d death %d dumpable %d thp %d mdwe %d merge %d\n", subreaper, death, prctl(PR_GET_DUMPABLE), prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0),
		prctl(66, 0, 0, 0, 0), prctl(68, 0, 0, 0, 0));
	for (int i = 0; i < RLIM_NLIMITS; i++)
		if (getrlimit((__rlimit_resource_t)i, &limit) == 0)
			printf("rlimit %d %lx %lx\n", i, limit.rlim_cur, limit.rlim_max);
	(void)sigprocmask(SIG_SETMASK, NULL, &set);
	for (int s = 1; s < NSIG; s++) {
		struct sigaction act = {.sa_flags = 0};
		if (sigismember(&set, s) == 1 || (sigaction(s, NULL, &act) == 0 && act.sa_handler != SIG_DFL))
			printf("signal %d is blocked or handled\n", s);
	}
	(void)gethostname(name, sizeof(name) - 1);
	printf("umask %o pid %d parent %d group %d session %d host %s cwd %s tty %d\n", umask(022), getpid(), getppid(), getpgrp(), getsid(0),
		name, getcwd(cwd, sizeof(cwd)), open("/dev/tty", O_RDWR));
	struct rusage self, children;
	(void)getrusage(RUSAGE_SELF, &self);
	(void)getrusage(RUSAGE_CHILDREN, &children);
	printf("personality %d children %ld %ld\n", (int)syscall(SYS_personality, 0xffffffff), children.ru_utime.tv_usec, children.ru_maxrss);
}

static void look_fds(void)
{
	for (int fd = 0; fd < 1024; fd++) {
		char path[64], target[256] = "";
		sprintf(path, "/proc/self/fd/%d", fd);
		if (readlink(path, target, sizeof(target) - 1) < 0)
			continue;
		printf("fd %d %.5s flags %x %x size %d\n", fd, target, fcntl(fd, F_GETFD), fcntl(fd, F_GETFL), fcntl(fd, F_GETPIPE_SZ));
	}
	DIR *proc = opendir("/proc");
	for (struct dirent *e; (e = readdir(proc));)
		if (e->d_name[0] >= '0' && e->d_name[0] <= '9')
			printf("process %s\n", e->d_name);
	closedir(proc);
}

extern char **environ;

static int look(void)
{
	static const char *const texts[] = {"/proc/self/mountinfo", "/proc/self/cgroup", "/proc/self/uid_map", "/proc/self/timens_offsets",
		"/proc/self/coredump_filter", "/proc/self/oom_score_adj", "/proc/self/attr/current", "/proc/self/loginuid", "/proc/self/sessionid",
		"/proc/self/autogroup", "/proc/self/status", "/proc/self/io", "/proc/sysvipc/shm", "/proc/sysvipc/msg", "/proc/sysvipc/sem",
		"/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/proc/keys", "/proc/key-users", "/proc/sys/kernel/ns_last_pid",
		"/proc/sys/fs/mqueue/queues_max", "/proc/sys/user/max_user_namespaces", "/proc/self/limits"};
	look_fds(); /* first: what follows opens some */
	for (size_t i = 0; i < COUNT(places); i++)
		look_place(places[i]);
	look_place("/");
	look_place("/dev");
	look_ipc();
	look_locks("/etc/passwd");
	look_locks("/work/attack");
	look_attributes();
	for (char **e = environ; *e; e++)
		printf("environ %s\n", *e);
	for (size_t i = 0; i < COUNT(texts); i++)
		look_text(texts[i]);
	look_net("/proc/self/net");
	look_memory();
	return 0;
}

int main(int argc, char **argv)
{
	char room[64] = "";
	(void)!readlink("/proc/self/ns/user", room, sizeof(room) - 1);
	fputs(room, stderr);
	if (argc > 2 && strcmp(argv[1], "plant") == 0)
		return plant(argv[2]);
	if (argc > 1 && strcmp(argv[1], "hold") == 0) {
		hold_everything();
		const struct timespec long_enough = {.tv_sec = 25};
		return nanosleep(&long_enough, NULL);
	}
	return argc > 1 && strcmp(argv[1], "look") == 0 ? look() : 0;
}
