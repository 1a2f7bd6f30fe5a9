/*
 * The nursery against a hostile worker: any messages, in any order, with any descriptors beside them, while its children end as they
 * like. What the nursery does (clone, fork, kill, mount, make groups) is only noted here and compared with what it must never do: signal
 * what is not its own, make a second room in a slot, one in a scratch that was not cleaned, under a policy that it was not given
 * sealed, or one that may make sockets in the shared network namespace, or use a slot again that was given up. No descriptor is lost.
 *
 * Taken out once: the look at the seals in take_policy(): a filter that can still be written reaches a room (corpus: unsealed); that at
 * sockets in check_plan(): such a policy does, in the shared namespace (sockets_shared).
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "fuzz_input.h"

#include "base/fd.h"
#include "base/log.h"
#include "pool/slot.h"

#define SLOTS 3
#define CHILDREN_MAX 512
#define PID_FIRST 0x40000000 /* above every kernel's pid_max */
#define OP_BUDGET 200

struct child {
	pid_t pid;
	int pidfd, go;	  /* -1: none; go: the room's end of the pipe */
	bool ended, room; /* ended: to be reaped */
	int status;
};

static struct nursery nursery;
static struct slot slots[SLOTS];
static struct child children[CHILDREN_MAX];
static size_t nchildren;
static pid_t next_pid;
static bool dirty[SLOTS], slow, refuse;
static unsigned next_number;
static int null_fd = -1;

/* ---- children ---- */
static struct child *find(pid_t pid)
{
	for (size_t i = 0; i < nchildren; i++)
		if (children[i].pid == pid)
			return &children[i];
	return NULL;
}

static pid_t new_child(int *ret_pidfd, bool room)
{
	if (refuse || nchildren == CHILDREN_MAX)
		return -EAGAIN;
	if (ret_pidfd)
		*ret_pidfd = dup(null_fd);
	children[nchildren++] = (struct child){.pid = next_pid++, .pidfd = ret_pidfd ? *ret_pidfd : -1, .go = -1, .room = room};
	return children[nchildren - 1].pid;
}

static void end_child(struct child *c, int status)
{
	if (!c->ended)
		c->status = status;
	c->ended = true;
}

pid_t __wrap_fork(void);
int __wrap_kill(pid_t pid, int sig);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
int __wrap_sys_pidfd_send_signal(int pidfd, int sig);
int __wrap_setns(int fd, int type);
int __wrap_unshare(int flags);
int __wrap_fd_put(int dirfd, const char *name, const char *value);

pid_t __wrap_fork(void)
{
	pid_t pid = new_child(NULL, false);
	errno = EAGAIN;
	return pid < 0 ? -1 : pid;
}

int __wrap_kill(pid_t pid, int sig)
{
	struct child *c = find(pid);
	CHECK(c && sig == SIGKILL && !c->room);
	end_child(c, SIGKILL);
	return 0;
}

pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
	CHECK(pid == -1 && options == WNOHANG);
	for (size_t i = 0; i < nchildren; i++) {
		struct child c = children[i];
		if (!c.ended)
			continue;
		cleanup_close(&children[i].go);
		children[i] = children[--nchildren];
		*status = c.status;
		for (size_t k = 0; k < SLOTS; k++)
			if (slots[k].helper == c.pid && c.status == 0)
				dirty[k] = false;
		return c.pid;
	}
	return 0;
}

int __wrap_sys_pidfd_send_signal(int pidfd, int sig)
{
	for (size_t i = 0; i < nchildren; i++) {
		if (children[i].pidfd == pidfd) {
			CHECK(sig == SIGKILL && children[i].room);
			end_child(&children[i], SIGKILL);
			return 0;
		}
	}
	CHECK(!"a signal to something that is no child");
}

int __wrap_setns(int fd, int type)
{
	CHECK(fd >= 0 && type == CLONE_NEWNET);
	return 0;
}

int __wrap_unshare(int flags)
{
	CHECK(flags == CLONE_NEWNET);
	return 0;
}

/* The maps of ids, which are the slot's, of a room that is there. */
int __wrap_fd_put(int dirfd, const char *name, const char *value)
{
	int pid = 0;
	CHECK(dirfd == AT_FDCWD && sscanf(name, "/proc/%d/", &pid) == 1);
	const struct child *c = find(pid);
	CHECK(c && c->room);
	for (size_t i = 0; i < SLOTS; i++) {
		unsigned base = 0;
		if (slots[i].room != pid || !strstr(name, "id_map"))
			continue;
		CHECK(sscanf(value, "0 %u 65536\n", &base) == 1 && base == POOL_UID_BASE + slots[i].number * POOL_UID_COUNT);
	}
	return 0;
}

