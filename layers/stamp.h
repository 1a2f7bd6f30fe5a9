/*
 * Stamping: making the root of one job out of read-only lower layers, a per-slot base and a fresh scratch. Runs as
 * root in petri-nursery and links only libc. It lives in a mount namespace of the nursery's own whose root is a
 * small tmpfs:
 *
 *   /proc    a fresh procfs (a zygote may mount its own only where a whole one is visible)
 *   /state   the state directory, nosuid,nodev: layers/ and slots/ are found beneath it
 *   /usr     the machine's /usr, read-only: the `host` image
 *   /b/N     the base of slot N: device nodes and mount points, owned by the slot's root
 *   /w       the workshop: where lowers are attached while an overlay is made, and detached in one go
 *   /r       where a zygote attaches its root before it pivots
 *
 * Overlay wants attached lowers (a detached idmapped one is EINVAL on 6.1 and 6.12), and every attached mount makes
 * clone3(CLONE_NEWNS) slower: hence the workshop. fsconfig strings end at 255 bytes: hence the short names.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define STAMP_LAYERS_MAX 64
#define STAMP_PROJECTS 16u	       /* ids of a slot, taken in turn */
#define STAMP_PROJECT_BASE 1346699264u /* 0x50450000; unless the operator chose others: first id of slot 0 */
#define STAMP_PROJECT_LAST 1346764799u /* 65536 in all, for 4096 slots */

enum scratch_kind {
	SCRATCH_TMPFS, /* size and inode limited; counts as the job's memory too */
	SCRATCH_QUOTA, /* project quota on the state directory's filesystem (XFS, ext4) */
};

/* Slot n has the ids first + n * STAMP_PROJECTS onwards. */
struct stamp_projects {
	uint32_t first, last;
};

struct stamp_plan {
	const uint8_t (*layers)[16]; /* lowest first */
	uint32_t nlayers;
	bool host_usr;
	uint64_t disk_bytes, disk_inodes;
};

struct stamp_slot {
	unsigned number;     /* host-wide */
	uid_t uid_base;	     /* host id of the slot's root */
	uid_t job_uid;	     /* inside */
	int userns_store;    /* maps the store's range to the slot's, for idmapped layers; -1 until needed */
	int userns_host;     /* maps 0… to the slot's, for the machine's /usr */
	int root;	     /* the job's root (detached mount), -1 when not stamped */
	int usr;	     /* the read-only /usr mount of a host plan, or -1 */
	int scratch;	     /* tmpfs: its mount; quota: the generation's directory */
	int places;	     /* the scratch as a detached mount, for the room; see scratch_fill() */
	unsigned generation; /* of the quota directory */
};

/* What petri's own directories take of a quota before a job starts. */
struct stamp_own {
	bool counted;
	uint64_t bytes, inodes;
};

struct stamp_env {
	enum scratch_kind scratch;
	bool layers_idmapped, usr_idmapped; /* what was found when it was tried */
	int state;			    /* /state, opened inside the namespace */
	int slots;			    /* /state/slots */
	int empty;			    /* /wt/e */
	uid_t store_base;
	struct stamp_projects projects; /* with SCRATCH_QUOTA */
	struct stamp_own own;		/* with SCRATCH_QUOTA, once a slot was stamped: alike for all, the same directories are made */
};

/*
 * stamp_env_enter - make the mount namespace and pivot into it. Once, before anything else; the process must be
 * single-threaded. @state_fd: the state directory, opened in the old namespace; not consumed.
 * @force_tmpfs: do not use quotas even where they exist. @projects: as for stamp_projects_choose().
 */
int stamp_env_enter(struct stamp_env *env, int state_fd, uid_t store_base, bool force_tmpfs, const char *projects, struct err *err);

/* stamp_slot_init - the slot's base directory; removes what a crashed owner of this number left in the scratch. */
int stamp_slot_init(struct stamp_env *env, struct stamp_slot *slot, unsigned number, uid_t uid_base, uid_t job_uid,
	struct err *err);

/*
 * stamp_make - the root for a slot's jobs: slot->root, slot->places (and slot->usr). On failure nothing is left attached.
 * @ret_step: 0 scratch, 1 a lower layer, 2 overlay: what was being done.
 */
int stamp_make(struct stamp_env *env, struct stamp_slot *slot, const struct stamp_plan *plan, int *ret_step,
	struct err *err);

