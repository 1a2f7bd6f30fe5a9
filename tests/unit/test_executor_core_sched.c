/* What is done about core scheduling on hosts that have it, and on those that do not. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "executor/core_sched.h"

/* With require treated like try: the first assertion on "require" with an error fails. */
Test(core_sched, decision)
{
	struct err err = ERR_INIT;
	bool use;
	cr_assert(core_sched_decide("off", 0, &use, &err) == 0 && !use);
	cr_assert(core_sched_decide("off", -EINVAL, &use, &err) == 0 && !use);
	cr_assert(core_sched_decide("try", 0, &use, &err) == 0 && use);
	cr_assert(core_sched_decide("try", -ENODEV, &use, &err) == 0 && !use);
	cr_assert(core_sched_decide("require", 0, &use, &err) == 0 && use);
	cr_assert(core_sched_decide("require", -EINVAL, &use, &err) < 0 && !use);
	cr_assert(strstr(err_msg(&err), "CONFIG_SCHED_CORE"), "%s", err_msg(&err));
	cr_assert(core_sched_decide("require", -ENODEV, &use, &err) < 0);
	cr_assert(strstr(err_msg(&err), "no core with several threads"), "%s", err_msg(&err));
}
