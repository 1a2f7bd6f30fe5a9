/* Configuration files: whatever is accepted is printed as a file that is accepted again and means the same. */
#include <stdlib.h>
#include <string.h>

#include "executor/config_file.h"
#include "executor/worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int look(void *ctx, const char *section, const char *key, const char *value, unsigned line, struct err *err)
{
	unsigned *before = ctx;
	(void)section;
	(void)err;
	if (!*key || line <= *before)
		abort();
	*before = line;
	for (; *value; value++)
		if (((unsigned char)*value < 0x20 && *value != '\t') || *value == 0x7f)
			abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct worker_config c, again;
	static char text[65536], second[65536];
	struct err err = ERR_INIT;
	unsigned line = 0;
	if (config_parse("fuzz", (const char *)data, size, look, &line, &err) < 0 && !err.msg[0])
		abort();
	worker_config_init(&c);
	(void)snprintf(c.name, sizeof(c.name), "w");
	err = ERR_INIT;
	if (worker_config_read(&c, "fuzz", (const char *)data, size, &err) < 0) {
		if (!err.msg[0])
			abort();
		return 0;
	}
	/* No file that the fuzzer thinks of is to be opened. */
	c.redis_credentials_file[0] = '\0';
	if (worker_config_check(&c, &err) < 0)
		return 0;
	FILE *f = fmemopen(text, sizeof(text), "w");
	worker_config_print(&c, f);
	(void)fclose(f);
	worker_config_init(&again);
	(void)snprintf(again.name, sizeof(again.name), "w");
	if (worker_config_read(&again, "fuzz", text, strlen(text), &err) < 0 || worker_config_check(&again, &err) < 0)
		abort();
	/* The sources differ, the values do not. */
	memcpy(again.sources, c.sources, sizeof(c.sources));
	memcpy(again.file, c.file, sizeof(c.file));
	f = fmemopen(second, sizeof(second), "w");
	worker_config_print(&again, f);
	(void)fclose(f);
	if (strcmp(text, second) != 0)
		abort();
	return 0;
}
