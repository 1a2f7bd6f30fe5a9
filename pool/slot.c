/*
 * Slots; petri-nursery.
 *
 *   EMPTY ──STAMP──▶ ROOM ──STAMP for the same plan──▶ ROOM: it makes the next zygote
 *                     ├──STAMP for another (killed first)──▶ DYING ──reaped──▶ [CLEANING ──▶] EMPTY …
 *                     ├──it ends: touched──▶ the same, and the last STAMP is made again
 *                     └──it ends otherwise──▶ ENDED ──STAMP──▶ [CLEANING ──▶] EMPTY …
 *
 * Slot numbers are host-wide: each is taken with an OFD lock, and leaf name, uid range and project id derive from it.
 */
#include "pool/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "pool/zygote.h"

#define STALE_CACHE_BYTES (512u << 10) /* above what cannot be reclaimed */
#define NUMBERS_TRIED 8
#define SLOW_CACHE_BYTES (8u << 20) /* reclaiming more than this is a helper's work */

static void tell(struct nursery *n, struct slot *s, unsigned type, unsigned step, int error, int *fds, size_t nfds)
{
	struct wire_msg msg = {.type = type, .slot = s->index, .seq = s->seq, .error = error, .step = step};
	(void)fd_send(n->config->worker, &msg, sizeof(msg), fds, nfds);
}

static bool hybrid(const struct nursery *n)
{
	return n->tree->driver == POOL_DRIVER_HYBRID;
}

/* A leaf or keeper that is only half in place must never be taken for a whole one: the next stamp makes both anew. */
static void give_leaf_up(struct slot *s)
{
	keeper_stop(&s->keeper);
	cgroup_leaf_close(&s->leaf);
}

/* A keeper for the v1 leaves; it gets ready while they are made. */
static int start_keeper(struct nursery *n, struct slot *s, struct err *err)
{
	if (!hybrid(n) || s->keeper.pid > 0)
		return 0;
	keeper_stop(&s->keeper);
	int r = keeper_start(&s->keeper, n->reserved);
	return r < 0 ? err_set(err, r, "fork a keeper") : 0;
}

/* A keeper that sits in them. */
static int place_keeper(struct nursery *n, struct slot *s, struct err *err)
{
	int r = start_keeper(n, s, err);
	if (r < 0 || !hybrid(n) || s->keeper.settled)
		return r;
	r = keeper_settle(&s->keeper, n->reserved);
	if (r < 0)
		(void)err_set(err, r, "have a keeper");
	else
		r = cgroup_leaf_attach_v1(n->tree, &s->leaf, s->keeper.pid, err);
	if (r < 0)
		give_leaf_up(s);
	return r;
}

static uid_t root_of(const struct slot *s)
{
	return POOL_UID_BASE + s->number * POOL_UID_COUNT;
}

/* The slot's first leaf, or one in the place of a leaf that holds what cannot be set back. */
static int make_leaf(struct nursery *n, struct slot *s, struct err *err)
{
	int fds[KNOB_MAX];
	uint32_t knobs = 0;
	bool renew = s->leaf.dir >= 0 && (!hybrid(n) || s->keeper.pid > 0);
	int r;
	if (renew) {
		/* On hybrid hosts the room must be gone, since it sits in the same groups. */
		r = cgroup_leaf_renew(n->tree, root_of(s), &s->leaf, s->keeper.pid, fds, &knobs, err);
	} else {
		if (s->keeper.settled) /* in what the leaf was */
			keeper_stop(&s->keeper);
		cgroup_leaf_close(&s->leaf);
		r = start_keeper(n, s, err);
		if (r < 0)
			return r;
		r = cgroup_leaf_make(n->tree, s->number, root_of(s), &s->leaf, fds, &knobs, err);
	}
	if (r < 0) {
		give_leaf_up(s);
		return r;
	}
	r = place_keeper(n, s, err);
	if (r < 0) {
		fd_close_many(fds, (size_t)__builtin_popcount(knobs));
		return r;
	}
	size_t nfds = (size_t)__builtin_popcount(knobs);
	struct wire_msg msg = {.type = WIRE_LEAF, .slot = s->index, .leaf = {.knobs = knobs, .number = s->number, .uid_base = root_of(s)}};
	r = fd_send(n->config->worker, &msg, sizeof(msg), fds, nfds);
	if (knobs & (1u << KNOB_MEMORY_PEAK)) {
		int peak = fds[__builtin_popcount(knobs & ((1u << KNOB_MEMORY_PEAK) - 1))];
		/* Stored first: QEMU 7.2 gets a setcc wrong whose store faults, and the page may be shared with a child. */
		n->peak_resets = false;
		if (pwrite(peak, "0", 1, 0) > 0)
			n->peak_resets = true;
	}
	fd_close_many(fds, nfds);
	s->used = false;
	s->cache_floor = 0;
	/* A worker that is gone has no use for the leaf; its socket's end is what ends the nursery. */
	return r < 0 && r != -EPIPE && r != -ECONNRESET ? err_set(err, r, "send a leaf to the worker") : 0;
}

