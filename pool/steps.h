/* What can fail between a STAMP and a job's first instruction: step codes, so that a process that may only use
 * async-signal-safe calls can say where it failed and the worker can make the sentence. */
#pragma once

enum pool_step {
	STEP_NONE,
	/* in the nursery */
	STEP_PLAN,
	STEP_LEAF,
	STEP_SCRATCH,
	STEP_LOWER,
	STEP_OVERLAY,
	STEP_CLONE,
	STEP_IDS,
	STEP_ATTACH,
	STEP_HELPER,
	/* in the zygote's init */
	STEP_SETUP_WAIT,
	STEP_SETUP_IDS,
	STEP_SETUP_KEYRING,
	STEP_SETUP_SYSCTL,
	STEP_SETUP_ROOT,
	STEP_SETUP_PROC,
	STEP_SETUP_MASK,
	STEP_SETUP_SHM,
	STEP_SETUP_USR,
	STEP_SETUP_PIVOT,
	STEP_SETUP_NET,
	STEP_SETUP_CAPS,
	STEP_SETUP_FLOOR,
	STEP_SETUP_PAGE,
	STEP_SETUP_FORK,
	STEP_SETUP_PIPES,
	STEP_SETUP_CORE,
	/* in the zygote's child */
	STEP_FILTER,
	STEP_DISPATCH,
	STEP_PACK,
	STEP_FILE,
	STEP_RLIMIT,
	STEP_STDIO,
	STEP_CWD,
	STEP_EXEC,
	STEP_MAX
};

/* pool_step_name - a phrase for a message: "mount the overlay". Never NULL. */
const char *pool_step_name(unsigned step);
