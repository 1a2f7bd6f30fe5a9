/*
 * petri-nursery: composes the pool's nursery with the layers' stamping. Started by the supervisor with
 *   fd 3: seqpacket socket to the worker   fd 4: the state directory   fd 5: the directory of slot locks
 * and as arguments the number of slots, "tmpfs" or "auto", the project ids of the slots (layers/stamp.h), which may be empty,
 * "off", "try" or "require" for core scheduling, and "cache" or nothing (struct nursery_config). Static, libc only; see pool/nursery.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/sys.h"
#include "layers/resident.h"
#include "layers/stamp.h"
#include "pool/cgroup.h"
#include "pool/nursery.h"
#include "pool/steps.h"

#define STORE_UID_BASE 0x70000000u /* layers/store.h, which this program does not link */

enum {
	FD_WORKER = 3,
	FD_STATE = 4,
	FD_LOCKS = 5
};

static int slot_init(void *env, unsigned number, uid_t uid_base, void **ret, struct err *err)
{
	struct stamp_slot *slot = calloc(1, sizeof(*slot));
	if (!slot)
		return err_set(err, ENOMEM, "slot");
	int r = stamp_slot_init(env, slot, number, uid_base, POOL_JOB_UID, err);
	if (r < 0)
		free(slot);
	else
		*ret = slot;
	return r;
}

static int make(void *env, void *slot, const struct wire_plan *plan, struct nursery_mounts *ret, unsigned *ret_step,
	struct err *err)
{
	static const unsigned steps[] = {STEP_SCRATCH, STEP_LOWER, STEP_OVERLAY};
	struct stamp_slot *s = slot;
	struct stamp_plan p = {.layers = plan->layers, .nlayers = plan->nlayers, .host_usr = plan->host_usr != 0, .disk_bytes = plan->disk_bytes, .disk_inodes = plan->disk_inodes};
	int step = 0;
	int r = stamp_make(env, s, &p, &step, err);
	*ret_step = steps[step];
	if (r < 0)
		return r;
	*ret = (struct nursery_mounts){.root = s->root, .usr = s->usr, .scratch = s->places, .freed_late = stamp_freed_late(env)};
	return 0;
}

static void handed_over(void *env, void *slot)
{
	stamp_handed_over(env, slot);
}

static int resize(void *env, void *slot, uint64_t bytes, uint64_t inodes, struct err *err)
{
	return stamp_resize(env, slot, bytes, inodes, err);
}

static bool slow_to_clean(void *env, void *slot)
{
	return stamp_needs_helper(env, slot);
}

static void detach(void *env, void *slot)
{
	stamp_detach(env, slot);
}

static int clean(void *env, void *slot, struct err *err)
{
	return stamp_delete(env, slot, err);
}

static void slot_free(void *env, void *slot)
{
	stamp_slot_free(env, slot);
	free(slot);
}

static unsigned leftovers(void *env, unsigned *ret, unsigned cap)
{
	return stamp_leftovers(env, ret, cap);
}

static void sweep(void *env, unsigned number)
{
	stamp_sweep(env, number);
}

static void charged(void *env, const struct wire_plan *plan, const uint64_t *inodes, size_t n, int list, uint64_t until_us)
{
	(void)env;
	const struct stamp_plan p = {.layers = plan->layers, .nlayers = plan->nlayers, .host_usr = plan->host_usr != 0};
	const struct resident_groups groups = {.inodes = inodes, .n = n};
	resident_list(&p, &groups, list, until_us);
}

static void read_again(void *env, int list, const uint64_t *inodes, size_t n, uint64_t bytes)
{
	(void)env;
	const struct resident_groups groups = {.inodes = inodes, .n = n};
	resident_read(list, &groups, bytes);
}

static void describe(void *env, struct wire_host *host)
{
	struct stamp_env *e = env;
	host->scratch = e->scratch == SCRATCH_QUOTA ? POOL_SCRATCH_QUOTA : POOL_SCRATCH_TMPFS;
	host->layers_idmapped = e->layers_idmapped;
	host->usr_idmapped = e->usr_idmapped;
}

