/* Whether core scheduling is there; see the header. Supervisor and doctor. The cookies are made in pool/zygote.c. */
#include "executor/core_sched.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/log.h"

int core_sched_probe(void)
{
	unsigned long cookie;
	return prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, 0, PR_SCHED_CORE_SCOPE_THREAD, &cookie) < 0 ? -errno : 0;
}

const char *core_sched_why(int error)
{
	switch (error) {
	case 0:
		return "is there";
	case -EINVAL:
		return "is not in this kernel (CONFIG_SCHED_CORE)";
	case -ENODEV:
		return "is not there: the kernel sees no core with several threads";
	case -EPERM:
		return "is not allowed here (a container's seccomp profile?)";
	default:
		return "cannot be had";
	}
}

int core_sched_decide(const char *choice, int probed, bool *ret_use, struct err *err)
{
	*ret_use = strcmp(choice, "off") != 0 && probed == 0;
	if (probed == 0 || strcmp(choice, "off") == 0)
		return 0;
	if (strcmp(choice, "require") == 0)
		return err_say(err, EOPNOTSUPP, "--core-sched require: core scheduling %s", core_sched_why(probed));
	log_debug("core scheduling %s", core_sched_why(probed));
	return 0;
}
