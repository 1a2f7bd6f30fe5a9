/*
 * Whose account the page cache of images is on. petri-nursery.
 *
 * The job that reads a file first is charged for its pages. They would be part of its successor's peak, so they are reclaimed when it
 * ends; and then the next one would read the file from the disk again, and so on for ever. So of a job that leaves that much, the
 * helper that reclaims first lists which of the image's files the jobs are charged with, and once they are dropped another child, in the group
 * `cache` beside the jobs', has them read again: there they stay, and no job pays for them. The list is kept for the next time.
 * Linux, Documentation/admin-guide/cgroup-v2.rst, "Memory Ownership": a page is its first user's as long as it is cached.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "pool/slot.h"

#define GROUP "cache"
#define LEVELS 8	       /* of groups above it whose limits are looked at */
#define SHARE 4		       /* of the machine's memory: the part that is kept at most */
#define LEAST_BYTES (1u << 20) /* left by a job: less is not worth a walk over its image */
#define LIST_US 2000000	       /* the slot waits for it */
#define REST 10		       /* times as long as looking took it is not done again, for whatever plan: a tenth of a CPU at most */
#define AGAIN_US 1000000       /* until a plan's files are looked for again; doubled each time: it may be the job's own files that it leaves */
#define READ_AGAIN_US 250000
#define AGAIN_US_MAX 600000000u

/* FNV-1a over what the plan shows of files: two that share a number share their times, no more. */
static uint64_t key_of(const struct wire_plan *plan)
{
	uint64_t key = 0xcbf29ce484222325;
	const uint8_t *bytes = &plan->layers[0][0];
	for (size_t i = 0; i < plan->nlayers * sizeof(plan->layers[0]); i++)
		key = (key ^ bytes[i]) * 0x100000001b3;
	return (key ^ (plan->host_usr != 0)) * 0x100000001b3 | 1;
}

/* The plan's entry, or the one that was used least lately, made its own. */
static struct cached_plan *entry_of(struct page_cache *c, uint64_t key)
{
	struct cached_plan *oldest = &c->plans[0];
	for (size_t i = 0; i < ARRAY_SIZE(c->plans); i++) {
		if (c->plans[i].key == key)
			return &c->plans[i];
		if (c->plans[i].next_us < oldest->next_us)
			oldest = &c->plans[i];
	}
	*oldest = (struct cached_plan){.key = key, .delay_us = AGAIN_US};
	return oldest;
}

/* Cached files that the slot's leaf is charged with, without those of a tmpfs, which go with it. */
static uint64_t files_charged(const struct nursery *n, const struct slot *s)
{
	bool v2 = n->tree->driver == POOL_DRIVER_V2;
	char path[48];
	(void)snprintf(path, sizeof(path), "slot-%u/memory.stat", s->number);
	_cleanup_close_ int fd = openat(v2 ? s->leaf.dir : n->tree->v1[V1_MEMORY], v2 ? "memory.stat" : path, O_RDONLY | O_CLOEXEC);
	uint64_t files = 0, tmpfs = 0;
	if (fd < 0 || fd_pread_key(fd, v2 ? "file" : "cache", &files) < 0 || fd_pread_key(fd, "shmem", &tmpfs) < 0)
		return 0;
	return files > tmpfs ? files - tmpfs : 0;
}

bool cache_is_due(struct nursery *n, const struct slot *s, uint64_t left)
{
	struct page_cache *c = &n->cache;
	if (!n->config->keep_cache || c->given_up || left < LEAST_BYTES || c->listing || c->reader > 0)
		return false;
	uint64_t now = now_us();
	if (now < c->next_us || now < c->rest_us)
		return false;
	struct cached_plan *plan = entry_of(c, key_of(&s->made_for));
	if (now < plan->next_us)
		return false;
	if (files_charged(n, s) >= LEAST_BYTES)
		return true;
	plan->next_us = now + AGAIN_US; /* something else: reading what it is takes time, too */
	return false;
}

bool cache_list_begin(struct nursery *n, const struct slot *s, uint64_t left)
{
	struct page_cache *c = &n->cache;
	if (!cache_is_due(n, s, left))
		return false;
	cleanup_close(&c->list);
	c->list = memfd_create("petri-cache", MFD_CLOEXEC);
	if (c->list < 0)
		return false;
	c->key = key_of(&s->made_for);
	c->slot = s->index;
	c->listing = true;
	c->began_us = now_us();
	c->read_delay_us = READ_AGAIN_US;
	struct cached_plan *plan = entry_of(c, c->key);
	plan->next_us = c->began_us + plan->delay_us;
	plan->delay_us = MIN(plan->delay_us * 2, AGAIN_US_MAX);
	return true;
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return left < right ? -1 : left > right;
}