static int open_net(struct err *err)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_set(err, errno, "open a network namespace") : fd;
}

/* Making one is slow (0.5 ms, and it serialises in the kernel): once a slot. */
static int make_net(struct nursery *n, struct slot *s, struct err *err)
{
	if (n->home_net < 0) {
		int r = n->home_net = open_net(err);
		if (r < 0)
			return r;
	}
	if (unshare(CLONE_NEWNET) < 0)
		return err_set(err, errno, "make a network namespace");
	s->net = open_net(err);
	if (setns(n->home_net, CLONE_NEWNET) < 0)
		return err_set(err, errno, "return to the nursery's network namespace");
	return s->net < 0 ? s->net : 0;
}

/* A number, and the scratch that goes with it. Where that cannot be emptied of what a crash left, another number does as well. */
static int take_place(struct nursery *n, struct slot *s, unsigned first, struct err *err)
{
	for (int tries = 0;; tries++) {
		int r = slot_take_number(n, first, &s->lock, err);
		if (r < 0)
			return r;
		s->number = (unsigned)r;
		r = start_keeper(n, s, err);
		if (r < 0)
			return r;
		r = n->stamper->slot_init(n->stamper->env, s->number, root_of(s), &s->stamp, err);
		if (r == 0 || tries == NUMBERS_TRIED)
			return r;
		log_write(LOG_WARN_, "nursery: slot=%u error=\"%s\", taking another", s->number, err_msg(err));
		cleanup_close(&s->lock);
		first = s->number + 1;
	}
}

int slot_open(struct nursery *n, unsigned index, unsigned first_number, struct err *err)
{
	struct slot *s = &n->slots[index];
	*s = (struct slot){.index = index, .lock = -1, .room_pidfd = -1, .requests = -1, .control = -1, .last = -1, .net = -1, .keeper = KEEPER_NONE, .leaf = CGROUP_LEAF_NONE};
	int r = take_place(n, s, first_number, err);
	unsigned number = s->number;
	if (r == 0 && !hybrid(n)) /* a keeper has its own */
		r = make_net(n, s, err);
	if (r == 0)
		r = make_leaf(n, s, err);
	return r < 0 ? err_wrap(err, "slot %u", number) : (int)number;
}

/* ---- making a room ---- */
static int write_map(pid_t pid, const char *which, uid_t base)
{
	char path[48], line[48];
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, which);
	(void)snprintf(line, sizeof(line), "0 %u %u\n", base, POOL_UID_COUNT);
	return fd_put(AT_FDCWD, path, line);
}

static int introduce(struct nursery *n, struct slot *s, unsigned *step, struct err *err)
{
	*step = STEP_IDS;
	int r = write_map(s->room, "uid_map", root_of(s));
	if (r == 0)
		r = write_map(s->room, "gid_map", root_of(s));
	if (r < 0)
		return err_set(err, r, "map the ids of slot %u", s->number);
	/* The first to go when the leaf, or the machine, runs out of memory, and so is what it makes. From outside: it is not dumpable,
	 * and its own file is root's. */
	char path[48];
	(void)snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", s->room);
	(void)fd_put(AT_FDCWD, path, "1000");
	*step = STEP_ATTACH;
	return n->attach_unified ? cgroup_leaf_attach_unified(n->tree, &s->leaf, s->room, err) : 0;
}

