/*
 * The room: the process that holds a slot's user, mount and uts namespaces with the jobs' root mounted in them, under the fixed
 * filter and the policy's. It is process 1 of a pid namespace of its own, so that its end is the end of all it made, and root of
 * the slot's user namespace alone. Between two jobs it does what must be done inside: it ends the last zygote, looks whether the
 * root is as it was, makes the places anew that belong to a job's user, and clones the next init.
 *
 * The root is as it was when its upper directory holds what petri put there and nothing else: whatever a job changes anywhere in the
 * root is copied up first, with every directory above it, and of those the topmost lies in a directory that is no job's to change
 * ("/" is the room's). Where anything is found, or a job left more than is quickly removed, the room ends with ROOM_TOUCHED and the
 * nursery stamps the slot anew.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/seccomp.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/sys.h"
#include "pool/gate.h"
#include "pool/steps.h"
#include "pool/zygote.h"

#define REMOVALS_MAX 256 /* entries that a job left, removed here: some 100 µs */
#define DEPTH_MAX 4
#define FILTER_MAX 4096 /* BPF_MAXINSNS */

struct room {
	const struct room_spec *spec;
	struct zygote zygote;
	int go, root, usr, filter_fd, scratch;
	bool used; /* a zygote has had the places */
	pid_t init;
};

/* Move an fd to a number of its own. Return: 0 or -errno, also of the call that gave a negative one. */
static int settle(int fd, int number)
{
	if (fd < 0)
		return -errno;
	if (fd == number)
		return 0;
	int r = dup3(fd, number, O_CLOEXEC) < 0 ? -errno : 0;
	(void)close(fd);
	return r;
}

/* Nothing of the nursery's but what the room was given, which moves to fixed numbers. */
static void take_fds(struct room *room)
{
	const struct room_spec *spec = room->spec;
	int given[6] = {spec->requests, spec->go, spec->root, spec->filter, spec->scratch, spec->usr};
	for (size_t i = 0; i < ARRAY_SIZE(given); i++)
		if (given[i] >= 0)
			given[i] = fcntl(given[i], F_DUPFD_CLOEXEC, 16);
	for (int i = 0; i < (int)ARRAY_SIZE(given); i++) {
		if (given[i] >= 0)
			(void)dup3(given[i], ROOM_REQUESTS_FD + i, O_CLOEXEC);
		else
			(void)close(ROOM_REQUESTS_FD + i);
	}
	(void)sys_close_range(ROOM_REQUESTS_FD + ARRAY_SIZE(given), ~0u, 0);
	/* The nursery's stdin is /dev/null. */
	(void)dup2(0, 1);
	(void)dup2(0, 2);
	room->go = 4;
	room->root = 5;
	room->filter_fd = 6;
	room->scratch = 7;
	room->usr = spec->usr >= 0 ? 8 : -1;
}

static void wait_for_nursery(struct room *room)
{
	char byte;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (fd_read_all(room->go, &byte, 1) != 1)
		_exit(0); /* the nursery gave up, or died */
	cleanup_close(&room->go);
}

/*
 * In the slot's own user namespace, so only processes in the sandbox feel it. The other kinds must stay allowed for the room itself;
 * a job would need a capability for them, and has none without a user namespace of its own. Through the room's own /proc: in one that
 * rooms share, each user namespace adds entries of the same names to the same hash chains, which every look-up walks (proc_sys_compare()).
 */
static int forbid_namespaces(void)
{
	static const char *const names[] = {"max_user_namespaces", "max_uts_namespaces", "max_time_namespaces"};
	_cleanup_close_ int sysctl = open("/proc/sys/user", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (sysctl < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int r = fd_put(sysctl, names[i], "0");
		if (r < 0 && r != -ENOENT)
			return r;
	}
	return 0;
}

static int become_root(void)
{
	for (int s = 1; s < NSIG; s++) /* ignored signals stay ignored across exec, and petri ignores some */
		(void)signal(s, SIG_DFL);
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 || sethostname("petri", 5) < 0 ||
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* cleared by every change of ids, prctl(2) */
	(void)umask(0);
	return 0;
}

/* With a page below that cannot be touched, of 4 KiB or, on some aarch64 kernels, 64. Return: its upper end. */
static char *make_stack(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, ZYGOTE_STACK + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED || mprotect(p, page, PROT_NONE) < 0)
		return NULL;
	return p + ZYGOTE_STACK + page;
}

