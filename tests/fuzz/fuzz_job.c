/*
 * Any bytes as a job: parsing neither crashes nor leaks; a refusal says why; an accepted job passes its own check
 * unchanged; and the result that echoes its meta and carries the same bytes as output is JSON.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "executor/job.h"
#include "executor/limits.h"
#include "executor/result.h"

#define CHECK(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_result(struct job *job, const struct reject *reject, bool refused, const uint8_t *data, size_t size)
{
	struct result result = {.status = refused ? STATUS_REJECTED : STATUS_EXITED};
	memcpy(result.id, job->id, sizeof(result.id));
	result.meta = json_incref(job->meta);
	if (refused)
		result.reject = *reject;
	result.out.data = malloc(size + 1);
	CHECK(result.out.data);
	if (size)
		memcpy(result.out.data, data, size);
	result.out.len = size;
	char *text = result_json(&result);
	CHECK(text);
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	CHECK(json_object_size(json) == 18);
	json_decref(json);
	free(text);
	result_clear(&result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct job job;
	struct reject reject;
	int r = job_parse((const char *)data, size, NULL, &job, &reject);
	CHECK(r == 0 || r == 1);
	if (r == 0) {
		const struct job_limits limits = job.limits;
		CHECK(job_check(&job, NULL, &reject) == 0);
		CHECK(memcmp(&limits, &job.limits, sizeof(limits)) == 0);
	} else {
		CHECK(reject.message[0] && reject.reason < REJECT_REASON_MAX);
	}
	CHECK(!job.id[0] || job_id_valid(job.id));
	check_result(&job, &reject, r == 1, data, size);
	job_clear(&job);
	return 0;
}
