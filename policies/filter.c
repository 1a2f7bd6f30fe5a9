/*
 * includes and excludes: which entries of a profile apply here. The architecture and the kernel are the machine's
 * own. A job has no capability at all, so an entry that includes any never applies, and one that excludes some is
 * not kept out by them.
 */
#include "policies/profile.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

/* What one includes or excludes object says; every part may be absent. */
struct selection {
	bool has_caps, has_arches, has_kernel;
	bool arch_native;
	bool kernel_reached;
};

/* "4.8", with up to four digits a part. */
static bool parse_version(const char *text, unsigned *major, unsigned *minor, bool whole)
{
	unsigned *parts[2] = {major, minor};
	for (int i = 0; i < 2; i++) {
		int digits = 0;
		*parts[i] = 0;
		while (*text >= '0' && *text <= '9' && digits < 4) {
			*parts[i] = *parts[i] * 10 + (unsigned)(*text++ - '0');
			digits++;
		}
		if (digits == 0 || (*text >= '0' && *text <= '9'))
			return false;
		if (i == 0 && *text++ != '.')
			return false;
	}
	return !whole || *text == '\0';
}

static int parse_kernel(const json_t *value, const char *path, struct selection *ret, struct err *err)
{
	if (!value || json_is_null(value))
		return 0;
	unsigned major = 0, minor = 0, have_major = 0, have_minor = 0;
	if (!json_is_string(value) || !parse_version(json_string_value(value), &major, &minor, true))
		return err_say(err, EINVAL, "%s.minKernel: not a version like \"4.8\"", path);
	struct utsname name;
	if (uname(&name) < 0)
		return err_set(err, errno, "uname");
	if (!parse_version(name.release, &have_major, &have_minor, false))
		return err_say(err, EINVAL, "%s.minKernel: this kernel's version is not like 4.8", path);
	ret->has_kernel = true;
	ret->kernel_reached = have_major > major || (have_major == major && have_minor >= minor);
	return 0;
}

static int parse_caps(const json_t *caps, const char *path, struct selection *ret, struct err *err)
{
	for (size_t i = 0; i < json_array_size(caps); i++) {
		const char *cap = json_string_value(json_array_get(caps, i));
		if (strncmp(cap, "CAP_", 4) != 0 ||
			strspn(cap + 4, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") != strlen(cap + 4) || !cap[4])
			return err_say(err, EINVAL, "%s.caps[%zu]: not a capability", path, i);
		ret->has_caps = true;
	}
	return 0;
}

static int parse_arches(const json_t *arches, const char *path, struct selection *ret, struct err *err)
{
	for (size_t i = 0; i < json_array_size(arches); i++) {
		const char *arch = json_string_value(json_array_get(arches, i));
		char word[POLICY_WORD_MAX];
		bool native = false;
		if (policy_word_arch(arch, &native) < 0)
			return err_say(err, EINVAL, "%s.arches[%zu]: unknown architecture %s", path, i,
				policy_printable(arch, word));
		ret->has_arches = true;
		ret->arch_native = ret->arch_native || native;
	}
	return 0;
}

static int parse_selection(const json_t *entry, const char *field, const char *entry_path, struct selection *ret,
	struct err *err)
{
	*ret = (struct selection){0};
	const json_t *object = json_object_get(entry, field);
	if (!object || json_is_null(object))
		return 0;
	char path[POLICY_PATH_MAX + 16];
	(void)snprintf(path, sizeof(path), "%s.%s", entry_path, field);
	if (!json_is_object(object))
		return err_say(err, EINVAL, "%s: not an object", path);
	static const char *const fields[] = {"caps", "arches", "minKernel", NULL};
	const json_t *caps = NULL, *arches = NULL;
	int r = policy_only_fields(object, path, fields, err);
	if (r == 0)
		r = policy_field_strings(object, "caps", path, &caps, err);
	if (r == 0)
		r = parse_caps(caps, path, ret, err);
	if (r == 0)
		r = policy_field_strings(object, "arches", path, &arches, err);
	if (r == 0)
		r = parse_arches(arches, path, ret, err);
	if (r == 0)
		r = parse_kernel(json_object_get(object, "minKernel"), path, ret, err);
	return r;
}

int policy_filter(const json_t *entry, const char *path, bool *ret_applies, struct err *err)
{
	struct selection in = {0}, out = {0};
	int r = parse_selection(entry, "includes", path, &in, err);
	if (r == 0)
		r = parse_selection(entry, "excludes", path, &out, err);
	if (r < 0)
		return r;
	*ret_applies = !in.has_caps && (!in.has_arches || in.arch_native) && (!in.has_kernel || in.kernel_reached) &&
		!(out.has_arches && out.arch_native) && !(out.has_kernel && out.kernel_reached);
	return 0;
}