/* io.max takes whole disks: a partition's parent is one directory up in sysfs. Virtual filesystems have none. */
static bool whole_disk(dev_t dev, unsigned *ret_major, unsigned *ret_minor)
{
	char path[96], text[32];
	(void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/partition", major(dev), minor(dev));
	bool partition = access(path, F_OK) == 0;
	(void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u%s/dev", major(dev), minor(dev), partition ? "/.." : "");
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return sscanf(text, "%u:%u", ret_major, ret_minor) == 2;
}

static void add_device(struct wire_host *host, unsigned major_no, unsigned minor_no)
{
	for (uint32_t i = 0; i < host->ndevices; i++)
		if (host->devices[i].major == major_no && host->devices[i].minor == minor_no)
			return;
	if (host->ndevices < POOL_DEVICES_MAX) {
		host->devices[host->ndevices].major = major_no;
		host->devices[host->ndevices++].minor = minor_no;
	}
}

/* Return: true when a limit on I/O holds for the filesystem: by its disk, or because a tmpfs causes none. A filesystem over the
 * network or over another one would let a job's reads past any limit. */
static bool find_device(struct wire_host *host, int fd)
{
	struct stat st;
	struct statfs fs;
	unsigned major_no, minor_no;
	if (fd < 0 || fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return false;
	if (whole_disk(st.st_dev, &major_no, &minor_no)) {
		add_device(host, major_no, minor_no);
		return true;
	}
	return fs.f_type == TMPFS_MAGIC;
}

static void find_devices(struct wire_host *host)
{
	_cleanup_close_ int usr = open("/usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	host->store_io = find_device(host, FD_STATE);
	host->usr_io = find_device(host, usr);
}

/* proc_swaps(5): a heading, then a line for each area. */
static bool has_swap(void)
{
	char text[4096];
	_cleanup_close_ int fd = open("/proc/swaps", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	const char *line = strchr(text, '\n');
	return line && line[1] != '\0';
}

/* A hard core limit of 0 does not keep a core_pattern pipe from getting a job's memory, core(5); 1 does. */
static int check_core_limit(struct err *err)
{
	struct rlimit core = {1, 1};
	char pattern[128] = "";
	if (getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max >= 1)
		return 0;
	core = (struct rlimit){1, 1};
	if (setrlimit(RLIMIT_CORE, &core) == 0)
		return 0;
	_cleanup_close_ int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, pattern, sizeof(pattern) - 1) <= 0 || pattern[0] == '|')
		return err_say(err, EPERM, "the hard core limit is 0 and kernel.core_pattern is a pipe, which would get the jobs' "
					   "memory: start petri with `ulimit -Hc 1` or more");
	return 0;
}

/* Shared by all who use petri's groups, so that the last one, and only the last one, removes them. */
static int lock_tree(struct err *err)
{
	int fd = openat(FD_LOCKS, "tree", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct flock shared = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	if (fd < 0 || fcntl(fd, F_OFD_SETLKW, &shared) < 0)
		return err_set(err, errno, "lock petri's cgroup tree");
	return fd;
}

/*
 * What mounting, owning, emptying and killing take. The overlays are mounted with these rights as well, and what jobs write goes
 * to the upper directory by them: without CAP_SYS_RESOURCE that cannot pass a quota or eat a filesystem's reserve.
 * No program is executed from here, so the bounding set is empty. A user namespace that is made later has sets of its own.
 */
static int keep_rights(struct err *err)
{
	const uint64_t keep = SYS_CAP(SYS_ADMIN)		     /* mounts, namespaces, quotas, trusted.* attributes */
		| SYS_CAP(SETUID) | SYS_CAP(SETGID)		     /* the maps of rooms, and the open helper's ids */
		| SYS_CAP(CHOWN) | SYS_CAP(FOWNER) | SYS_CAP(FSETID) /* a slot's own files, and a job's by way of its overlay */
		| SYS_CAP(DAC_OVERRIDE)				     /* the same; and cgroup.procs, which is a room's */
		| SYS_CAP(LINUX_IMMUTABLE)			     /* what keeps a job's file from being deleted */
		| SYS_CAP(MKNOD)				     /* /dev/null and others; whiteouts */
		| SYS_CAP(KILL);				     /* helpers that have a job's uid */
	int r = sys_bound_caps(0);
	if (r == 0)
		r = sys_keep_caps(keep);
	if (r < 0)
		return err_set(err, r, "drop capabilities");
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? err_set(err, errno, "forbid new privileges") : 0;
}

static int own_process(struct err *err)
{
	(void)signal(SIGPIPE, SIG_IGN);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	(void)prctl(PR_SET_NAME, "petri-nursery", 0, 0, 0);
	(void)umask(0);
	/* Its own stdin is what zygotes get as theirs until they have pipes. */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0)
		return err_set(err, errno, "open /dev/null");
	(void)close(null);
	int r = sys_close_range(FD_LOCKS + 1, ~0u, 0);
	if (r < 0)
		return err_set(err, r, "close_range (petri needs Linux 5.9 or later)");
	for (int fd = FD_WORKER; fd <= FD_LOCKS; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	r = check_core_limit(err);
	if (r == 0)
		r = keep_rights(err);
	if (r < 0)
		return r;
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	/* Nothing here needs the network or the machine's shared memory, and nothing that is forked here should ever see them. */
	if (unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		return err_set(err, errno, "unshare namespaces (petri needs root)");
	return 0;
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct cgroup_tree tree;
	struct stamp_env env;
	struct nursery_config config = {.worker = FD_WORKER, .lock_dir = FD_LOCKS};
	uint64_t nslots;
	log_init();
	if (argc < 2 || parse_u64(argv[1], &nslots, &err) < 0 || nslots == 0 || nslots > POOL_SLOTS_MAX) {
		log_error("petri-nursery is started by petri, not by hand");
		return 125;
	}
	if (argc > 4 && strcmp(argv[4], "off") != 0)
		config.cookie = strcmp(argv[4], "require") == 0 ? POOL_COOKIE_REQUIRED : POOL_COOKIE_TRY;
	config.keep_cache = argc > 5 && strcmp(argv[5], "cache") == 0;
	bool force_tmpfs = argc > 2 && strcmp(argv[2], "tmpfs") == 0;
	config.nslots = (unsigned)nslots;
	int r = own_process(&err);
	int tree_lock = -1;
	if (r == 0) {
		find_devices(&config.host);
		config.host.has_swap = has_swap();
		r = tree_lock = lock_tree(&err);
	}
	if (r >= 0)
		r = cgroup_tree_open(&tree, false, &err);
	if (r == 0)
		r = stamp_env_enter(&env, FD_STATE, STORE_UID_BASE, force_tmpfs, argc > 3 ? argv[3] : NULL, &err);
	if (r == 0) {
		(void)close(FD_STATE);
		const struct nursery_stamper stamper = {.env = &env, .slot_init = slot_init, .make = make, .handed_over = handed_over, .resize = resize, .slow_to_clean = slow_to_clean, .detach = detach, .clean = clean, .slot_free = slot_free, .leftovers = leftovers, .sweep = sweep, .charged = charged, .read_again = read_again, .describe = describe};
		r = nursery_run(&config, &stamper, &tree, &err);
		/* Let go first: of two that end together, one must find itself alone. */
		struct flock none = {.l_type = F_UNLCK, .l_whence = SEEK_SET}, alone = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
		(void)fcntl(tree_lock, F_OFD_SETLK, &none);
		bool last = fcntl(tree_lock, F_OFD_SETLK, &alone) == 0;
		if (last)
			cache_remove(&tree);
		cgroup_tree_close(&tree, last);
	}
	if (r < 0) {
		log_error("nursery: %s", err_msg(&err));
		return 125;
	}
	return 0;
}