/* stamp_freed_late - what is deleted in the scratch stays charged for a while (XFS frees in the background). */
static inline bool stamp_freed_late(const struct stamp_env *env)
{
	return env->scratch == SCRATCH_QUOTA;
}

/* stamp_handed_over - whoever uses the mounts has its own copies: of what stamp_make() made, only the scratch is kept, for the two below. */
void stamp_handed_over(struct stamp_env *env, struct stamp_slot *slot);
/* stamp_resize - other limits for the scratch of a stamped slot. */
int stamp_resize(struct stamp_env *env, struct stamp_slot *slot, uint64_t bytes, uint64_t inodes, struct err *err);

/*
 * stamp_detach - let go of a finished job's mounts. Return: 1 when deleting or freeing what it wrote may take long:
 * then call stamp_delete() in a throw-away child that was forked before, see stamp_needs_helper().
 */
bool stamp_needs_helper(const struct stamp_env *env, const struct stamp_slot *slot);
void stamp_detach(struct stamp_env *env, struct stamp_slot *slot);
/* stamp_delete - remove the quota directory of the slot's last generation. May take seconds. */
int stamp_delete(struct stamp_env *env, struct stamp_slot *slot, struct err *err);

/* stamp_leftovers - numbers of slots that have a directory (or an interrupted removal) in the scratch. */
unsigned stamp_leftovers(struct stamp_env *env, unsigned *ret, unsigned cap);
/* stamp_sweep - remove it. */
void stamp_sweep(struct stamp_env *env, unsigned number);

/* stamp_slot_free - the slot goes away for good. */
void stamp_slot_free(struct stamp_env *env, struct stamp_slot *slot);

/* ---- scratch.c ---- */
bool scratch_quota_usable(int dirfd);
int scratch_make_tmpfs(uid_t uid_base, uint64_t bytes, uint64_t inodes, struct err *err); /* detached mount */
int scratch_resize_tmpfs(int mount, uint64_t bytes, uint64_t inodes, struct err *err);
int scratch_make_quota(int slots, unsigned number, unsigned generation, uint32_t project, uint64_t bytes, uint64_t inodes,
	struct err *err); /* directory fd */
/* scratch_fill - in a fresh scratch: u/ and w/, the root's upper and work directories, and j/, in it work/ and tmp/ of the job's own. */
int scratch_fill(int dirfd, const struct stamp_slot *slot, struct err *err);
/* scratch_project_is_free - nothing is charged to it, nothing that was deleted and is not freed yet either. */
bool scratch_project_is_free(int fd, uint32_t project);
/*
 * scratch_settle - quota: the job may use all that it asked for, beside what petri's own directories take. @own: counted here
 * while it is not, in a scratch that no job has seen.
 */
int scratch_settle(int dirfd, uint32_t project, struct stamp_own *own, uint64_t bytes, uint64_t inodes, struct err *err);

/* ---- projects.c ---- */
/*
 * stamp_projects_choose - the project ids of a store's slots: those on record in slots/projects, or, at the first use, @wanted
 * ("FIRST-LAST"; NULL or "": the default), which is then put on record. Return: 0, -EEXIST when others than @wanted are on record,
 * -EINVAL for no such range, -errno.
 */
int stamp_projects_choose(int slots, const char *wanted, struct stamp_projects *ret, struct err *err);
int stamp_projects_parse(const char *text, struct stamp_projects *ret, struct err *err);

/* ---- scratch_remove.c ---- */
/*
 * scratch_remove_tree - remove name beneath dirfd, and what an interrupted removal of the same name left. Whatever a job can leave goes:
 * any depth, any number, any names, any modes, files that are immutable or append-only. No link is followed and no mount is entered;
 * memory and fds are bounded (some 2 MiB, 40 fds). Only one removal of a name at a time.
 * @keep: leave the (empty) directory that it works in for the next time, when the filesystem may be too full to make one.
 * Return: 0, also when there was nothing; or -errno, with what is in the way named in err: a mount point, most likely.
 */
int scratch_remove_tree(int dirfd, const char *name, bool keep, struct err *err);

/* ---- overlay.c ---- */
int overlay_make(const char *lowers, const char *upper, const char *work, bool read_only, struct err *err);
int overlay_attach_lower(const char *source, const char *target, int userns, bool *ret_idmapped, struct err *err);
int overlay_userns(uid_t inside, uid_t outside, unsigned count, struct err *err);