/* The room is born in the slot's network namespace: it could not enter it, which belongs to the machine's root. */
static pid_t clone_in_net(struct nursery *n, struct slot *s, const struct room_spec *spec)
{
	if (setns(s->net, CLONE_NEWNET) < 0)
		return -errno;
	pid_t pid = room_clone(spec, &s->room_pidfd);
	if (setns(n->home_net, CLONE_NEWNET) < 0)
		log_write(LOG_ERROR_, "nursery: cannot return to its network namespace: errno=%d", errno);
	return pid;
}

static int clone_room(struct nursery *n, struct slot *s, const struct room_spec *spec, struct err *err)
{
	s->room = hybrid(n) ? keeper_clone(&s->keeper, spec, &s->room_pidfd) : clone_in_net(n, s, spec);
	if (s->room > 0)
		return 0;
	if (hybrid(n))
		keeper_stop(&s->keeper); /* the next try starts another */
	int r = err_set(err, s->room, "clone the room");
	s->room = 0;
	return r;
}

static int make_room(struct nursery *n, struct slot *s, unsigned *step, struct err *err)
{
	const struct policy_slot *policy = &n->policies[s->plan.policy];
	struct nursery_mounts mounts = {.root = -1, .usr = -1, .scratch = -1};
	int requests[2], go[2];
	*step = STEP_SCRATCH;
	int r = n->stamper->make(n->stamper->env, s->stamp, &s->plan, &mounts, step, err);
	if (r < 0)
		return r;
	*step = STEP_CLONE;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, requests) < 0)
		return err_set(err, errno, "make a socket");
	_cleanup_close_ int theirs = requests[1];
	cleanup_close(&s->requests);
	s->requests = requests[0];
	if (pipe2(go, O_CLOEXEC) < 0)
		return err_set(err, errno, "make a pipe");
	_cleanup_close_ int wait = go[0], start = go[1];
	_cleanup_close_ int group = n->attach_unified ? -1 : cgroup_leaf_open_room(n->tree, &s->leaf, err);
	if (group < 0 && !n->attach_unified)
		return group;
	const struct room_spec spec = {.group = group, .requests = theirs, .go = wait, .number = ++s->rooms, .owner = root_of(s), .root = mounts.root, .usr = mounts.usr, .scratch = mounts.scratch, .network = s->plan.network, .filter = policy->fd, .filter_len = policy->len, .listener = policy->listener, .early = policy->early, .cookie = n->config->cookie != POOL_COOKIE_NONE, .cookie_required = n->config->cookie == POOL_COOKIE_REQUIRED, .lazy_scratch = mounts.freed_late, .apart = !hybrid(n)};
	r = clone_room(n, s, &spec, err);
	if (r < 0)
		return r;
	s->state = SLOT_ROOM;
	s->made_for = s->plan;
	n->stamper->handed_over(n->stamper->env, s->stamp);
	r = introduce(n, s, step, err);
	cleanup_close(&wait);
	if (r == 0 && write(start, "g", 1) != 1) {
		r = err_set(err, errno, "start the room");
		/* Dead before it could begin: born into a group whose kill count differs from that of the nursery's own group,
		 * see leaf_kill(). Groups of rooms are new, so it is our own group that was killed once. */
		n->attach_unified |= r == -EPIPE;
	}
	return r;
}

/* Ask the room for the next zygote, which introduces itself to the worker. */
static int make_zygote(struct slot *s, unsigned *step, struct err *err)
{
	const struct room_request request = {.network = s->plan.network};
	int fds[3] = {s->control, s->leaf.dir, s->last};
	*step = STEP_CLONE;
	s->used = true;
	/* A room that does not even read its requests is no room any more. */
	int r = fd_send_now(s->requests, &request, sizeof(request), fds, s->last >= 0 ? 3 : 2);
	cleanup_close(&s->last);
	return r < 0 ? err_set(err, r, "ask the room for a zygote") : 0;
}