/* ---- what the nursery's other files do ---- */
pid_t room_clone(const struct room_spec *spec, int *ret_pidfd)
{
	struct slot *s = NULL;
	const struct policy_slot *policy;
	for (size_t i = 0; i < SLOTS; i++)
		if (slots[i].state == SLOT_EMPTY && slots[i].rooms == spec->number && slots[i].plan.policy < POOL_POLICIES_MAX && nursery.policies[slots[i].plan.policy].fd == spec->filter && dirty[i])
			s = &slots[i];
	CHECK(s && s->room == 0 && s->helper == 0);
	policy = &nursery.policies[s->plan.policy];
	int seals = fcntl(spec->filter, F_GET_SEALS);
	CHECK(seals >= 0 && (seals & F_SEAL_WRITE) && (seals & F_SEAL_SHRINK) && spec->filter_len > 0 && spec->filter_len <= 4096);
	CHECK(lseek(spec->filter, 0, SEEK_END) == (off_t)(spec->filter_len * sizeof(struct sock_filter)));
	CHECK((unsigned)spec->network < POOL_NET_MAX && !(policy->sockets && spec->network == POOL_NET_SHARED));
	pid_t pid = new_child(ret_pidfd, true);
	if (pid > 0 && !slow) /* else it is dead before it is let go */
		find(pid)->go = dup(spec->go);
	return pid;
}

int keeper_start(struct keeper *keeper, int reserved)
{
	*keeper = KEEPER_NONE;
	pid_t pid = new_child(NULL, false);
	if (pid < 0)
		return pid;
	keeper->pid = pid;
	keeper->sock = dup(null_fd);
	return 0;
}

int keeper_settle(struct keeper *keeper, int reserved)
{
	keeper->settled = !refuse;
	if (refuse)
		keeper_stop(keeper);
	return refuse ? -ESRCH : 0;
}

pid_t keeper_clone(struct keeper *keeper, const struct room_spec *spec, int *ret_pidfd)
{
	return keeper->pid > 0 ? room_clone(spec, ret_pidfd) : -ESRCH;
}

void keeper_stop(struct keeper *keeper)
{
	struct child *c = keeper->pid > 0 ? find(keeper->pid) : NULL;
	CHECK(keeper->pid <= 0 || (c && !c->room));
	if (c)
		*c = children[--nchildren];
	cleanup_close(&keeper->sock);
	*keeper = KEEPER_NONE;
}

static int leaf_fds(struct cgroup_leaf *ret, int *fds, uint32_t *knobs)
{
	if (refuse)
		return -EBUSY;
	cleanup_close(&ret->dir);
	cleanup_close(&ret->charged);
	ret->dir = dup(null_fd);
	ret->charged = memfd_create("charged", MFD_CLOEXEC);
	CHECK(ret->dir >= 0 && pwrite(ret->charged, slow ? "99999999\n" : "0\n", slow ? 9 : 2, 0) > 0);
	fds[0] = dup(null_fd);
	fds[1] = dup(null_fd);
	*knobs = 1u << KNOB_KILL | 1u << KNOB_MEMORY_PEAK;
	return 0;
}

int cgroup_leaf_make(struct cgroup_tree *tree, unsigned number, uid_t owner, struct cgroup_leaf *ret, int ret_fds[KNOB_MAX], uint32_t *ret_knobs, struct err *err)
{
	CHECK(owner == POOL_UID_BASE + number * POOL_UID_COUNT && number < POOL_NUMBERS_MAX);
	*ret = CGROUP_LEAF_NONE;
	return leaf_fds(ret, ret_fds, ret_knobs);
}

int cgroup_leaf_renew(struct cgroup_tree *tree, uid_t owner, struct cgroup_leaf *leaf, pid_t keeper, int ret_fds[KNOB_MAX], uint32_t *ret_knobs, struct err *err)
{
	CHECK(leaf->dir >= 0);
	return leaf_fds(leaf, ret_fds, ret_knobs);
}

int cgroup_leaf_attach_v1(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, pid_t pid, struct err *err)
{
	CHECK(find(pid));
	return refuse ? -EBUSY : 0;
}

int cgroup_leaf_attach_unified(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, pid_t pid, struct err *err)
{
	CHECK(find(pid));
	return 0;
}

int cgroup_leaf_open_room(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, struct err *err)
{
	return dup(null_fd);
}

void cgroup_leaf_drop_cache(const struct cgroup_tree *tree, const struct cgroup_leaf *leaf, uint64_t bytes)
{
}

