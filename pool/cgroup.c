/*
 * Cgroup trees and leaves; runs as root in the nursery (and read-only in doctor). Everything is named relative to
 * directory fds that were opened from /proc/self/mountinfo, so the cgroup mounts need not be part of the nursery's
 * own mount namespace. It only ever touches groups called petri and below.
 */
#include "pool/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "pool/delegate.h"

#define JOBS_WEIGHT_V2 "25"  /* of 100, against petri's own processes and the rest of the machine */
#define JOBS_SHARES_V1 "256" /* of 1024 */
#define EMPTY_WAIT_MS 2000
#define JOB "job"
#define ROOM "room"

static const char *const v1_names[V1_MAX] = {
	[V1_MEMORY] = "memory", [V1_CPU] = "cpu", [V1_PIDS] = "pids", [V1_BLKIO] = "blkio", [V1_CPUSET] = "cpuset"};

static int open_dir(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

static bool word_in(const char *list, const char *word, char separator)
{
	size_t len = strlen(word);
	for (const char *p = list; (p = strstr(p, word)); p += len) {
		bool starts = p == list || p[-1] == separator || p[-1] == ' ' || p[-1] == '\n';
		bool ends = p[len] == '\0' || p[len] == separator || p[len] == ' ' || p[len] == '\n';
		if (starts && ends)
			return true;
	}
	return false;
}

/* One line of mountinfo (proc_pid_mountinfo(5)): "… mountpoint … - fstype source superoptions". */
static void look_at_mount(struct cgroup_tree *tree, char *line)
{
	char *dash = strstr(line, " - "), point[4096], type[32], options[512];
	if (!dash || sscanf(line, "%*d %*d %*s %*s %4095s", point) != 1)
		return;
	if (sscanf(dash + 3, "%31s %*s %511s", type, options) != 2)
		return;
	if (strcmp(type, "cgroup2") == 0 && tree->root < 0) {
		tree->root = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return;
	}
	if (strcmp(type, "cgroup") != 0)
		return;
	for (size_t i = 0; i < V1_MAX; i++)
		if (tree->v1_root[i] < 0 && word_in(options, v1_names[i], ','))
			tree->v1_root[i] = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int find_mounts(struct cgroup_tree *tree, struct err *err)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return err_set(err, errno, "open /proc/self/mountinfo");
	_cleanup_free_ char *line = NULL;
	size_t cap = 0;
	while (getline(&line, &cap, f) > 0)
		look_at_mount(tree, line);
	return 0;
}

int cgroup_v2_mount(void)
{
	struct cgroup_tree tree = {.root = -1, .unified = -1};
	for (size_t i = 0; i < V1_MAX; i++)
		tree.v1[i] = tree.v1_root[i] = -1;
	int r = find_mounts(&tree, NULL);
	for (size_t i = 0; i < V1_MAX; i++)
		cleanup_close(&tree.v1_root[i]);
	return r < 0 ? r : tree.root >= 0 ? tree.root
					  : -ENOENT;
}

/* Below a group that was delegated to petri, everything is as below the root of the tree. */
static void enter_delegated(struct cgroup_tree *tree)
{
	int group = tree->driver == POOL_DRIVER_V2 ? delegate_root(tree->root) : -1;
	if (group < 0)
		return;
	cleanup_close(&tree->root);
	tree->root = group;
}

static int choose_driver(struct cgroup_tree *tree, struct err *err)
{
	char list[256] = "";
	if (tree->root < 0)
		return err_say(err, ENOENT,
			"no cgroup v2 tree is mounted: mount -t cgroup2 none /sys/fs/cgroup (or /sys/fs/cgroup/unified)");
	_cleanup_close_ int fd = openat(tree->root, "cgroup.controllers", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, list, sizeof(list) - 1);
	list[n > 0 ? n : 0] = '\0';
	/* "Not empty" proves nothing: a hybrid host's v2 tree may list hugetlb alone. */
	if (word_in(list, "memory", ' ') && word_in(list, "pids", ' ') && word_in(list, "cpu", ' ')) {
		tree->driver = POOL_DRIVER_V2;
		return 0;
	}
	static const enum v1_controller needed[] = {V1_MEMORY, V1_PIDS, V1_CPU};
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (tree->v1_root[needed[i]] < 0)
			return err_say(err, ENOENT,
				"the %s controller is neither in the cgroup v2 tree nor mounted as a v1 hierarchy: boot with "
				"systemd.unified_cgroup_hierarchy=1, or mount it",
				v1_names[needed[i]]);
	tree->driver = POOL_DRIVER_HYBRID;
	return 0;
}

static int make_dir(int at, const char *name, struct err *err)
{
	if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
		return err_set(err, errno, "make cgroup %s (petri needs root and a writable cgroup tree)", name);
	int fd = open_dir(at, name);
	return fd < 0 ? err_set(err, fd, "open cgroup %s", name) : fd;
}

/* Each controller alone: one that the parent does not have must not cost the others. */
static void enable_controllers(int dir)
{
	static const char *const wanted[] = {"+memory", "+pids", "+cpu", "+io", "+cpuset"};
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		(void)fd_put(dir, "cgroup.subtree_control", wanted[i]);
}

static int make_unified(struct cgroup_tree *tree, struct err *err)
{
	bool v2 = tree->driver == POOL_DRIVER_V2;
	if (v2)
		enable_controllers(tree->root);
	_cleanup_close_ int petri = make_dir(tree->root, "petri", err);
	if (petri < 0)
		return petri;
	if (v2) {
		/* On petri, whose siblings are the rest of the machine, petri's own processes among them. */
		(void)fd_put(petri, "cpu.weight", JOBS_WEIGHT_V2);
		enable_controllers(petri);
	}
	tree->unified = make_dir(petri, "jobs", err);
	if (tree->unified < 0)
		return tree->unified;
	if (!v2)
		return 0;
	enable_controllers(tree->unified);
	char list[256] = "";
	_cleanup_close_ int fd = openat(tree->unified, "cgroup.subtree_control", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, list, sizeof(list) - 1);
	list[n > 0 ? n : 0] = '\0';
	if (!word_in(list, "memory", ' ') || !word_in(list, "pids", ' '))
		return err_say(err, EBUSY,
			"cannot enable the memory and pids controllers below %s: another process sits in a group that would "
			"have to delegate them (in a container, move it into a sub-group first)",
			"petri/jobs");
	return 0;
}

/* v1 cpuset groups are born without CPUs and memory nodes, and refuse processes until they have both. */
static int copy_cpuset(int parent, int child, struct err *err)
{
	static const char *const names[] = {"cpuset.cpus", "cpuset.mems"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char value[1024];
		_cleanup_close_ int fd = openat(parent, names[i], O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -errno : read(fd, value, sizeof(value) - 1);
		if (n < 0)
			return err_set(err, EIO, "read %s", names[i]);
		value[n] = '\0';
		int r = fd_put(child, names[i], value);
		if (r < 0)
			return err_set(err, r, "write %s", names[i]);
	}
	return 0;
}

static int inherit_cpuset(struct cgroup_tree *tree, const char *name, struct err *err)
{
	_cleanup_close_ int child = open_dir(tree->v1[V1_CPUSET], name);
	return child < 0 ? err_set(err, child, "open the cpuset leaf %s", name) : copy_cpuset(tree->v1[V1_CPUSET], child, err);
}

static int make_v1(struct cgroup_tree *tree, struct err *err)
{
	for (size_t i = 0; i < V1_MAX; i++) {
		if (tree->v1_root[i] < 0)
			continue;
		tree->v1[i] = make_dir(tree->v1_root[i], "petri", err);
		if (tree->v1[i] < 0)
			return err_wrap(err, "the v1 hierarchy of %s", v1_names[i]);
		if (i == V1_CPUSET) {
			int r = copy_cpuset(tree->v1_root[i], tree->v1[i], err);
			if (r < 0)
				return r;
		}
		if (i == V1_CPU)
			(void)fd_put(tree->v1[i], "cpu.shares", JOBS_SHARES_V1);
	}
	return 0;
}

int cgroup_tree_open(struct cgroup_tree *tree, bool readonly, struct err *err)
{
	tree->root = tree->unified = -1;
	for (size_t i = 0; i < V1_MAX; i++)
		tree->v1[i] = tree->v1_root[i] = -1;
	int r = find_mounts(tree, err);
	if (r == 0)
		r = choose_driver(tree, err);
	if (r == 0)
		enter_delegated(tree);
	if (r == 0 && !readonly)
		r = make_unified(tree, err);
	if (r == 0 && !readonly && tree->driver == POOL_DRIVER_HYBRID)
		r = make_v1(tree, err);
	return r < 0 ? r : 0;
}

void cgroup_tree_close(struct cgroup_tree *tree, bool remove)
{
	if (remove && tree->root >= 0 && tree->unified >= 0) {
		(void)unlinkat(tree->root, "petri/jobs", AT_REMOVEDIR);
		(void)unlinkat(tree->root, "petri", AT_REMOVEDIR);
	}
	cleanup_close(&tree->unified);
	cleanup_close(&tree->root);
	for (size_t i = 0; i < V1_MAX; i++) {
		if (remove && tree->v1[i] >= 0)
			(void)unlinkat(tree->v1_root[i], "petri", AT_REMOVEDIR);
		cleanup_close(&tree->v1[i]);
		cleanup_close(&tree->v1_root[i]);
	}
}

static void leaf_name(unsigned number, char ret[32])
{
	(void)snprintf(ret, 32, "slot-%u", number);
}

/* A file of one of its groups, below petri's own group of the hierarchy. */
static void leaf_path(unsigned number, const char *file, char ret[96])
{
	(void)snprintf(ret, 96, "slot-%u/%s", number, file);
}

static int open_leaf_file(int at, unsigned number, const char *file, int flags)
{
	char path[96];
	leaf_path(number, file, path);
	int fd = openat(at, path, flags | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

static bool leaf_is_empty(int dir)
{
	uint64_t populated = 1;
	_cleanup_close_ int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
	return fd >= 0 && fd_pread_key(fd, "populated", &populated) == 0 && populated == 0;
}

void cgroup_leaf_kill(struct cgroup_tree *tree, unsigned number)
{
	char name[32];
	leaf_name(number, name);
	if (tree->v1[V1_CPU] >= 0) {
		_cleanup_close_ int cpu = open_dir(tree->v1[V1_CPU], name);
		if (cpu >= 0)
			(void)fd_put(cpu, "cpu.cfs_quota_us", "-1");
	}
	_cleanup_close_ int dir = open_dir(tree->unified, name);
	if (dir < 0)
		return;
	(void)fd_put(dir, JOB "/cpu.max", "max");
	(void)fd_put(dir, "cgroup.kill", "1");
}

int cgroup_leaf_remove(struct cgroup_tree *tree, unsigned number, struct err *err)
{
	static const char *const parts[] = {JOB, ROOM};
	char name[32];
	leaf_name(number, name);
	_cleanup_close_ int dir = open_dir(tree->unified, name);
	if (dir >= 0) {
		if (!leaf_is_empty(dir)) {
			cgroup_leaf_kill(tree, number);
			for (int waited = 0; !leaf_is_empty(dir) && waited < EMPTY_WAIT_MS; waited++)
				(void)poll(NULL, 0, 1);
		}
		for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
			(void)unlinkat(dir, parts[i], AT_REMOVEDIR);
	}
	int r = 0;
	if (unlinkat(tree->unified, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = err_set(err, errno, "remove cgroup %s", name);
	for (size_t i = 0; i < V1_MAX; i++)
		if (tree->v1[i] >= 0 && unlinkat(tree->v1[i], name, AT_REMOVEDIR) < 0 && errno != ENOENT)
			r = err_set(err, errno, "remove cgroup %s of %s", name, v1_names[i]);
	return r;
}

/* In which hierarchy a knob's file is; V1_MAX: in the v2 tree. */
static enum v1_controller knob_hierarchy(const struct cgroup_tree *tree, enum knob knob)
{
	if (tree->driver == POOL_DRIVER_V2)
		return V1_MAX;
	switch (knob) {
	case KNOB_KILL:
	case KNOB_EVENTS:
	case KNOB_CPU_STAT:
		return V1_MAX;
	case KNOB_CPU_MAX:
	case KNOB_THROTTLE:
		return V1_CPU;
	case KNOB_PIDS_MAX:
	case KNOB_PIDS_PEAK:
	case KNOB_PIDS_EVENTS:
		return V1_PIDS;
	case KNOB_IO_MAX:
	case KNOB_IO_WBPS:
	case KNOB_IO_RIOPS:
	case KNOB_IO_WIOPS:
	case KNOB_IO_STAT:
		return V1_BLKIO;
	case KNOB_CPUSET:
		return V1_CPUSET;
	default:
		return V1_MEMORY;
	}
}

static int open_knob(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, enum knob knob, int flags)
{
	const char *file = leaf_knob_file(tree->driver, knob);
	enum v1_controller c = knob_hierarchy(tree, knob);
	if (!file || (c < V1_MAX && tree->v1[c] < 0))
		return -ENOENT;
	if (c < V1_MAX)
		return open_leaf_file(tree->v1[c], leaf->number, file, flags);
	int fd = openat(leaf->dir, file, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int knob_flags(enum knob knob)
{
	switch (knob) {
	case KNOB_EVENTS:
	case KNOB_MEMORY_NOW:
	case KNOB_MEMORY_EVENTS:
	case KNOB_CPU_STAT:
	case KNOB_THROTTLE:
	case KNOB_PIDS_PEAK:
	case KNOB_PIDS_EVENTS:
	case KNOB_IO_STAT:
		return O_RDONLY;
	case KNOB_KILL:
		return O_WRONLY;
	default:
		return O_RDWR;
	}
}

/* cgroup-v1/memory.rst, "OOM Control": "<eventfd> <fd of memory.oom_control>" to cgroup.event_control. */
static int register_oom_event(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf)
{
	char text[64], path[96];
	_cleanup_close_ int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (event < 0)
		return -errno;
	_cleanup_close_ int control = open_knob(tree, leaf, KNOB_MEMORY_EVENTS, O_RDONLY);
	if (control < 0)
		return control;
	(void)snprintf(text, sizeof(text), "%d %d", event, control);
	leaf_path(leaf->number, "cgroup.event_control", path);
	int r = fd_put(tree->v1[V1_MEMORY], path, text);
	return r < 0 ? r : TAKE_FD(event);
}

/* A file that is not there says that the host cannot do it; one that only could not be opened now must not: a limit of the next jobs would be
 * left out without a word. */
static bool is_passing(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EINTR || error == -EIO;
}

static int open_knobs(const struct cgroup_tree *tree, struct cgroup_leaf *leaf, int fds[KNOB_MAX], uint32_t *ret_knobs, struct err *err)
{
	uint32_t knobs = 0;
	size_t n = 0;
	cleanup_close(&leaf->charged);
	leaf->charged = open_knob(tree, leaf, KNOB_MEMORY_NOW, O_RDONLY);
	for (unsigned k = 0; k < KNOB_MAX; k++) {
		int fd = -ENOENT;
		if (k != KNOB_OOM_EVENT)
			fd = open_knob(tree, leaf, k, knob_flags(k));
		else if (tree->driver == POOL_DRIVER_HYBRID)
			fd = register_oom_event(tree, leaf);
		if (fd < 0 && k == KNOB_MEMORY_PEAK && !is_passing(fd))
			fd = open_knob(tree, leaf, k, O_RDONLY); /* not writable before 6.12 */
		if (is_passing(fd)) {
			fd_close_many(fds, n);
			return err_set(err, fd, "open %s of a leaf", k == KNOB_OOM_EVENT ? "the OOM event" : leaf_knob_file(tree->driver, k));
		}
		if (fd < 0)
			continue;
		knobs |= 1u << k;
		fds[n++] = fd;
	}
	*ret_knobs = knobs;
	return 0;
}

static void prepare_leaf(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf)
{
	if (tree->driver == POOL_DRIVER_V2) {
		/* The whole leaf dies of an OOM kill, as the verdict says it does. */
		(void)fd_put(leaf->dir, "memory.oom.group", "1");
		(void)fd_put(leaf->dir, "memory.swap.max", "0");
		return;
	}
	char path[96];
	leaf_path(leaf->number, "memory.swappiness", path);
	(void)fd_put(tree->v1[V1_MEMORY], path, "0");
}

/*
 * CLONE_INTO_CGROUP asks the caller for the right to write cgroup.procs of the new group and of the nearest one above both
 * (cgroups.rst, "Delegation Containment"): the room, which is nobody on this machine, may move what is its own between the two
 * groups of its slot, and nothing else.
 */
static int give_procs(int dir, uid_t owner, struct err *err)
{
	return fchownat(dir, "cgroup.procs", owner, owner, AT_SYMLINK_NOFOLLOW) < 0 ? err_set(err, errno, "give cgroup.procs to the room") : 0;
}

static int make_job(int slot, struct cgroup_leaf *leaf, uid_t owner, struct err *err)
{
	leaf->dir = make_dir(slot, JOB, err);
	return leaf->dir < 0 ? leaf->dir : give_procs(leaf->dir, owner, err);
}

static int make_slot(struct cgroup_tree *tree, const char *name, struct cgroup_leaf *leaf, uid_t owner, struct err *err)
{
	_cleanup_close_ int slot = make_dir(tree->unified, name, err);
	if (slot < 0)
		return slot;
	if (tree->driver == POOL_DRIVER_V2)
		enable_controllers(slot);
	int r = give_procs(slot, owner, err);
	if (r == 0 && mkdirat(slot, ROOM, 0755) < 0 && errno != EEXIST)
		r = err_set(err, errno, "make cgroup " ROOM);
	return r < 0 ? r : make_job(slot, leaf, owner, err);
}

static int make_v1_leaf(struct cgroup_tree *tree, enum v1_controller c, const char *name, struct err *err)
{
	if (tree->v1[c] < 0)
		return 0;
	if (mkdirat(tree->v1[c], name, 0755) < 0 && errno != EEXIST)
		return err_set(err, errno, "make cgroup %s of %s", name, v1_names[c]);
	return c == V1_CPUSET ? inherit_cpuset(tree, name, err) : 0;
}

int cgroup_leaf_make(struct cgroup_tree *tree, unsigned number, uid_t owner, struct cgroup_leaf *ret, int ret_fds[KNOB_MAX],
	uint32_t *ret_knobs, struct err *err)
{
	char name[32];
	leaf_name(number, name);
	struct cgroup_leaf leaf = CGROUP_LEAF_NONE;
	leaf.number = number;
	int r = cgroup_leaf_remove(tree, number, err);
	if (r < 0)
		return r;
	r = make_slot(tree, name, &leaf, owner, err);
	for (size_t i = 0; r >= 0 && i < V1_MAX; i++)
		r = make_v1_leaf(tree, i, name, err);
	if (r < 0) {
		cgroup_leaf_close(&leaf);
		return err_wrap(err, "leaf %s", name);
	}
	prepare_leaf(tree, &leaf);
	r = open_knobs(tree, &leaf, ret_fds, ret_knobs, err);
	if (r < 0) {
		cgroup_leaf_close(&leaf);
		return err_wrap(err, "leaf %s", name);
	}
	*ret = leaf;
	return 0;
}

static int put_pid(int at, const char *file, pid_t pid)
{
	char text[16];
	(void)snprintf(text, sizeof(text), "%d", pid);
	return fd_put(at, file, text);
}

int cgroup_leaf_attach_v1(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, pid_t pid, struct err *err)
{
	char procs[96];
	leaf_path(leaf->number, "cgroup.procs", procs);
	for (size_t i = 0; i < V1_MAX; i++) {
		int r = tree->v1[i] >= 0 ? put_pid(tree->v1[i], procs, pid) : 0;
		if (r < 0)
			return err_set(err, r, "attach to the %s leaf", v1_names[i]);
	}
	return 0;
}

int cgroup_leaf_open_room(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, struct err *err)
{
	int fd = open_leaf_file(tree->unified, leaf->number, ROOM, O_RDONLY | O_DIRECTORY);
	return fd < 0 ? err_set(err, fd, "open the room's group") : fd;
}

int cgroup_leaf_attach_unified(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, pid_t pid, struct err *err)
{
	char procs[96];
	leaf_path(leaf->number, ROOM "/cgroup.procs", procs);
	int r = put_pid(tree->unified, procs, pid);
	return r < 0 ? err_set(err, r, "attach to the slot") : 0;
}

void cgroup_leaf_drop_cache(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, uint64_t bytes)
{
	char path[96], text[32];
	if (tree->v1[V1_MEMORY] >= 0 && tree->driver == POOL_DRIVER_HYBRID) {
		leaf_path(leaf->number, "memory.force_empty", path);
		(void)fd_put(tree->v1[V1_MEMORY], path, "0");
		return;
	}
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	(void)fd_put(leaf->dir, "memory.reclaim", text);
}

static int renew_pids(struct cgroup_tree *tree, const char *name, struct cgroup_leaf *leaf, pid_t keeper, struct err *err)
{
	int pids = tree->v1[V1_PIDS];
	char procs[96];
	leaf_path(leaf->number, "cgroup.procs", procs);
	/* A group with a member cannot be removed: the keeper waits in the parent. */
	int r = put_pid(pids, "cgroup.procs", keeper);
	if (r < 0)
		return err_set(err, r, "move the keeper");
	if (unlinkat(pids, name, AT_REMOVEDIR) < 0)
		return err_set(err, errno, "remove the pids leaf %s", name);
	r = make_v1_leaf(tree, V1_PIDS, name, err);
	if (r < 0)
		return r;
	r = put_pid(pids, procs, keeper);
	return r < 0 ? err_set(err, r, "move the keeper back") : 0;
}

int cgroup_leaf_renew(struct cgroup_tree *tree, uid_t owner, struct cgroup_leaf *leaf, pid_t keeper, int ret_fds[KNOB_MAX],
	uint32_t *ret_knobs, struct err *err)
{
	char name[32];
	leaf_name(leaf->number, name);
	cleanup_close(&leaf->dir);
	_cleanup_close_ int slot = open_dir(tree->unified, name);
	if (slot < 0)
		return err_set(err, slot, "open cgroup %s", name);
	if (unlinkat(slot, JOB, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_set(err, errno, "remove cgroup %s/" JOB, name);
	int r = make_job(slot, leaf, owner, err);
	if (r == 0 && tree->driver == POOL_DRIVER_HYBRID)
		r = renew_pids(tree, name, leaf, keeper, err);
	if (r >= 0 && tree->driver == POOL_DRIVER_HYBRID && tree->v1[V1_CPUSET] >= 0)
		r = inherit_cpuset(tree, name, err);
	if (r < 0)
		return r;
	if (tree->driver == POOL_DRIVER_V2)
		prepare_leaf(tree, leaf);
	return open_knobs(tree, leaf, ret_fds, ret_knobs, err);
}

void cgroup_leaf_close(struct cgroup_leaf *leaf)
{
	cleanup_close(&leaf->charged);
	cleanup_close(&leaf->dir);
}
