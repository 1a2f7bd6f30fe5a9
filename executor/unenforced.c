/*
 * Which limits can be left out. Not memory and the number of processes, without which one job takes the whole machine, nor disk, which is
 * enforced everywhere.
 */
#include "executor/unenforced.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"
#include "pool/leaf.h"

static const char *const names[] = {"cpus", "cpuset", "swap_bytes", "io.rbps", "io.wbps", "io.riops", "io.wiops"};

/* The next word of a list, and where the one after it begins. Return: its length; 0 for an empty one. */
static size_t take_word(const char **at, const char **ret)
{
	size_t len = strcspn(*at, ",");
	*ret = *at;
	*at += len + ((*at)[len] == ',');
	return len;
}

static bool same(const char *word, size_t len, const char *name)
{
	return strlen(name) == len && memcmp(word, name, len) == 0;
}

int unenforced_check(const char *list, struct err *err)
{
	size_t whole = strlen(list);
	if (whole > 0 && list[whole - 1] == ',')
		return err_say(err, EINVAL, "a limit's name is empty");
	for (const char *word; *list;) {
		size_t len = take_word(&list, &word), i = 0;
		while (i < ARRAY_SIZE(names) && !same(word, len, names[i]))
			i++;
		if (len == 0)
			return err_say(err, EINVAL, "a limit's name is empty");
		if (i == ARRAY_SIZE(names))
			return err_say(err, EINVAL, "'%.*s' is none of cpus, cpuset, swap_bytes, io.rbps, io.wbps, io.riops, io.wiops", (int)MIN(len, (size_t)60), word);
	}
	return 0;
}

bool unenforced_allows(const char *list, const char *name)
{
	for (const char *word; list && *list;) {
		size_t len = take_word(&list, &word);
		if (same(word, len, name))
			return true;
	}
	return false;
}

void unenforced_clear(struct leaf_limits *limits, const char *name)
{
	if (strcmp(name, "cpus") == 0)
		limits->cpus_milli = 0;
	else if (strcmp(name, "cpuset") == 0)
		limits->cpuset[0] = '\0';
	else if (strcmp(name, "swap_bytes") == 0)
		limits->swap_bytes = 0;
	else if (strcmp(name, "io.rbps") == 0)
		limits->io.rbps = 0;
	else if (strcmp(name, "io.wbps") == 0)
		limits->io.wbps = 0;
	else if (strcmp(name, "io.riops") == 0)
		limits->io.riops = 0;
	else if (strcmp(name, "io.wiops") == 0)
		limits->io.wiops = 0;
}
