/* Stamping; see the header. Everything here runs in the nursery and must stay well under a millisecond, but for
 * stamp_delete(), which runs in a throw-away child. */
#include "layers/stamp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "base/sys.h"

#define HELPER_BLOCKS_MAX 256 /* 4 KiB blocks of tmpfs that are freed inline: about 50 µs */

static int attach(int tree, const char *target, struct err *err)
{
	int r = sys_move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
	return r < 0 ? err_set(err, r, "attach %s", target) : 0;
}

static int clone_tree(int dirfd, const char *path, unsigned attrs, struct err *err)
{
	_cleanup_close_ int tree = sys_open_tree(dirfd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (tree < 0)
		return err_set(err, tree, "clone the mount of %s", *path ? path : "the state directory");
	struct mount_attr attr = {.attr_set = attrs, .attr_clr = attrs & MOUNT_ATTR__ATIME ? MOUNT_ATTR__ATIME : 0};
	int r = sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr);
	if (r < 0)
		return err_set(err, r, "restrict the mount of %s", *path ? path : "the state directory");
	return TAKE_FD(tree);
}

static int simple_mount(const char *fs, const char *key, const char *value, unsigned attrs, struct err *err)
{
	_cleanup_close_ int fd = sys_fsopen(fs, FSOPEN_CLOEXEC);
	if (fd < 0)
		return err_set(err, fd, "open %s", fs);
	int r = key ? sys_fsconfig(fd, FSCONFIG_SET_STRING, key, value, 0) : 0;
	if (r == 0)
		r = sys_fsconfig(fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (r < 0)
		return err_set(err, r, "mount %s", fs);
	int mount = sys_fsmount(fd, FSMOUNT_CLOEXEC, attrs);
	return mount < 0 ? err_set(err, mount, "fsmount %s", fs) : mount;
}

static int make_dirs(struct err *err)
{
	static const char *const dirs[] = {"proc", "state", "usr", "b", "w", "wt", "wt/e", "wt/h", "wt/s", "r"};
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (mkdir(dirs[i], 0755) < 0)
			return err_set(err, errno, "make /%s", dirs[i]);
	for (int i = 0; i < STAMP_LAYERS_MAX; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "wt/%d", i);
		if (mkdir(name, 0755) < 0)
			return err_set(err, errno, "make /%s", name);
	}
	return 0;
}

/* Pivot into a small tmpfs. /proc serves as the place to stand: it exists everywhere, and is left at once. */
static int pivot(struct err *err)
{
	_cleanup_close_ int root = simple_mount("tmpfs", "mode", "0755", MOUNT_ATTR_NOSUID, err);
	if (root < 0)
		return root;
	int r = attach(root, "/proc", err);
	if (r < 0)
		return r;
	if (fchdir(root) < 0)
		return err_set(err, errno, "enter the new root");
	r = make_dirs(err);
	if (r < 0)
		return r;
	r = sys_pivot_root(".", ".");
	if (r < 0)
		return err_set(err, r, "pivot_root");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return err_set(err, errno, "leave the old root");
	return 0;
}

/* By trying it: whether mounts of the filesystem below path can be idmapped. */
static bool can_idmap(const char *path, uid_t inside)
{
	_cleanup_close_ int userns = overlay_userns(inside, inside, 65536, NULL);
	_cleanup_close_ int tree = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns};
	return userns >= 0 && tree >= 0 && sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr) == 0;
}

