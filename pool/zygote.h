/*
 * What runs inside a slot, all of it in petri-nursery's own program:
 *
 *   the room    holds the slot's user, mount, uts and network namespaces with the root overlay in them, and the policy's filter;
 *               lives as long as jobs of one plan come and leave the overlay untouched (pool/room.c)
 *   the init    process 1 of a job's own pid namespace; one a job (pool/zygote.c)
 *   the child   waits for the job, and becomes it (pool/launch.c)
 *
 * Init and child share the room's memory until the child's exec: no page table is copied for them. Nothing here may rely on errno
 * in the init once it has made the child, and only async-signal-safe calls are made.
 */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/wire.h"

struct room_spec {
	int group;    /* cgroup v2 directory to be born in, or -1 */
	int requests; /* the room's end of a seqpacket socket: struct room_request */
	int go;	      /* pipe: one byte once the ids are mapped; end of file: give up */
	int root;     /* detached mount of the jobs' root */
	int usr;      /* read-only mount for /usr, or -1 */
	int scratch;  /* detached mount of the scratch: u/ is the root's upper directory, j/ the jobs' own places */
	int number;   /* counts the rooms of a slot */
	uid_t owner;  /* host uid of the slot's root, whose user namespace it becomes */
	enum pool_network network;
	int filter; /* memfd with the policy's instructions */
	unsigned short filter_len;
	bool sibling; /* be a child of the caller's parent (CLONE_PARENT): the caller is a keeper */
	bool listener, early;
	bool cookie, cookie_required; /* core scheduling */
	bool lazy_scratch;	      /* what is deleted there stays charged for a while: take only what is empty */
	bool apart;		      /* the room sits in another memory group than its zygotes (cgroup v2): they need a memory of their own, for what
			    * is read and written in it is charged to the group of its owner, get_mem_cgroup_from_mm() */
};

struct room_request { /* + the zygote's end of its control socket, the leaf's v2 directory, [the last zygote's mount namespace] */
	uint32_t network;
};

#define ROOM_TOUCHED 3 /* exit code: what a job left cannot be undone here; the slot is to be stamped anew */
/* In the room; a zygote's own places cover them. */
#define ROOM_SCRATCH "/dev/shm"
#define ROOM_SHM "/tmp" /* a tmpfs that only the memory limit bounds: shm/ is for /dev/shm */
#define ROOM_NOTHING ROOM_SHM "/nothing"

/*
 * room_clone - clone a room with namespaces of its own. It waits on spec->go, then sets up, then serves requests, each of which
 * ends the last zygote and makes the next; failures are told on the zygote's control socket.
 * Return: pid, with *ret_pidfd the caller's; or -errno.
 */
pid_t room_clone(const struct room_spec *spec, int *ret_pidfd);

/* ---- inside ---- */
/* Numbers of fds. The room's own lie above all that a zygote keeps, so that it drops them in one call. */
#define ROOM_REQUESTS_FD 3
#define ROOM_PAGE_FD 10	    /* read-only: it goes to the worker */
#define ROOM_LISTENER_FD 11 /* of the room's filter */
#define ZYGOTE_CONTROL_FD 12
#define ROOM_LEAF_FD 13
#define ROOM_PLACES_FD 20
#define ROOM_UPPER_FD 21
#define ROOM_SHM_FD 22
#define ZYGOTE_STACK (128u << 10)

struct mask {
	const char *with, *path;
};

struct zygote {
	const struct room_spec *spec;
	enum pool_network network;
	bool work;     /* /work is a place of the job's own, not the root's */
	bool listener; /* ROOM_LISTENER_FD is one */
	struct zygote_page *page;
	const struct sock_filter *filter; /* to be installed by the child itself, where the room could not */
	int root, pidfd, ns, child_pidfd, sync[2];
	int late_listener; /* the fd of the child's own */
	int outer[3];	   /* the outer ends of the pipes: stdin, stdout, stderr */
	pid_t child;
	struct mask masks[24]; /* of /proc, on this kernel */
	unsigned nmasks;
	char *init_stack, *child_stack; /* their upper ends */
};

/* zygote_start - make the next init, in the room, in the leaf at ROOM_LEAF_FD. Return: its pid, or -errno. */
pid_t zygote_start(struct zygote *z);
/* zygote_report - a message on the control socket; dropped when the worker does not read. Return: 0 or -errno: for all but HELLO and
 * LISTENER the end of the process says what the message would have. */
int zygote_report(unsigned type, unsigned step, int error, int index, const int *fds, size_t nfds);

/* floor_install - the fixed filter beneath every policy, with the gate of this process; -errno. @listener: the policy has one. */
int floor_install(bool sockets, bool listener);
/* floor_build - for tests: the program; returns its length, at most cap. */
unsigned floor_build(struct sock_filter *insns, unsigned cap, bool sockets, bool listener);

/* room_setup_mounts, zygote_setup_mounts - *ret_step says how far they came. */
int room_setup_mounts(int root, int usr, int scratch, unsigned *ret_step);
int zygote_setup_mounts(const struct zygote *z, unsigned *ret_step);
/* room_choose_masks - what of /proc jobs shall not see here, found once. */
int room_choose_masks(struct zygote *z);

/* launch_job - in the child: receive the job and exec it. Returns only on failure, with page->step and error set. */
void launch_job(struct zygote_page *page, int (*lock)(void *ctx), void *lock_ctx);
/* launch_common_limits - in the room, for all that it makes. Return: 0 or -errno. */
int launch_common_limits(void);
/* launch_forget - in the room: let go of what the last child mapped. */
void launch_forget(void);
