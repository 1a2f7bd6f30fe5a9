/* The worker's own account of its jobs. */
#include <criterion/criterion.h>

#include "executor/worker_internal.h"

/* While another nursery is awaited, the result of a job that ended before is still being written: its entry may be lost then as well, and is
 * freed. Without the line that notes it: "the job still has an entry that is freed". */
Test(worker, lost_while_the_nursery_is_replaced)
{
	struct worker w = {.dying = true};
	struct queue_entry entry = {.attempt = 1};
	struct active a = {.worker = &w, .entry = &entry, .encoding = true};
	entry.user = &a;
	worker_lost(&w, &entry);
	cr_assert_null(a.entry, "the job still has an entry that is freed");
}