void cgroup_leaf_close(struct cgroup_leaf *leaf)
{
	cleanup_close(&leaf->dir);
	cleanup_close(&leaf->charged);
}

int cgroup_leaf_remove(struct cgroup_tree *tree, unsigned number, struct err *err)
{
	return 0;
}

int slot_take_number(struct nursery *n, unsigned first, int *ret_lock, struct err *err)
{
	*ret_lock = dup(null_fd);
	return (int)next_number++;
}

void slot_sweep(struct nursery *n)
{
}

bool cache_is_due(struct nursery *n, const struct slot *s, uint64_t left)
{
	return false;
}

bool cache_list_begin(struct nursery *n, const struct slot *s, uint64_t left)
{
	return false;
}

void cache_list(struct nursery *n, const struct slot *s)
{
}

void cache_dropped(struct nursery *n, const struct slot *s, uint64_t left)
{
}

void cache_reaped(struct nursery *n, pid_t pid, int status)
{
}

void cache_close(struct nursery *n)
{
}

int sweeper_wait_ms(const struct nursery *n)
{
	return -1;
}

void sweeper_start(struct nursery *n)
{
}

void sweeper_reaped(struct nursery *n, int status)
{
}

bool sweeper_has_retried(const struct nursery *n)
{
	return false;
}

_Noreturn void open_serve(int sock, int root, uid_t host_uid)
{
	abort(); /* only in a child */
}

/* ---- the stamper ---- */
static int stamp_init(void *env, unsigned number, uid_t uid_base, void **ret, struct err *err)
{
	*ret = &dirty[number];
	return 0;
}

static int stamp_make(void *env, void *slot, const struct wire_plan *plan, struct nursery_mounts *ret, unsigned *step, struct err *err)
{
	CHECK(plan->nlayers <= POOL_LAYERS_MAX && !*(bool *)slot);
	if (refuse)
		return err_set(err, ENOSPC, "refused");
	*(bool *)slot = true;
	return 0;
}

static void stamp_handed_over(void *env, void *slot)
{
}

static int stamp_resize(void *env, void *slot, uint64_t bytes, uint64_t inodes, struct err *err)
{
	CHECK(*(bool *)slot);
	return refuse ? err_set(err, EIO, "refused") : 0;
}

static bool stamp_slow(void *env, void *slot)
{
	return slow;
}

static void stamp_detach(void *env, void *slot)
{
	if (!slow)
		*(bool *)slot = false;
}

static int stamp_clean(void *env, void *slot, struct err *err)
{
	*(bool *)slot = false;
	return 0;
}

static void stamp_free(void *env, void *slot)
{
}

static const struct nursery_stamper stamper = {.slot_init = stamp_init, .make = stamp_make, .handed_over = stamp_handed_over, .resize = stamp_resize, .slow_to_clean = stamp_slow, .detach = stamp_detach, .clean = stamp_clean, .slot_free = stamp_free};

