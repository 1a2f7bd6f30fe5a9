/*
 * Zygotes: a process in fresh namespaces that waits for one job. Two processes: the init (pid 1 inside: reaps
 * orphans, reports the end) and its child, forked ahead, which receives the job, unpacks its files and execs.
 */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/wire.h"

struct zygote_spec {
	int leaf;    /* cgroup v2 directory to be born in, or -1 */
	int control; /* the zygote's end of the control socket */
	int go;	     /* pipe: one byte once the ids are mapped; end of file: give up */
	int root;    /* detached mount of the job's root */
	int usr;     /* read-only mount for /usr, or -1 */
	enum pool_network network;
	int filter; /* memfd with the policy's instructions */
	unsigned short filter_len;
	bool sibling; /* be a child of the caller's parent (CLONE_PARENT): the caller is a keeper */
	bool listener, early;
};

/*
 * zygote_clone - fork the zygote.
 * @ret_pidfd: of its init; the caller owns it.
 * Return: the init's pid, or -errno. What goes wrong later arrives as ZYGOTE_FAILED on the control socket.
 */
pid_t zygote_clone(const struct zygote_spec *spec, int *ret_pidfd);

/* ---- inside the zygote ---- */
#define ZYGOTE_CONTROL_FD 3
#define ZYGOTE_SYNC_FD 4

/* floor_install - the fixed filter beneath every policy; -errno. @listener: the policy's filter will have one. */
int floor_install(bool sockets, bool listener);
/* floor_build - for tests: the program; returns its length, at most cap. */
unsigned floor_build(struct sock_filter *insns, unsigned cap, bool sockets, bool listener);

/* zygote_setup_mounts - root, /usr, /proc, /dev/shm; pivot. *ret_step says how far it came. */
int zygote_setup_mounts(int root, int usr, unsigned *ret_step);

/* launch_job - in the child: receive the job and exec it. Returns only on failure, with page->step and error set. */
void launch_job(struct zygote_page *page, int (*lock)(void *ctx), void *lock_ctx);
