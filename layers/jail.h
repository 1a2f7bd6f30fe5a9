/*
 * The helper in which stored trees are unpacked and hashed: a forked child without any right on the host. It has
 * a user namespace of the store's uid range, its working tree as root directory, no fd but those given, no
 * capability but those over files of its range, resource limits, and a seccomp allow-list of file and memory calls.
 * Its only voice is one fixed-size report through a pipe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* The fds a helper has; the given ones follow from JAIL_FDS on. */
#define JAIL_ROOT 4
#define JAIL_FDS 5
#define JAIL_FDS_MAX 4

struct jail_report {
	uint32_t magic;
	int32_t code; /* 0, or -errno with msg */
	uint8_t id[16];
	uint8_t sha256[32];
	uint64_t bytes;
	uint64_t entries;
	uint64_t skipped; /* entries that a layer cannot hold: devices, FIFOs, sockets */
	uint32_t packed;  /* the pack is whole */
	uint32_t reserved;
	char msg[ERR_MSG_MAX];
};

struct jail {
	const char *what; /* for messages: "import" */
	int root;	  /* directory that becomes the helper's root and its fd JAIL_ROOT; owned by STORE_UID_BASE */
	const int *fds;	  /* become JAIL_FDS, JAIL_FDS + 1, … */
	size_t nfds;
	uid_t second_base;	 /* host uid of a second range of 65536, shown inside from 65536 on; or 0 */
	bool isolate;		 /* own network and IPC namespaces too: for parsers of strangers' bytes */
	bool pure;		 /* bytes in, bytes out: no capability, and every call that names a file fails */
	uint64_t max_file_bytes; /* RLIMIT_FSIZE */
	void *wipe;		 /* memory that the helper must not know, cleared in it; or NULL */
	size_t wipe_len;
	/* In the helper. May allocate: the caller of jail_run() has a single thread, or uses no lock across it. */
	int (*run)(void *ctx, struct jail_report *report, struct err *err);
	/* In the caller, meanwhile; or NULL. First closes its own copy of the end that the helper reads (else the
	 * helper's death would go unnoticed), then feeds without raising SIGPIPE, and closes that end too. -EPIPE when
	 * the helper stopped reading. */
	int (*feed)(void *ctx, struct err *err);
	void *ctx;
};

/* A helper that runs. */
struct jail_process {
	const struct jail *jail;
	pid_t pid;  /* 0: none */
	int report; /* the reading end */
};

#define JAIL_PROCESS_INIT ((struct jail_process){.report = -1})

/*
 * jail_start - fork the helper and let it run; jail->feed is not used. As root.
 * @jail: must stay until jail_wait(). The caller then closes its own copies of what the helper reads or writes.
 * Return: 0, or -errno: then there is no helper.
 */
int jail_start(const struct jail *jail, struct jail_process *ret, struct err *err);
/* jail_kill - end it at once; it still must be waited for. Does nothing to one that is not there. */
void jail_kill(const struct jail_process *process);
/* jail_wait - as the end of jail_run(). Return: 0 with *ret, or -errno: -EPIPE when another process broke off first. */
int jail_wait(struct jail_process *process, struct jail_report *ret, struct err *err);

/*
 * jail_run - fork the helper, feed it, wait for it. As root.
 * @ret: its report, checked for form; code is 0. What it claims about the tree is only as good as the code it ran.
 * Return: 0, or -errno: the helper's own error, or "was killed by …" when the helper died.
 */
int jail_run(const struct jail *jail, struct jail_report *ret, struct err *err);

/* jail_filter - install the seccomp filter on this thread. @pure: calls that name files get ENOENT. Return: 0 or -errno. */
int jail_filter(bool pure);