/* ---- the worker ---- */
static int any_fd(unsigned kind)
{
	int pair[2], fd;
	switch (kind % 6) {
	case 0: /* a filter of one instruction, as it should be */
	case 1: /* … not sealed */
		fd = memfd_create("filter", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		CHECK(fd >= 0 && ftruncate(fd, sizeof(struct sock_filter)) == 0);
		if (kind % 6 == 0)
			CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
		return fd;
	case 2:
		CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
		close(pair[1]);
		return pair[0];
	case 3:
		CHECK(pipe2(pair, O_CLOEXEC) == 0);
		close(pair[0]);
		return pair[1];
	default:
		return dup(null_fd);
	}
}

static void send_message(int sock, struct input *in)
{
	struct wire_msg msg = {0};
	int fds[FD_PASS_MAX];
	unsigned how = take_byte(in), count = take_byte(in);
	size_t nfds = count % 4, len = sizeof(msg);
	for (size_t i = 0; i < nfds; i++)
		fds[i] = any_fd(take_byte(in));
	msg.type = how % 8;
	msg.slot = how >> 3 & 3;
	msg.seq = how >> 5;
	if (count & 128) { /* the rest as the input has it, else a sensible one */
		take_bytes(in, &msg, sizeof(msg));
	} else if (msg.type == WIRE_POLICY) {
		msg.policy = (struct wire_policy){.index = take_byte(in), .len = 1, .sockets = count >> 4 & 1, .early = count >> 5 & 1};
	} else {
		msg.plan.network = take_byte(in) & 3;
		msg.plan.policy = take_byte(in);
		msg.plan.nlayers = take_byte(in);
		msg.plan.fresh_leaf = count >> 4 & 1;
		msg.plan.disk_bytes = count;
	}
	if (count & 64)
		len = take_byte(in);
	if (len > 0)
		(void)fd_send_now(sock, &msg, len, fds, nfds);
	fd_close_many(fds, nfds);
}

static void drain(int sock)
{
	struct wire_msg msg;
	int fds[FD_PASS_MAX];
	size_t nfds = 0;
	while (fd_recv(sock, &msg, sizeof(msg), fds, &nfds, MSG_DONTWAIT) > 0) {
		CHECK(msg.type == WIRE_LEAF || msg.type == WIRE_FAILED || msg.type == WIRE_RESIZED || msg.type == WIRE_PONG);
		CHECK(msg.slot < SLOTS || msg.type == WIRE_PONG);
		fd_close_many(fds, nfds);
	}
}

/* A slot that was given up stays so, and has nothing alive. */
static void check_slots(bool retired[SLOTS])
{
	for (size_t i = 0; i < SLOTS; i++) {
		CHECK(!retired[i] || slots[i].state == SLOT_RETIRED);
		retired[i] |= slots[i].state == SLOT_RETIRED;
		const struct child *room = slots[i].room ? find(slots[i].room) : NULL;
		CHECK(slots[i].room == 0 || (room && room->room));
		CHECK(!retired[i] || !room || room->ended);
		CHECK(slots[i].state != SLOT_ROOM || (room && dirty[i]));
		CHECK(slots[i].state != SLOT_EMPTY || (!room && slots[i].helper == 0));
	}
}

static void end_all(struct nursery *n)
{
	refuse = false;
	for (size_t i = 0; i < SLOTS; i++) {
		slots[i].pending = false;
		slot_kill(n, &slots[i]);
	}
	for (size_t i = 0; i < nchildren; i++) {
		CHECK(!children[i].room || children[i].ended);
		if (children[i].pid != slots[0].keeper.pid && children[i].pid != slots[1].keeper.pid && children[i].pid != slots[2].keeper.pid)
			end_child(&children[i], 0);
	}
	nursery_reap(n);
	for (size_t i = 0; i < SLOTS; i++)
		slot_close(n, &slots[i]);
	CHECK(nchildren == 0);
	for (size_t i = 0; i < POOL_POLICIES_MAX; i++)
		cleanup_close(&n->policies[i].fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct err err = ERR_INIT;
	int pair[2];
	bool retired[SLOTS] = {0};
	if (null_fd < 0) {
		log_set_level(LOG_LEVEL_MAX);
		(void)signal(SIGPIPE, SIG_IGN); /* as petri has it */
		null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	}
	int lowest = lowest_fd();
	unsigned first = take_byte(&in);
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	struct cgroup_tree tree = {.driver = first & 1 ? POOL_DRIVER_V2 : POOL_DRIVER_HYBRID};
	const struct nursery_config config = {.worker = pair[0], .nslots = SLOTS};
	nursery = (struct nursery){.config = &config, .stamper = &stamper, .tree = &tree, .peak_resets = first & 2, .attach_unified = first & 4, .home_net = -1, .slots = slots, .nslots = SLOTS, .reserved = dup(null_fd)};
	memset(slots, 0, sizeof(slots));
	memset(dirty, 0, sizeof(dirty));
	slow = refuse = false;
	nchildren = 0;
	next_pid = PID_FIRST;
	next_number = 0;
	for (size_t i = 0; i < POOL_POLICIES_MAX; i++)
		nursery.policies[i].fd = -1;
	for (unsigned i = 0; i < SLOTS; i++)
		CHECK(slot_open(&nursery, i, i, &err) >= 0);
	drain(pair[1]);
	bool alive = true;
	for (int i = 0; i < OP_BUDGET && alive && in.left > 0; i++) {
		unsigned op = take_byte(&in);
		if (op % 4 < 2)
			send_message(pair[1], &in);
		else if (op % 4 == 2 && nchildren > 0)
			end_child(&children[(op >> 2) % nchildren], take_byte(&in) << 8);
		else
			slow = op & 4, refuse = op & 8;
		if (op & 128)
			nursery_reap(&nursery);
		alive = nursery_serve(&nursery);
		drain(pair[1]);
		check_slots(retired);
	}
	end_all(&nursery);
	drain(pair[1]);
	cleanup_close(&nursery.home_net);
	cleanup_close(&nursery.reserved);
	close(pair[0]);
	close(pair[1]);
	CHECK(lowest_fd() == lowest);
	return 0;
}
