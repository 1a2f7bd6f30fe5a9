#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/worker.h"

static int load(struct worker_config *c, const char *text, struct err *err)
{
	char path[] = "/tmp/test-config-XXXXXX";
	int fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	int r = worker_config_load(c, path, err);
	unlink(path);
	return r;
}

Test(worker_config, settings_from_a_file)
{
	struct worker_config c;
	struct err err = ERR_INIT;
	worker_config_init(&c);
	cr_assert_eq(load(&c, "{\"slots\": 3, \"lease\": \"5s\", \"name\": \"w1\", \"allow-volatile-redis\": true,"
			      "\"max_limits\": {\"memory_bytes\": 134217728}}",
			     &err),
		0, "%s", err_msg(&err));
	cr_assert_eq(c.slots, 3);
	cr_assert_eq(c.lease_ms, 5000);
	cr_assert_str_eq(c.name, "w1");
	cr_assert(c.allow_volatile);
	cr_assert_eq(c.max_limits.memory_bytes, 134217728);
}

Test(worker_config, mistakes_are_named)
{
	static const struct {
		const char *text, *mention;
	} wrong[] = {{"{\"slot\": 3}", "slot"}, {"{\"slots\": 0}", "slots"}, {"{\"slots\": \"3\"}", "slots"}, {"{\"slots\": -1}", "slots"},
		{"{\"lease\": \"1ms\"}", "lease"}, {"[]", "object"}, {"{", "object"}, {"{\"max_limits\": {\"nope\": 1}}", "nope"},
		{"{\"max_limits\": 7}", "max_limits"}, {"{\"pin\": 1}", "pin"}};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct worker_config c;
		struct err err = ERR_INIT;
		worker_config_init(&c);
		cr_assert_lt(load(&c, wrong[i].text, &err), 0, "accepted %s", wrong[i].text);
		cr_assert_not_null(strstr(err_msg(&err), wrong[i].mention), "'%s' does not mention %s", err_msg(&err), wrong[i].mention);
	}
}

Test(worker_config, flags)
{
	struct worker_config c;
	struct err err = ERR_INIT;
	worker_config_init(&c);
	cr_assert_eq(worker_config_set(&c, "max-attempts", "7", &err), 0);
	cr_assert_eq(c.max_attempts, 7);
	cr_assert_eq(worker_config_set(&c, "nope", "7", &err), -ENOENT);
	cr_assert_lt(worker_config_set(&c, "slots", "100000", &err), 0);
	cr_assert_lt(worker_config_set(&c, "grace", "soon", &err), 0);
	cr_assert_not_null(strstr(err_msg(&err), "grace"));
}