static int check_plan(const struct nursery *n, const struct wire_plan *p, struct err *err)
{
	if (p->nlayers > POOL_LAYERS_MAX || p->network >= POOL_NET_MAX || p->policy >= POOL_POLICIES_MAX)
		return err_set(err, EINVAL, "plan");
	const struct policy_slot *policy = &n->policies[p->policy];
	if (policy->fd < 0)
		return err_set(err, ENOENT, "policy %u", p->policy);
	/* The floor refuses sockets in the shared namespace whatever the filter says; this only says so early. */
	if (policy->sockets && p->network == POOL_NET_SHARED)
		return err_set(err, EPERM, "a policy with sockets in the shared network namespace");
	return 0;
}

static void clean(struct nursery *n, struct slot *s);

static bool leaf_is_worn(const struct nursery *n, const struct slot *s)
{
	return s->leaf.dir < 0 || (s->used && !n->peak_resets) || s->plan.fresh_leaf;
}

static void give_up(struct nursery *n, struct slot *s, unsigned step, int error, const struct err *err)
{
	log_write(LOG_WARN_, "nursery: slot=%u step=\"%s\" error=\"%s\"", s->number, pool_step_name(step), err_msg(err));
	tell(n, s, WIRE_FAILED, step, error, NULL, 0);
	if (s->room > 0)
		slot_kill(n, s);
	else
		s->state = SLOT_ENDED;
}

static void advance(struct nursery *n, struct slot *s)
{
	if (s->state != SLOT_EMPTY || !s->pending)
		return;
	struct err err = ERR_INIT;
	unsigned step = STEP_PLAN;
	s->pending = false;
	int r = check_plan(n, &s->plan, &err);
	if (r == 0 && leaf_is_worn(n, s)) {
		step = STEP_LEAF;
		r = make_leaf(n, s, &err);
	}
	if (r == 0)
		r = place_keeper(n, s, &err);
	if (r == 0)
		r = make_room(n, s, &step, &err);
	if (r == 0)
		r = make_zygote(s, &step, &err);
	if (r < 0)
		give_up(n, s, step, r, &err);
}

/* ---- from one job to the next ---- */
static uint64_t charged(const struct slot *s)
{
	uint64_t now = 0;
	return s->leaf.charged < 0 || fd_pread_u64(s->leaf.charged, &now) < 0 ? 0 : now;
}

static void drop_cache(struct nursery *n, struct slot *s)
{
	/* What the job read first stays charged to its leaf, and would be part of the next job's peak. */
	uint64_t now = charged(s);
	if (now < s->cache_floor + STALE_CACHE_BYTES)
		return;
	cgroup_leaf_drop_cache(n->tree, &s->leaf, now);
	s->cache_floor = charged(s); /* page tables, stacks, and what the kernel charges ahead: not to be tried each time */
}

static void become_empty(struct nursery *n, struct slot *s)
{
	s->state = SLOT_EMPTY;
	advance(n, s);
}

/* In a helper: what it inherited of other slots would keep their mounts and memory alive as long as it lives, and its copies of
 * the worker's socket and of the locks would hide the nursery's own death. */
void slot_let_go(struct nursery *n, const struct slot *mine)
{
	for (unsigned i = 0; i < n->nslots; i++) {
		struct slot *s = &n->slots[i];
		cleanup_close(&s->keeper.sock);
		if (s == mine)
			continue;
		if (s->stamp)
			n->stamper->detach(n->stamper->env, s->stamp);
		cleanup_close(&s->requests);
		cleanup_close(&s->control);
		cleanup_close(&s->last);
		cleanup_close(&s->lock);
		cleanup_close(&s->room_pidfd);
		cgroup_leaf_close(&s->leaf);
	}
	(void)close(n->config->worker);
}