/* The worker gets it for reading only: it may neither write nor truncate what other processes here have mapped. Nor may anybody here
 * cut short what the worker has mapped: it asks for the seal. */
static int make_page(struct zygote *z)
{
	char path[32];
	_cleanup_close_ int fd = memfd_create("petri-zygote", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, sizeof(*z->page)) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	z->page = mmap(NULL, sizeof(*z->page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	z->init_stack = make_stack();
	z->child_stack = make_stack();
	if (z->page == MAP_FAILED || !z->init_stack || !z->child_stack)
		return -ENOMEM;
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return settle(open(path, O_RDONLY | O_CLOEXEC), ROOM_PAGE_FD);
}

/* ---- the policy's filter ---- */
/* With the gate before it, under which every zygote is born; or kept for the child to install. */
static int take_filter(struct room *room)
{
	struct zygote *z = &room->zygote;
	const struct room_spec *spec = room->spec;
	size_t size = (size_t)spec->filter_len * sizeof(struct sock_filter);
	const struct sock_filter *filter = mmap(NULL, size, PROT_READ, MAP_PRIVATE, room->filter_fd, 0);
	if (filter == MAP_FAILED)
		return -errno;
	cleanup_close(&room->filter_fd);
	static struct sock_filter program[FILTER_MAX];
	unsigned n = gate_build(program, FILTER_MAX, gate_key());
	if (!spec->early || n + spec->filter_len > FILTER_MAX) {
		z->filter = filter;
		return 0;
	}
	memcpy(program + n, filter, size);
	struct sock_fprog all = {.len = (unsigned short)(n + spec->filter_len), .filter = program};
	long r = gate3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, spec->listener ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0, &all);
	if (r < 0)
		return (int)r;
	z->listener = spec->listener;
	return spec->listener ? settle((int)r, ROOM_LISTENER_FD) : 0;
}

/* Whether the layers bring something into /work: it must show there, so /work cannot be a place of its own. */
static bool work_is_empty(void)
{
	_cleanup_closedir_ DIR *dir = opendir("/work");
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			return false;
	return dir != NULL;
}

static int open_places(struct room *room)
{
	static const struct {
		const char *path;
		int number;
	} places[] = {{ROOM_SCRATCH "/u", ROOM_UPPER_FD}, {ROOM_SCRATCH "/j", ROOM_PLACES_FD}, {ROOM_SHM, ROOM_SHM_FD}};
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(places); i++)
		r = settle(open(places[i].path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), places[i].number);
	room->zygote.work = work_is_empty();
	if (r == 0 && mkdirat(ROOM_SHM_FD, "shm", 01777) < 0)
		r = -errno;
	return r < 0 ? r : room_choose_masks(&room->zygote);
}

static int set_up(struct room *room, unsigned *step)
{
	struct zygote *z = &room->zygote;
	*step = STEP_SETUP_IDS;
	int r = become_root();
	if (r < 0)
		return r;
	*step = STEP_SETUP_KEYRING;
	r = sys_keyctl_join_session();
	if (r < 0 && r != -ENOSYS)
		return r;
	r = room_setup_mounts(room->root, room->usr, room->scratch, step);
	if (r < 0)
		return r;
	*step = STEP_SETUP_SYSCTL;
	r = forbid_namespaces();
	if (r < 0)
		return r;
	(void)close(room->root);
	(void)close(room->scratch);
	cleanup_close(&room->usr);
	*step = STEP_SCRATCH;
	r = open_places(room);
	if (r < 0)
		return r;
	*step = STEP_SETUP_PAGE;
	r = make_page(z);
	if (r == 0)
		r = gate_make_key();
	if (r < 0)
		return r;
	*step = STEP_RLIMIT;
	r = launch_common_limits();
	if (r < 0)
		return r;
	*step = STEP_SETUP_CAPS;
	r = sys_drop_bounding_set(); /* what it has it keeps, and no exec can get any back */
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	if (r < 0)
		return r;
	*step = STEP_SETUP_FLOOR;
	r = floor_install(room->spec->network != POOL_NET_SHARED, room->spec->listener);
	if (r < 0)
		return r;
	*step = STEP_FILTER;
	return take_filter(room);
}

