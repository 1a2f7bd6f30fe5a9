/* A slot in the nursery: the reusable seat of a room and its zygotes, and the steps from one job to the next. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "pool/cgroup.h"
#include "pool/keeper.h"
#include "pool/nursery.h"
#include "pool/steps.h"

enum slot_state {
	SLOT_EMPTY,    /* leaf and scratch are clean; a room can be made */
	SLOT_ROOM,     /* a room lives, with a zygote that waits, runs its job or has ended */
	SLOT_DYING,    /* killed; the room is still to be reaped */
	SLOT_ENDED,    /* no process is left; what was written is kept until the next STAMP */
	SLOT_CLEANING, /* a helper deletes what jobs wrote */
	SLOT_RETIRED,  /* would not empty; never used again */
};

struct policy_slot {
	int fd; /* sealed memfd with the instructions, or -1 */
	unsigned short len;
	bool listener, early, sockets;
};

/* Of what crashed owners left, the part that was still somebody's when it was looked at: number.c. */
struct sweeper {
	pid_t pid;	   /* the child at it, or 0 */
	uint64_t at_ms;	   /* CLOCK_MONOTONIC, when to look again; 0: nothing is left, or the child is at it */
	unsigned delay_ms; /* from then on */
};

/* When the files of a plan were looked for last, and are again: cache.c. */
struct cached_plan {
	uint64_t key, next_us, delay_us; /* next_us: CLOCK_MONOTONIC */
};

struct page_cache {
	struct cached_plan plans[32];
	int list;				       /* a memfd with the paths of a plan's files that were cached; or -1 */
	uint64_t key;				       /* the plan */
	bool listing;				       /* the helper of slot `slot` is filling it */
	unsigned slot;				       /* index */
	uint64_t began_us, next_us;		       /* when listing began; when it may next, for whatever plan */
	bool given_up;				       /* the group cannot be used here */
	pid_t reader;				       /* the child that has them read, or 0 */
	uint64_t read_us, read_next_us, read_delay_us; /* the same of reading; how long it is put off after that */
	uint64_t rest_us;			       /* neither is done before: twice as long as the last reading took */
};

struct nursery {
	const struct nursery_config *config;
	const struct nursery_stamper *stamper;
	struct cgroup_tree *tree;
	struct policy_slot policies[POOL_POLICIES_MAX];
	int home_net;	     /* the nursery's own network namespace */
	int reserved;	     /* a low fd number: keeper_start() */
	bool attach_unified; /* rooms cannot be born in their group here; see make_room() */
	bool peak_resets;    /* memory.peak can be set back: leaves are reused */
	struct slot *slots;
	unsigned nslots;
	struct sweeper sweeper;
	struct page_cache cache;
};

struct slot {
	unsigned index, number;
	int lock;
	void *stamp;
	struct cgroup_leaf leaf;
	struct keeper keeper; /* hybrid hosts */
	enum slot_state state;
	bool used; /* a zygote lived in the leaf since it was made */
	pid_t room, helper, opener;
	int room_pidfd;
	int requests;		   /* socket to the room */
	int control;		   /* the last STAMP's: the zygote's end */
	int last;		   /* the mount namespace of the zygote before: the room's to take down */
	int rooms;		   /* made so far */
	struct wire_plan made_for; /* the room's plan, with the disk limits that hold now */
	int net;		   /* the slot's empty network namespace, loopback down, for policies without sockets: shared only with
				     * the slot's later jobs, since /proc/net shows a namespace's sockets to all in it. -1 where a keeper has it */
	uint64_t left;		   /* bytes above cache_floor that its last job left charged */
	uint64_t cache_floor;	   /* bytes charged to the leaf that reclaim could not take */
	bool pending;		   /* a STAMP waits for the slot to be empty */
	uint32_t seq;
	struct wire_plan plan;
};

/* nursery_serve - take what the worker has sent (nursery.c; the fuzz target of its messages begins here). Return: false once it is gone. */
bool nursery_serve(struct nursery *n);
/* nursery_reap - take the ends of the nursery's children. */
void nursery_reap(struct nursery *n);
/*
 * slot_take_number - a number that nobody has, and whose groups are free of what a crashed owner may have left: the processes first,
 * then what they wrote. Return: the number, with its lock in *ret_lock, or -errno.
 */
int slot_take_number(struct nursery *n, unsigned first, int *ret_lock, struct err *err);
int slot_open(struct nursery *n, unsigned index, unsigned first_number, struct err *err);
/* slot_sweep - remove the leaves that crashed owners of other numbers left: those whose lock is free. The others are the sweeper's. */
void slot_sweep(struct nursery *n);
/* sweeper_wait_ms - until sweeper_start() is due. Return: milliseconds, or -1: it is not. */
int sweeper_wait_ms(const struct nursery *n);
void sweeper_start(struct nursery *n);
/* sweeper_reaped - its child ended. */
void sweeper_reaped(struct nursery *n, int status);
/* sweeper_has_retried - something is left, and that for longer than a single job takes to run. */
bool sweeper_has_retried(const struct nursery *n);
/* cache_is_due - a slot's last job left its leaf charged with cached files of its image, and it is time to see which. @left: bytes charged, in all. */
bool cache_is_due(struct nursery *n, const struct slot *s, uint64_t left);
/* cache_list_begin - if so, the slot's helper is to call cache_list(). */
bool cache_list_begin(struct nursery *n, const struct slot *s, uint64_t left);
/* cache_list - in that helper, when the job's own files are gone and before it reclaims. Takes two seconds at most. */
void cache_list(struct nursery *n, const struct slot *s);
/* cache_dropped - the leaf, which was left with @left bytes, has been reclaimed: what is listed is read again on the account of the cache's group. */
void cache_dropped(struct nursery *n, const struct slot *s, uint64_t left);
/* cache_reaped - a child of the nursery's ended. */
void cache_reaped(struct nursery *n, pid_t pid, int status);
void cache_close(struct nursery *n);
/* slot_fork - fork a child of the nursery that dies with it. Return: as fork(2). */
pid_t slot_fork(void);
/* slot_let_go - in a forked child: close what it inherited of all slots but @mine (or NULL), and of the worker's socket. */
void slot_let_go(struct nursery *n, const struct slot *mine);
/* slot_stamp - @control and @last (or -1) become the slot's. */
void slot_stamp(struct nursery *n, struct slot *s, uint32_t seq, const struct wire_plan *plan, int control, int last);
void slot_resize(struct nursery *n, struct slot *s, uint32_t seq, const struct wire_plan *plan);
/* slot_serve_open - @root: a job's, as its HELLO gave it to the worker. */
void slot_serve_open(struct nursery *n, struct slot *s, int sock, int root);
/* slot_reaped - one of its processes was reaped. */
void slot_reaped(struct nursery *n, struct slot *s, pid_t pid, int status);
void slot_kill(struct nursery *n, struct slot *s);
void slot_close(struct nursery *n, struct slot *s);

/* open_one - in that helper: open what a request names. Return: the fd (caller owns), or -1 with *reply saying why. */
int open_one(int root, struct open_request *request, struct open_reply *reply);
/* open_serve - in a forked helper: answer struct open_request until the socket closes. Never returns. */
_Noreturn void open_serve(int sock, int root, uid_t host_uid);