pid_t slot_fork(void)
{
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

/* One that is still there has been given up by the worker: a job's collecting ended, or will never. reap() takes it. */
static void end_opener(struct slot *s)
{
	if (s->opener > 0)
		(void)kill(s->opener, SIGKILL);
	s->opener = 0;
}

static void clean(struct nursery *n, struct slot *s)
{
	uint64_t now = charged(s);
	s->left = now - MIN(now, s->cache_floor);
	bool list = cache_list_begin(n, s, s->left);
	bool slow = list || now > SLOW_CACHE_BYTES || n->stamper->slow_to_clean(n->stamper->env, s->stamp);
	end_opener(s);
	pid_t helper = 0;
	if (slow) {
		/* The child holds copies of the fds: the last reference, and with it the work, is dropped there. */
		helper = slot_fork();
		if (helper == 0) {
			struct err err = ERR_INIT;
			slot_let_go(n, s);
			n->stamper->detach(n->stamper->env, s->stamp);
			/* Deleting what belongs to the job's user, under a quota; no ids, devices or owners are changed any more. */
			int r = sys_keep_caps(SYS_CAP(SYS_ADMIN) | SYS_CAP(DAC_OVERRIDE) | SYS_CAP(FOWNER) | SYS_CAP(LINUX_IMMUTABLE));
			if (r == 0)
				r = n->stamper->clean(n->stamper->env, s->stamp, &err);
			if (r == 0 && list)
				cache_list(n, s);
			if (r == 0)
				drop_cache(n, s);
			else
				log_write(LOG_ERROR_, "nursery: slot=%u cannot clean: error=\"%s\"", s->number, err_msg(&err));
			_exit(r == 0 ? 0 : 1);
		}
	}
	cleanup_close(&s->last);
	cleanup_close(&s->requests);
	n->stamper->detach(n->stamper->env, s->stamp);
	if (slow && helper > 0) {
		s->helper = helper;
		s->state = SLOT_CLEANING;
		return;
	}
	if (slow)
		(void)n->stamper->clean(n->stamper->env, s->stamp, NULL); /* no fork: slower, but clean */
	drop_cache(n, s);
	cache_dropped(n, s, s->left);
	become_empty(n, s);
}

void slot_kill(struct nursery *n, struct slot *s)
{
	(void)n;
	if (s->state != SLOT_ROOM)
		return;
	/* The end of a pid namespace's first process is the end of all in it. Not by cgroup.kill, which would cost the leaf. */
	(void)sys_pidfd_send_signal(s->room_pidfd, SIGKILL);
	s->state = SLOT_DYING;
}

/* The next zygote in the room that is there. Return: false when the room cannot serve this plan. */
static bool reuse_room(struct nursery *n, struct slot *s)
{
	struct err err = ERR_INIT;
	unsigned step = STEP_LEAF;
	if (s->state != SLOT_ROOM || s->plan.fresh_room || !wire_plan_equal(&s->made_for, &s->plan) || s->leaf.dir < 0 || (hybrid(n) && leaf_is_worn(n, s)))
		return false;
	uint64_t now = charged(s);
	s->left = now - MIN(now, s->cache_floor);
	if (s->left > SLOW_CACHE_BYTES || cache_is_due(n, s, s->left))
		return false; /* clean() has it done elsewhere */
	end_opener(s);
	drop_cache(n, s); /* before the leaf is removed: the kernel keeps one that has cached files, until it wants their memory */
	cache_dropped(n, s, s->left);
	int r = leaf_is_worn(n, s) ? make_leaf(n, s, &err) : 0;
	if (r == 0) {
		step = STEP_SCRATCH;
		if (s->made_for.disk_bytes != s->plan.disk_bytes || s->made_for.disk_inodes != s->plan.disk_inodes)
			r = n->stamper->resize(n->stamper->env, s->stamp, s->plan.disk_bytes, s->plan.disk_inodes, &err);
	}
	if (r == 0) {
		s->made_for = s->plan;
		r = make_zygote(s, &step, &err);
	}
	if (r < 0)
		log_write(LOG_INFO_, "nursery: slot=%u step=\"%s\" error=\"%s\", making another room", s->number, pool_step_name(step), err_msg(&err));
	else
		s->pending = false;
	return r == 0;
}

void slot_stamp(struct nursery *n, struct slot *s, uint32_t seq, const struct wire_plan *plan, int control, int last)
{
	cleanup_close(&s->control);
	cleanup_close(&s->last);
	s->control = control;
	s->last = last;
	if (s->state == SLOT_RETIRED)
		return;
	/* A stamp that is overtaken before it was made leaves its wish for a fresh leaf behind. */
	bool fresh = s->pending && s->plan.fresh_leaf;
	s->seq = seq;
	s->plan = *plan;
	s->plan.fresh_leaf |= fresh;
	s->pending = true;
	if (s->state == SLOT_ENDED)
		clean(n, s);
	else if (!reuse_room(n, s))
		slot_kill(n, s);
	advance(n, s);
}

void slot_resize(struct nursery *n, struct slot *s, uint32_t seq, const struct wire_plan *plan)
{
	struct err err = ERR_INIT;
	int r = -ESTALE;
	if (s->state == SLOT_ROOM && s->seq == seq)
		r = n->stamper->resize(n->stamper->env, s->stamp, plan->disk_bytes, plan->disk_inodes, &err);
	if (r == 0) {
		s->made_for.disk_bytes = plan->disk_bytes;
		s->made_for.disk_inodes = plan->disk_inodes;
	}
	if (r < 0)
		log_write(LOG_WARN_, "nursery: slot=%u cannot resize: error=\"%s\"", s->number, err_msg(&err));
	struct wire_msg msg = {.type = WIRE_RESIZED, .slot = s->index, .seq = seq, .error = r};
	(void)fd_send(n->config->worker, &msg, sizeof(msg), NULL, 0);
}

void slot_serve_open(struct nursery *n, struct slot *s, int sock, int root)
{
	(void)n;
	if (s->state == SLOT_RETIRED)
		return; /* the worker sees the socket close */
	end_opener(s);
	pid_t pid = fork();
	if (pid == 0)
		open_serve(sock, root, root_of(s) + POOL_JOB_UID);
	if (pid < 0)
		log_write(LOG_WARN_, "nursery: slot=%u cannot fork a collect helper: errno=%d", s->number, errno);
	else
		s->opener = pid;
}

/* Return: true when another room for the last STAMP is wanted. */
static bool room_ended(struct nursery *n, struct slot *s, int status)
{
	s->room = 0;
	cleanup_close(&s->room_pidfd);
	if (s->pending)
		return true;
	if (s->state == SLOT_ROOM && WIFEXITED(status) && WEXITSTATUS(status) == ROOM_TOUCHED) {
		s->pending = true;
		return true;
	}
	/* Not asked for: the machine ran out of memory, or its set-up failed. */
	tell(n, s, WIRE_FAILED, STEP_SETUP_WAIT, -ESRCH, NULL, 0);
	s->state = SLOT_ENDED;
	return false;
}

void slot_reaped(struct nursery *n, struct slot *s, pid_t pid, int status)
{
	if (s->state == SLOT_RETIRED) {
		if (pid == s->room) {
			s->room = 0;
			cleanup_close(&s->room_pidfd);
		} else {
			s->helper = 0;
			cache_dropped(n, s, 0);
		}
		return;
	}
	if (pid == s->helper) {
		s->helper = 0;
		cache_dropped(n, s, s->left);
		if (status != 0) {
			s->state = SLOT_RETIRED;
			tell(n, s, WIRE_FAILED, STEP_HELPER, -EIO, NULL, 0);
			return;
		}
		become_empty(n, s);
		return;
	}
	if (room_ended(n, s, status))
		clean(n, s);
}

void slot_close(struct nursery *n, struct slot *s)
{
	struct err err = ERR_INIT;
	keeper_stop(&s->keeper);
	cleanup_close(&s->requests);
	cleanup_close(&s->control);
	cleanup_close(&s->last);
	cleanup_close(&s->net);
	if (s->stamp)
		n->stamper->slot_free(n->stamper->env, s->stamp);
	s->stamp = NULL;
	cgroup_leaf_close(&s->leaf);
	if (s->lock >= 0 && cgroup_leaf_remove(n->tree, s->number, &err) < 0)
		log_write(LOG_WARN_, "nursery: slot=%u error=\"%s\", ignoring", s->number, err_msg(&err));
	cleanup_close(&s->lock);
}
