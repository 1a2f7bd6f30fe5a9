/* Giving rights up; see the header. docs/security.md has the table of what each process keeps. */
#include "executor/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/sys.h"
#include "layers/store.h"

/*
 * The nursery's rights, which it gets by its exec (executor/nursery_main.c), and three of its own: for the size of a socket's buffer,
 * to empty bounding sets, and to read any layer, which is all that a child may do that verifies one (layers/verify.c). Neither it nor what it starts can get any other back.
 */
#define RIGHTS \
	(SYS_CAP(SYS_ADMIN) | SYS_CAP(SETUID) | SYS_CAP(SETGID) | SYS_CAP(CHOWN) | SYS_CAP(FOWNER) | SYS_CAP(FSETID) | SYS_CAP(DAC_OVERRIDE) | \
		SYS_CAP(DAC_READ_SEARCH) | SYS_CAP(LINUX_IMMUTABLE) | SYS_CAP(MKNOD) | SYS_CAP(KILL) | SYS_CAP(NET_ADMIN) | SYS_CAP(SETPCAP))
/* Of these, what a child does not need that stores a layer. */
#define NOT_FOR_LAYERS (SYS_CAP(LINUX_IMMUTABLE) | SYS_CAP(MKNOD) | SYS_CAP(NET_ADMIN))

int privileges_supervisor(struct err *err)
{
	int r = sys_bound_caps(RIGHTS);
	if (r == 0)
		r = sys_keep_caps(RIGHTS);
	if (r < 0)
		return err_set(err, r, "drop capabilities");
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? err_set(err, errno, "forbid new privileges") : 0;
}

int privileges_layer(struct err *err)
{
	int r = sys_keep_caps(RIGHTS & ~NOT_FOR_LAYERS);
	return r < 0 ? err_set(err, r, "drop capabilities") : 0;
}

int privileges_worker(const struct confine_needs *needs, int store, int spool, pid_t parent, struct err *err)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	/* First, while the store's own directory can still be entered to name what lies in it. */
	int r = confine_paths(needs, store, spool, err);
	if (r >= 0 && (r = sys_drop_bounding_set()) < 0)
		(void)err_set(err, r, "drop the bounding set");
	if (r < 0)
		return r;
	if (setgroups(0, NULL) < 0 || setresgid(STORE_WORKER_UID, STORE_WORKER_UID, STORE_WORKER_UID) < 0 ||
		setresuid(STORE_WORKER_UID, STORE_WORKER_UID, STORE_WORKER_UID) < 0)
		return err_set(err, errno, "become the unprivileged worker");
	r = sys_drop_caps();
	if (r < 0)
		return err_set(err, r, "drop the capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set(err, errno, "forbid new privileges");
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent) /* it died before that, and nothing else would end this process */
		return err_say(err, ESRCH, "the supervisor is gone");
	return confine_calls(needs, err);
}
