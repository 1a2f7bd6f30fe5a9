/* The phrases of the step codes. */
#include "pool/steps.h"

#include <stddef.h>

static const char *const names[STEP_MAX] = {
	[STEP_NONE] = "nothing",
	[STEP_PLAN] = "check the plan",
	[STEP_LEAF] = "make the cgroup leaf",
	[STEP_SCRATCH] = "make the scratch",
	[STEP_LOWER] = "attach a lower layer",
	[STEP_OVERLAY] = "mount the overlay",
	[STEP_CLONE] = "clone the zygote",
	[STEP_IDS] = "map the user ids",
	[STEP_ATTACH] = "attach to the cgroup",
	[STEP_HELPER] = "fork a helper",
	[STEP_SETUP_WAIT] = "wait for the nursery",
	[STEP_SETUP_IDS] = "become the slot's root",
	[STEP_SETUP_KEYRING] = "join a session keyring",
	[STEP_SETUP_SYSCTL] = "forbid namespaces",
	[STEP_SETUP_ROOT] = "attach the root",
	[STEP_SETUP_PROC] = "mount /proc",
	[STEP_SETUP_MASK] = "mask parts of /proc",
	[STEP_SETUP_SHM] = "mount /dev/shm",
	[STEP_SETUP_USR] = "attach /usr",
	[STEP_SETUP_PIVOT] = "pivot into the root",
	[STEP_SETUP_NET] = "bring the loopback up",
	[STEP_SETUP_CAPS] = "drop the capabilities",
	[STEP_SETUP_FLOOR] = "install the fixed filter",
	[STEP_SETUP_PAGE] = "share the status page",
	[STEP_SETUP_FORK] = "fork the child",
	[STEP_SETUP_PIPES] = "make the output pipes",
	[STEP_SETUP_CORE] = "make a core scheduling cookie",
	[STEP_FILTER] = "install the policy's filter",
	[STEP_DISPATCH] = "receive the job",
	[STEP_PACK] = "read the job's files",
	[STEP_FILE] = "write a file of the job",
	[STEP_RLIMIT] = "set a resource limit",
	[STEP_STDIO] = "set up the standard streams",
	[STEP_CWD] = "change to the working directory",
	[STEP_EXEC] = "execute the program",
};

const char *pool_step_name(unsigned step)
{
	return step < STEP_MAX && names[step] ? names[step] : "an unknown step";
}