int stamp_env_enter(struct stamp_env *env, int state_fd, uid_t store_base, bool force_tmpfs, const char *projects, struct err *err)
{
	/* Cloned before the namespace is left: afterwards these mounts would be another namespace's (EINVAL). */
	_cleanup_close_ int state = clone_tree(state_fd, "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
	if (state < 0)
		return state;
	_cleanup_close_ int usr =
		clone_tree(AT_FDCWD, "/usr", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
	if (usr < 0)
		return usr;
	if (unshare(CLONE_NEWNS) < 0)
		return err_set(err, errno, "unshare the mount namespace (petri needs root)");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_set(err, errno, "make the mounts private");
	int r = pivot(err);
	if (r < 0)
		return r;
	_cleanup_close_ int proc =
		simple_mount("proc", NULL, NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
	if (proc < 0)
		return proc;
	r = attach(proc, "/proc", err);
	if (r == 0)
		r = attach(state, "/state", err);
	if (r == 0)
		r = attach(usr, "/usr", err);
	if (r < 0)
		return r;
	memset(env, 0, sizeof(*env));
	env->store_base = store_base;
	env->layers_idmapped = can_idmap("/state", store_base);
	env->usr_idmapped = can_idmap("/usr", 0);
	env->state = open("/state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	env->slots = open("/state/slots", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (env->state < 0 || env->slots < 0)
		return err_set(err, errno, "open the state directory's slots");
	env->scratch = !force_tmpfs && scratch_quota_usable(env->slots) ? SCRATCH_QUOTA : SCRATCH_TMPFS;
	if (env->scratch == SCRATCH_QUOTA)
		return stamp_projects_choose(env->slots, projects, &env->projects, err);
	return projects && *projects ? stamp_projects_parse(projects, &env->projects, err) : 0; /* a slip is told everywhere */
}

static int make_node(const char *base, const char *name, unsigned major_no, unsigned minor_no, uid_t owner)
{
	char path[64];
	(void)snprintf(path, sizeof(path), "%s/dev/%s", base, name);
	if (mknod(path, S_IFCHR | 0666, makedev(major_no, minor_no)) < 0 || chmod(path, 0666) < 0 ||
		chown(path, owner, owner) < 0)
		return -errno;
	return 0;
}

static int fill_base(const char *base, uid_t owner, struct err *err)
{
	static const struct {
		const char *name;
		unsigned major_no, minor_no;
	} nodes[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}};
	static const struct {
		const char *name, *target;
	} links[] = {{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"}};
	static const struct {
		const char *name;
		mode_t mode;
	} dirs[] = {{"", 0755}, {"/dev", 0755}, {"/dev/shm", 01777}, {"/proc", 0555}, {"/usr", 0755}, {"/work", 0755},
		{"/tmp", 01777}};
	char path[80];
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		(void)snprintf(path, sizeof(path), "%s%s", base, dirs[i].name);
		if (mkdir(path, 0700) < 0 || chown(path, owner, owner) < 0 || chmod(path, dirs[i].mode) < 0)
			return err_set(err, errno, "make %s", path);
	}
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		int r = make_node(base, nodes[i].name, nodes[i].major_no, nodes[i].minor_no, owner);
		if (r < 0)
			return err_set(err, r, "make /dev/%s (CAP_MKNOD?)", nodes[i].name);
	}
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		(void)snprintf(path, sizeof(path), "%s/dev/%s", base, links[i].name);
		if (symlink(links[i].target, path) < 0 || lchown(path, owner, owner) < 0)
			return err_set(err, errno, "make %s", path);
	}
	/* A layer's own /dev stays hidden. */
	(void)snprintf(path, sizeof(path), "%s/dev", base);
	if (setxattr(path, "trusted.overlay.opaque", "y", 1, 0) < 0)
		return err_set(err, errno, "mark %s opaque", path);
	return 0;
}

int stamp_slot_init(struct stamp_env *env, struct stamp_slot *slot, unsigned number, uid_t uid_base, uid_t job_uid,
	struct err *err)
{
	*slot = (struct stamp_slot){.number = number, .generation = (unsigned)now_us(), .uid_base = uid_base, .job_uid = job_uid, .userns_store = -1, .userns_host = -1, .root = -1, .usr = -1, .scratch = -1, .places = -1};
	const struct stamp_projects *p = &env->projects;
	char name[32];
	if (env->scratch == SCRATCH_QUOTA && (p->last - p->first + 1) / STAMP_PROJECTS <= number)
		return err_say(err, ERANGE, "the project ids %u-%u are too few for slot %u: a slot takes %u", p->first, p->last, number, STAMP_PROJECTS);
	(void)snprintf(name, sizeof(name), "%u", number);
	int r = scratch_remove_tree(env->slots, name, env->scratch == SCRATCH_QUOTA, err);
	if (r < 0)
		return r;
	(void)snprintf(name, sizeof(name), "/b/%u", number);
	return fill_base(name, uid_base, err);
}

static int attach_layers(struct stamp_env *env, struct stamp_slot *slot, const struct stamp_plan *plan, char *lowers,
	size_t cap, struct err *err)
{
	if (plan->nlayers > 0 && slot->userns_store < 0) {
		slot->userns_store = overlay_userns(env->store_base, slot->uid_base, 65536, err);
		if (slot->userns_store < 0)
			return slot->userns_store;
	}
	/* The leftmost lowerdir is the uppermost: the base hides what a layer has in /dev. */
	size_t len = (size_t)snprintf(lowers, cap, "/b/%u", slot->number);
	for (uint32_t i = plan->nlayers; i-- > 0;) {
		char hex[33], source[80], target[16];
		format_hex(plan->layers[i], 16, hex);
		(void)snprintf(source, sizeof(source), "/state/layers/%s/diff", hex);
		(void)snprintf(target, sizeof(target), "/w/%u", i);
		bool idmapped;
		int r = overlay_attach_lower(source, target, slot->userns_store, &idmapped, err);
		if (r < 0)
			return r;
		env->layers_idmapped &= idmapped;
		len += (size_t)snprintf(lowers + len, cap - len, ":%u", i);
		if (len >= cap)
			return err_set(err, E2BIG, "%u layers", plan->nlayers);
	}
	return 0;
}

/*
 * XFS frees deleted files in the background, so what the last generation held may be charged for a while yet: each generation
 * has another of the slot's project ids, one that nothing is charged to if there is one, else that which was in use longest ago.
 */
static uint32_t project_of(const struct stamp_env *env, const struct stamp_slot *slot)
{
	return env->projects.first + slot->number * STAMP_PROJECTS + slot->generation % STAMP_PROJECTS;
}

static int attach_scratch(struct stamp_env *env, struct stamp_slot *slot, const struct stamp_plan *plan, char upper[64],
	char work[64], struct err *err)
{
	if (env->scratch == SCRATCH_TMPFS) {
		slot->scratch = scratch_make_tmpfs(slot->uid_base, plan->disk_bytes, plan->disk_inodes, err);
		if (slot->scratch < 0)
			return slot->scratch;
		int r = attach(slot->scratch, "/w/s", err);
		if (r < 0)
			return r;
	} else {
		unsigned tried = 0;
		do
			slot->generation++;
		while (!scratch_project_is_free(env->slots, project_of(env, slot)) && tried++ < STAMP_PROJECTS);
		slot->scratch = scratch_make_quota(env->slots, slot->number, slot->generation, project_of(env, slot), plan->disk_bytes,
			plan->disk_inodes, err);
		if (slot->scratch < 0)
			return slot->scratch;
		/* Attached under the same short name: the job can read an overlay's options in its mountinfo. */
		_cleanup_close_ int tree = clone_tree(slot->scratch, "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
		int r = tree < 0 ? tree : attach(tree, "/w/s", err);
		if (r < 0)
			return r;
	}
	(void)snprintf(upper, 64, "s/u");
	(void)snprintf(work, 64, "s/w");
	/* While it is attached: what is not cannot be cloned. No job may see when another looked into its /tmp. */
	slot->places = clone_tree(AT_FDCWD, "s", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME, err);
	return slot->places < 0 ? slot->places : scratch_fill(slot->scratch, slot, err);
}

static int make_usr(struct stamp_env *env, struct stamp_slot *slot, struct err *err)
{
	if (slot->userns_host < 0) {
		slot->userns_host = overlay_userns(0, slot->uid_base, 65536, err);
		if (slot->userns_host < 0)
			return slot->userns_host;
	}
	bool idmapped;
	int r = overlay_attach_lower("/usr", "/w/h", slot->userns_host, &idmapped, err);
	if (r < 0)
		return r;
	env->usr_idmapped &= idmapped;
	/* An overlay of its own, not a bind: inotify on a shared inode would see other jobs' opens. */
	slot->usr = overlay_make("h:e", NULL, NULL, true, err);
	return slot->usr < 0 ? slot->usr : 0;
}

static int make_in_workshop(struct stamp_env *env, struct stamp_slot *slot, const struct stamp_plan *plan, int *ret_step,
	struct err *err)
{
	char lowers[256], upper[64], work[64];
	if (chdir("/w") < 0)
		return err_set(err, errno, "enter the workshop");
	*ret_step = 0;
	int r = attach_scratch(env, slot, plan, upper, work, err);
	if (r < 0)
		return r;
	*ret_step = 1;
	r = attach_layers(env, slot, plan, lowers, sizeof(lowers), err);
	if (r < 0)
		return r;
	*ret_step = 2;
	slot->root = overlay_make(lowers, upper, work, false, err);
	if (slot->root < 0)
		return slot->root;
	*ret_step = 0;
	if (env->scratch == SCRATCH_QUOTA) {
		r = scratch_settle(slot->scratch, project_of(env, slot), &env->own, plan->disk_bytes, plan->disk_inodes, err);
		if (r < 0)
			return r;
	}
	*ret_step = 2;
	return plan->host_usr ? make_usr(env, slot, err) : 0;
}

int stamp_make(struct stamp_env *env, struct stamp_slot *slot, const struct stamp_plan *plan, int *ret_step,
	struct err *err)
{
	*ret_step = 0;
	if (plan->nlayers > STAMP_LAYERS_MAX)
		return err_say(err, E2BIG, "%u layers are more than %d", plan->nlayers, STAMP_LAYERS_MAX);
	_cleanup_close_ int workshop = sys_open_tree(AT_FDCWD, "/wt", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (workshop < 0)
		return err_set(err, workshop, "clone the workshop");
	int r = attach(workshop, "/w", err);
	if (r < 0)
		return r;
	r = make_in_workshop(env, slot, plan, ret_step, err);
	/* All that was attached below goes in one step, and one grace period. */
	if ((chdir("/") < 0 || umount2("/w", MNT_DETACH) < 0) && r == 0)
		r = err_set(err, errno, "clear the workshop");
	if (r < 0) {
		stamp_detach(env, slot);
		(void)stamp_delete(env, slot, NULL);
	}
	return r;
}

int stamp_resize(struct stamp_env *env, struct stamp_slot *slot, uint64_t bytes, uint64_t inodes, struct err *err)
{
	if (slot->scratch < 0)
		return err_set(err, ENOENT, "resize a slot that is not stamped");
	return env->scratch == SCRATCH_TMPFS ? scratch_resize_tmpfs(slot->scratch, bytes, inodes, err)
					     : scratch_settle(slot->scratch, project_of(env, slot), &env->own, bytes, inodes, err);
}

bool stamp_needs_helper(const struct stamp_env *env, const struct stamp_slot *slot)
{
	struct statfs st;
	if (slot->scratch < 0)
		return false;
	if (env->scratch == SCRATCH_QUOTA)
		return true;
	return fstatfs(slot->scratch, &st) == 0 &&
		(st.f_blocks - st.f_bfree > HELPER_BLOCKS_MAX || st.f_files - st.f_ffree > HELPER_BLOCKS_MAX);
}

void stamp_handed_over(struct stamp_env *env, struct stamp_slot *slot)
{
	(void)env;
	cleanup_close(&slot->root);
	cleanup_close(&slot->usr);
	cleanup_close(&slot->places);
}

void stamp_detach(struct stamp_env *env, struct stamp_slot *slot)
{
	stamp_handed_over(env, slot);
	cleanup_close(&slot->scratch);
}

int stamp_delete(struct stamp_env *env, struct stamp_slot *slot, struct err *err)
{
	if (env->scratch == SCRATCH_TMPFS)
		return 0;
	char name[32];
	(void)snprintf(name, sizeof(name), "%u", slot->number);
	return scratch_remove_tree(env->slots, name, env->scratch == SCRATCH_QUOTA, err);
}

unsigned stamp_leftovers(struct stamp_env *env, unsigned *ret, unsigned cap)
{
	int fd = openat(env->slots, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	unsigned n = 0, number;
	char end;
	for (struct dirent *e; dir && n < cap && (e = readdir(dir));)
		if (sscanf(e->d_name, "%u%c", &number, &end) == 1 || sscanf(e->d_name, "trash-%u%c", &number, &end) == 1)
			ret[n++] = number;
	return n;
}

void stamp_sweep(struct stamp_env *env, unsigned number)
{
	char name[32];
	(void)snprintf(name, sizeof(name), "%u", number);
	(void)scratch_remove_tree(env->slots, name, false, NULL);
}

void stamp_slot_free(struct stamp_env *env, struct stamp_slot *slot)
{
	stamp_detach(env, slot);
	stamp_sweep(env, slot->number);
	cleanup_close(&slot->userns_store);
	cleanup_close(&slot->userns_host);
}
