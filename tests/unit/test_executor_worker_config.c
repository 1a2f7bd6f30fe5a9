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

/* What both forms of the file below say. */
static void check_settings(const struct worker_config *c)
{
	cr_assert_eq(c->slots, 3);
	cr_assert_eq(c->lease_ms, 5000);
	cr_assert_str_eq(c->name, "w1");
	cr_assert(c->allow_volatile);
	cr_assert_eq(c->max_limits.memory_bytes, 134217728);
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
	check_settings(&c);
}

Test(worker_config, mistakes_are_named)
{
	static const struct {
		const char *text, *mention;
	} wrong[] = {{"{\"slot\": 3}", "slot"}, {"{\"slots\": 0}", "slots"}, {"{\"slots\": \"3\"}", "slots"}, {"{\"slots\": -1}", "slots"},
		{"{\"lease\": \"1ms\"}", "lease"}, {"[]", ":1"}, {"{", "object"}, {"{\"max_limits\": {\"nope\": 1}}", "nope"},
		{"{\"max_limits\": 7}", "max_limits"}, {"{\"pin\": 1}", "pin"}, {"{\n\"slots\": 2,\n\"pin\": 1}", ":3: "},
		/* the same as lines */
		{"slot = 3", ":1: unknown setting 'slot'"}, {"\n# x\nslots = 0\n", ":3: slots: "}, {"slots = three", "slots"}, {"slots = -1", "slots"},
		{"slots =", ":1: "}, {"slots 3", ":1: "}, {"slots = 1\nslots = 1", ":2: slots is given twice, first in line 1"}, {"lease = 1ms", "lease"},
		{"pin = yes", "pin"}, {"scratch = disk", "scratch"}, {"[limits]\nwall = 1s", ":2: unknown section [limits]"}, {"[max_limits]\nnope = 1", "nope"},
		{"[max_limits]\nmemory_bytes = 1", "it is called 'memory' here"}, {"[max_limits]\nslots = 1", "slots"}, {"max-wall = 1s", "max-wall"},
		{"[max_limits]\nwall = 1y", ":2: wall: "}, {"[max_limits]\nmemory = 1P", "memory"}, {"config = x", "config"}, {"check-config = true", "check-config"},
		{"name = \"a", ":1: "}, {"name = a\"b", ":1: "}, {"name = a#b", ":1: "}, {"name = \"a\" b", ":1: "}, {"name = a\r\n", "carriage return"},
		{"name = \x1b[2J", "control"}, {" = 1", ":1: "}, {"[max_limits", ":1: "}, {"[max_limits] x", ":1: "}};
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

Test(worker_config, settings_from_lines)
{
	struct worker_config c;
	struct err err = ERR_INIT;
	worker_config_init(&c);
	cr_assert_eq(load(&c, "# petri\n\n  slots=3\t# three\nlease = 5s\nname = \"w1\" # it\nallow-volatile-redis = true\nwarm-image = gcc:13=4,python:3.11=2\n"
			      "[max_limits] # a job's\nmemory = 128M\nwall = 1m\ncpuset = 0-1\nio = rbps=10M,wiops=100",
			     &err),
		0, "%s", err_msg(&err));
	check_settings(&c);
	cr_assert_str_eq(c.warm_image, "gcc:13=4,python:3.11=2");
	cr_assert_eq(c.max_limits.wall_ms, 60000);
	cr_assert_str_eq(c.max_limits.cpuset, "0-1");
	cr_assert_eq(c.max_limits.io.rbps, 10485760);
	cr_assert_eq(c.max_limits.io.wbps, 0);
	cr_assert_eq(worker_config_check(&c, &err), 0, "%s", err_msg(&err));
}

static char *printed(void (*print)(const struct worker_config *, FILE *), const struct worker_config *c)
{
	static char text[32768];
	FILE *f = fmemopen(text, sizeof(text), "w");
	print(c, f);
	(void)fclose(f);
	return text;
}

static void print_default(const struct worker_config *c, FILE *f)
{
	(void)c;
	worker_config_print_default(f);
}

Test(worker_config, environment_over_file_and_flags_over_both)
{
	struct worker_config c;
	struct err err = ERR_INIT;
	char *environment[] = {(char *)"HOME=/", (char *)"PETRI_STATE=/a", (char *)"PETRI_WORKER_STATE=/b", (char *)"PETRI_WORKER_SLOTS=5", (char *)"PETRI_WORKER_LEASE=",
		(char *)"PETRI_WORKER_MAX_MEMORY=1G", (char *)"PETRI_WORKER_MAX_ATTEMPTS=9", (char *)"PETRI_WORKER_CONFIG=/x", (char *)"PETRI_LOG=debug", NULL};
	worker_config_init(&c);
	cr_assert_eq(load(&c, "slots = 4\nlease = 7s\nmax-attempts = 8\nstate = /c\n", &err), 0, "%s", err_msg(&err));
	cr_assert_eq(worker_config_environment(&c, environment, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(worker_config_set(&c, "slots", "6", &err), 0);
	cr_assert_eq(worker_config_check(&c, &err), 0, "%s", err_msg(&err));
	cr_assert_eq(c.slots, 6);
	cr_assert_eq(c.lease_ms, 7000);
	cr_assert_eq(c.max_attempts, 9);
	cr_assert_str_eq(c.state, "/b");
	cr_assert_eq(c.max_limits.memory_bytes, 1 << 30);
	const char *text = printed(worker_config_print, &c);
	static const char *const lines[] = {"slots = 6 ", "# --slots\n", "lease = 7s ", ":2\n", "# PETRI_WORKER_MAX_ATTEMPTS\n", "# PETRI_WORKER_STATE\n", "# PETRI_LOG\n",
		"\nmemory = 1G ", "# PETRI_WORKER_MAX_MEMORY\n", "grace = 30s                                      # default\n"};
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		cr_assert_not_null(strstr(text, lines[i]), "no '%s' in\n%s", lines[i], text);
}

Test(worker_config, mistakes_of_the_environment_are_named)
{
	static const char *const wrong[] = {"PETRI_WORKER_SLOT=3", "PETRI_WORKER_SLOTS=x", "PETRI_WORKER_PIN=maybe", "PETRI_WORKER_MAX_WALL=0", "PETRI_WORKER_CHECK_CONFIG=1", "PETRI_LOG=loud"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct worker_config c;
		struct err err = ERR_INIT;
		char *environment[] = {(char *)wrong[i], NULL}, name[64];
		(void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(wrong[i], "="), wrong[i]);
		worker_config_init(&c);
		cr_assert_lt(worker_config_environment(&c, environment, &err), 0, "accepted %s", wrong[i]);
		cr_assert_not_null(strstr(err_msg(&err), name), "'%s' does not mention %s", err_msg(&err), name);
	}
}

/* What is printed can be read, and says the same. */
Test(worker_config, printed_is_read_back)
{
	struct worker_config c, again;
	struct err err = ERR_INIT;
	worker_config_init(&c);
	cr_assert_eq(load(&c, "name = w-1\nwarm-image = \" a # \\\" \\\\ b\"\nlease = 1500ms\npin = true\n[max_limits]\nio = wbps=64K\ncpus = 1.5", &err), 0, "%s", err_msg(&err));
	cr_assert_eq(worker_config_check(&c, &err), 0, "%s", err_msg(&err));
	worker_config_init(&again);
	const char *text = printed(worker_config_print, &c);
	cr_assert_eq(worker_config_read(&again, "printed", text, strlen(text), &err), 0, "%s in\n%s", err_msg(&err), text);
	cr_assert_str_eq(again.warm_image, " a # \" \\ b");
	cr_assert_eq(again.lease_ms, 1500);
	cr_assert(again.pin);
	cr_assert_eq(memcmp(&again.max_limits, &c.max_limits, sizeof(c.max_limits)), 0);
}

/* The file that --print-config makes is taken as it is; and so is each of its settings once it is no comment any more. */
Test(worker_config, default_file)
{
	struct worker_config c, defaults;
	struct err err = ERR_INIT;
	char text[32768], all[32768] = "";
	(void)snprintf(text, sizeof(text), "%s", printed(print_default, NULL));
	worker_config_init(&defaults);
	worker_config_init(&c);
	cr_assert_eq(worker_config_read(&c, "default", text, strlen(text), &err), 0, "%s", err_msg(&err));
	unsigned settings = 0;
	for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
		bool setting = line[0] == '#' && line[1] != ' ';
		if (!setting && line[0] != '[')
			continue;
		settings += setting;
		if (line[strlen(line) - 1] == ' ') /* "name = ": no default */
			continue;
		(void)strcat(strcat(all, line + setting), "\n");
	}
	cr_assert_geq(settings, 30, "%u settings in\n%s", settings, all);
	cr_assert_eq(worker_config_read(&c, "all", all, strlen(all), &err), 0, "%s", err_msg(&err));
	cr_assert_eq(memcmp(&c.max_limits, &defaults.max_limits, sizeof(c.max_limits)), 0);
	cr_assert_eq(c.lease_ms, defaults.lease_ms);
}

Test(worker_config, what_belongs_together)
{
	static const struct {
		const char *name, *value, *mention;
	} wrong[] = {{"redis", "http://x", "--redis"}, {"redis", "redis://u:secret@h", "--redis"}, {"prefix", "a b", "--prefix"}, {"name", "a/b", "--name"},
		{"name", "", "--name"}, {"allow-unenforced", "io.wbps,disk", "--allow-unenforced: 'disk'"}, {"allow-unenforced", "cpus,", "--allow-unenforced"}, {"allow-unenforced", ",cpus", "--allow-unenforced"}, {"allow-unenforced", "memory_bytes", "--allow-unenforced"}, {"warm-image", "a=", "--warm-image"}, {"warm-image", "a,,b", "--warm-image"}, {"warm-image", "a=2000", "--warm-image"},
		{"redis-credentials-file", "/nonexistent", "--redis-credentials-file"}};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct worker_config c;
		struct err err = ERR_INIT;
		worker_config_init(&c);
		(void)snprintf(c.name, sizeof(c.name), "w");
		cr_assert_eq(worker_config_set(&c, wrong[i].name, wrong[i].value, &err), 0);
		cr_assert_lt(worker_config_check(&c, &err), 0, "accepted %s = %s", wrong[i].name, wrong[i].value);
		cr_assert_not_null(strstr(err_msg(&err), wrong[i].mention), "'%s' does not mention %s", err_msg(&err), wrong[i].mention);
		cr_assert_null(strstr(err_msg(&err), "secret"));
	}
}