/* ---- between two jobs ---- */
static void end_last(struct room *room)
{
	if (room->init > 0) {
		(void)gate2(SYS_kill, room->init, SIGKILL);
		while (gate4(SYS_wait4, room->init, NULL, __WALL, NULL) == -EINTR)
			;
		room->init = 0;
	}
	while (gate4(SYS_wait4, -1, NULL, WNOHANG | __WALL, NULL) > 0)
		;
	launch_forget();
}

struct entry { /* struct linux_dirent64, getdents64(2) */
	uint64_t ino;
	int64_t off;
	unsigned short len;
	unsigned char type;
	char name[];
};

static bool is_dot(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static bool remove_dir(int at, const char *name, unsigned depth, unsigned *left);

/* Return: true when the directory is empty now. */
static bool empty_dir(int dir, unsigned depth, unsigned *left)
{
	_Alignas(struct entry) char buf[4096];
	long n;
	while ((n = gate3(SYS_getdents64, dir, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < n;) {
			const struct entry *e = (const struct entry *)(const void *)(buf + at);
			at += e->len;
			if (is_dot(e->name))
				continue;
			if ((*left)-- == 0)
				return false;
			if (unlinkat(dir, e->name, 0) < 0 && (errno != EISDIR || !remove_dir(dir, e->name, depth, left)))
				return false;
		}
	}
	return n == 0;
}

static bool remove_dir(int at, const char *name, unsigned depth, unsigned *left)
{
	if (unlinkat(at, name, AT_REMOVEDIR) == 0)
		return true;
	if (errno != ENOTEMPTY || depth == 0)
		return false;
	int dir = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return false;
	bool empty = empty_dir(dir, depth - 1, left);
	(void)close(dir);
	return empty && unlinkat(at, name, AT_REMOVEDIR) == 0;
}

/* Nothing in the root's upper directory but the two that scratch_fill() made, which the jobs' own places cover. */
static bool root_untouched(void)
{
	_Alignas(struct entry) char buf[4096];
	unsigned found = 0;
	if (lseek(ROOM_UPPER_FD, 0, SEEK_SET) < 0)
		return false;
	for (long n; (n = gate3(SYS_getdents64, ROOM_UPPER_FD, buf, sizeof(buf))) != 0;) {
		if (n < 0)
			return false;
		for (long at = 0; at < n;) {
			const struct entry *e = (const struct entry *)(const void *)(buf + at);
			at += e->len;
			if (is_dot(e->name))
				continue;
			if (strcmp(e->name, "work") != 0 && strcmp(e->name, "tmp") != 0)
				return false;
			found++;
		}
	}
	return found == 2;
}

/* The places of the last job go, with all that is in them; the next job's are new. Return: false when that is the nursery's work. */
static bool renew_places(struct room *room)
{
	/* What is deleted in the scratch may stay charged to the slot: then it is not deleted here. */
	unsigned shm_left = REMOVALS_MAX, left = room->spec->lazy_scratch ? 0 : REMOVALS_MAX, depth = left ? DEPTH_MAX : 0;
	if (!room->used) {
		room->used = true;
		return true;
	}
	if (!room->zygote.work || !root_untouched() || !remove_dir(ROOM_PLACES_FD, "work", depth, &left) ||
		!remove_dir(ROOM_PLACES_FD, "tmp", depth, &left) || !remove_dir(ROOM_SHM_FD, "shm", DEPTH_MAX, &shm_left))
		return false;
	return mkdirat(ROOM_PLACES_FD, "work", 0755) == 0 && mkdirat(ROOM_PLACES_FD, "tmp", 01777) == 0 &&
		mkdirat(ROOM_SHM_FD, "shm", 01777) == 0 &&
		gate5(SYS_fchownat, ROOM_PLACES_FD, "work", POOL_JOB_UID, POOL_JOB_UID, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_next(struct room *room, const struct room_request *request)
{
	struct zygote *z = &room->zygote;
	memset(z->page, 0, sizeof(*z->page));
	z->network = request->network;
	pid_t pid = zygote_start(z);
	if (pid < 0)
		(void)zygote_report(ZYGOTE_FAILED, STEP_CLONE, pid, 0, NULL, 0);
	else
		room->init = pid;
}

/* Return: the request's fds are at their numbers; what else came, the last zygote's mount namespace, is in *ret_last. */
static bool take_request(struct room_request *request, int *ret_last)
{
	int fds[FD_PASS_MAX];
	size_t nfds = 0;
	ssize_t n = fd_recv(ROOM_REQUESTS_FD, request, sizeof(*request), fds, &nfds, 0);
	if (n != sizeof(*request) || nfds < 2)
		return false;
	*ret_last = nfds > 2 ? fds[2] : -1;
	return settle(fds[0], ZYGOTE_CONTROL_FD) == 0 && settle(fds[1], ROOM_LEAF_FD) == 0;
}

static void serve(struct room *room)
{
	for (;;) {
		struct room_request request;
		int last;
		if (!take_request(&request, &last))
			_exit(0); /* the nursery is gone */
		end_last(room);
		if (!renew_places(room))
			_exit(ROOM_TOUCHED);
		make_next(room, &request);
		(void)close(ZYGOTE_CONTROL_FD);
		(void)close(ROOM_LEAF_FD);
		if (last >= 0)
			(void)close(last); /* which takes its mounts down: after the next zygote is on its way */
	}
}

/* The first request's control socket is where a failure of the set-up is told. */
static void fail(unsigned step, int error)
{
	struct room_request request;
	int last;
	if (take_request(&request, &last))
		(void)zygote_report(ZYGOTE_FAILED, step, error, 0, NULL, 0);
	_exit(1);
}

static void room_main(const struct room_spec *given)
{
	static struct room room;
	static struct room_spec spec;
	unsigned step = STEP_NONE;
	spec = *given;
	room = (struct room){.spec = &spec, .zygote = {.spec = &spec}};
	take_fds(&room);
	wait_for_nursery(&room);
	int r = set_up(&room, &step);
	if (r < 0)
		fail(step, r);
	(void)prctl(PR_SET_NAME, "petri-room", 0, 0, 0);
	serve(&room);
}

/*
 * The kernel counts what a user has of inotify instances and watches, queued signals, POSIX timers, message queues and locked memory in
 * each user namespace, and once more, for all in it, on the account of the namespace's owner in the one above (inc_ucount() and
 * inc_rlimit_get_ucounts(), kernel/ucount.c). The owner is the effective user that makes it: were that root, one job could use up
 * what root and all other jobs have of these. So it is the slot's root, who is nobody else.
 *
 * The change takes the effective capabilities and the death signal away (capabilities(7), prctl(2)), which come back here. A parent
 * that dies just between is noticed by the end of its socket, as at any other time. It also makes the process one that is not dumpable:
 * without CAP_SYS_PTRACE it could not open the namespaces of its own children any more (ptrace(2), "Ptrace access mode checking").
 */
static int set_effective_user(uid_t uid)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	int death = 0;
	if (prctl(PR_GET_PDEATHSIG, &death, 0, 0, 0) < 0 || syscall(SYS_setresuid, -1, uid, -1) < 0 ||
		syscall(SYS_capget, &header, data) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(data); i++)
		data[i].effective = data[i].permitted;
	if (syscall(SYS_capset, &header, data) < 0 || prctl(PR_SET_PDEATHSIG, death, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

static pid_t clone_as(uid_t owner, struct clone_args *args)
{
	int r = set_effective_user(owner);
	pid_t pid = r < 0 ? r : sys_clone3(args);
	if (pid != 0 && (set_effective_user(0) < 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0))
		_exit(1); /* neither of the two users: nothing would go right from here */
	return pid;
}

pid_t room_clone(const struct room_spec *spec, int *ret_pidfd)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	if (spec->group >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)spec->group;
	}
	if (spec->sibling) { /* the exit signal is then the caller's own */
		args.flags |= CLONE_PARENT;
		args.exit_signal = 0;
	}
	pid_t pid = clone_as(spec->owner, &args);
	if (pid == 0)
		room_main(spec);
	if (pid > 0)
		*ret_pidfd = pidfd;
	return pid;
}