/* The groups of the slots, and those above them, which have what is left of groups that were removed. Return: how many. */
static size_t groups_of(const struct nursery *n, const uint64_t **ret_groups)
{
	static uint64_t ret[2 * POOL_SLOTS_MAX + 1]; /* a child's only ones */
	*ret_groups = ret;
	bool v2 = n->tree->driver == POOL_DRIVER_V2;
	int parent = v2 ? n->tree->unified : n->tree->v1[V1_MEMORY];
	struct stat st;
	size_t count = 0;
	if (fstat(parent, &st) == 0)
		ret[count++] = st.st_ino;
	for (unsigned i = 0; i < n->nslots; i++) {
		char path[48];
		(void)snprintf(path, sizeof(path), "slot-%u", n->slots[i].number);
		if (fstatat(parent, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
			ret[count++] = st.st_ino;
		(void)snprintf(path, sizeof(path), "slot-%u/job", n->slots[i].number);
		if (v2 && fstatat(parent, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
			ret[count++] = st.st_ino;
	}
	qsort(ret, count, sizeof(*ret), compare);
	return count;
}

void cache_list(struct nursery *n, const struct slot *s)
{
	/* What the job wrote to a disk has been deleted by now. */
	if (files_charged(n, s) < LEAST_BYTES)
		return;
	const uint64_t *groups;
	size_t count = groups_of(n, &groups);
	n->stamper->charged(n->stamper->env, &s->made_for, groups, count, n->cache.list, now_us() + LIST_US);
}

/* The group above the jobs', in the hierarchy that has the memory controller. Return: an fd, or -1. */
static int open_parent(const struct cgroup_tree *tree)
{
	if (tree->driver == POOL_DRIVER_V2)
		return openat(tree->unified, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fcntl(tree->v1[V1_MEMORY], F_DUPFD_CLOEXEC, 0);
}

/* A share of what the machine has, or of what petri may use of it: of the limits on the groups above, as far as they can be seen. */
static uint64_t most_bytes(const struct cgroup_tree *tree, int parent)
{
	bool v2 = tree->driver == POOL_DRIVER_V2;
	struct sysinfo info;
	uint64_t most = sysinfo(&info) < 0 ? 0 : (uint64_t)info.totalram * info.mem_unit;
	char path[64] = "";
	for (int above = 0; above < LEVELS; above++) {
		uint64_t limit;
		size_t len = strlen(path);
		(void)snprintf(path + len, sizeof(path) - len, v2 ? "memory.max" : "memory.limit_in_bytes");
		_cleanup_close_ int fd = openat(parent, path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			break;			   /* the root of the tree has none */
		if (fd_pread_u64(fd, &limit) == 0) /* else: "max" */
			most = MIN(most, limit);
		(void)snprintf(path + len, sizeof(path) - len, "../");
	}
	return most / SHARE;
}

static int enter_group(const struct cgroup_tree *tree, uint64_t *ret_bytes)
{
	_cleanup_close_ int parent = open_parent(tree);
	char text[24];
	uint64_t bytes = *ret_bytes = parent < 0 ? 0 : most_bytes(tree, parent);
	if (parent < 0 || (mkdirat(parent, GROUP, 0755) < 0 && errno != EEXIST))
		return -errno;
	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	int r = fd_put(parent, tree->driver == POOL_DRIVER_V2 ? GROUP "/memory.high" : GROUP "/memory.limit_in_bytes", text);
	return r < 0 ? r : fd_put(parent, GROUP "/cgroup.procs", "0");
}

void cache_remove(const struct cgroup_tree *tree)
{
	_cleanup_close_ int parent = open_parent(tree);
	_cleanup_close_ int fd = parent < 0 ? -1 : openat(parent, tree->driver == POOL_DRIVER_V2 ? GROUP "/memory.current" : GROUP "/memory.usage_in_bytes", O_RDONLY | O_CLOEXEC);
	uint64_t bytes = 0;
	if (fd >= 0 && fd_pread_u64(fd, &bytes) == 0 && bytes < LEAST_BYTES)
		(void)unlinkat(parent, GROUP, AT_REMOVEDIR);
}

static _Noreturn void read_again(struct nursery *n)
{
	const uint64_t *groups;
	uint64_t bytes;
	size_t count = groups_of(n, &groups);
	slot_let_go(n, NULL);
	/* The jobs' own reads come first. */
	(void)setpriority(PRIO_PROCESS, 0, 10);
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7));
	int r = enter_group(n->tree, &bytes);
	if (r == 0)
		r = sys_keep_caps(SYS_CAP(SYS_ADMIN) | SYS_CAP(DAC_OVERRIDE) | SYS_CAP(FOWNER)); /* whose a page is; to read what only root may, without changing when it was read */
	if (r == 0)
		n->stamper->read_again(n->stamper->env, n->cache.list, groups, count, bytes);
	else
		log_write(LOG_WARN_, "nursery: the group for images' files cannot be used: errno=%d, not tried again", -r);
	_exit(r == 0 ? 0 : 1);
}

static void start_reader(struct nursery *n)
{
	struct page_cache *c = &n->cache;
	pid_t pid = slot_fork();
	if (pid == 0)
		read_again(n);
	c->reader = pid > 0 ? pid : 0;
	c->read_us = now_us();
	c->read_next_us = c->read_us + c->read_delay_us;
	c->read_delay_us = MIN(c->read_delay_us * 2, AGAIN_US_MAX);
}

void cache_dropped(struct nursery *n, const struct slot *s, uint64_t left)
{
	struct page_cache *c = &n->cache;
	uint64_t now = now_us();
	if (c->listing && c->slot == s->index) {
		c->listing = false;
		c->next_us = now + (now - c->began_us) * REST;
		start_reader(n);
		return;
	}
	/* Not all that was charged could be reclaimed the first time, and memory may have been wanted for something else since. */
	if (c->list >= 0 && !c->listing && c->reader == 0 && left >= LEAST_BYTES && now >= MAX(c->read_next_us, c->rest_us) && c->key == key_of(&s->made_for))
		start_reader(n);
}

void cache_reaped(struct nursery *n, pid_t pid, int status)
{
	struct page_cache *c = &n->cache;
	if (pid != c->reader)
		return;
	uint64_t now = now_us();
	c->given_up |= WIFEXITED(status) && WEXITSTATUS(status) != 0;
	c->reader = 0;
	c->rest_us = now + 2 * (now - c->read_us);
}

void cache_close(struct nursery *n)
{
	cleanup_close(&n->cache.list);
	if (n->cache.reader > 0)
		(void)kill(n->cache.reader, SIGKILL);
}
