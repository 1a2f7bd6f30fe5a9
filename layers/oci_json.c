/*
 * The JSON of container images: indexes (manifest lists), manifests, configurations, docker-save's manifest.json. Runs in a helper; every
 * byte is a stranger's, even where a digest vouches for it. Refusals name the field.
 *
 * A document is counted before it is parsed (sane()), so that neither nesting nor a hundred thousand empty objects cost more than a
 * bounded amount of memory.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/machine.h"
#include "layers/oci.h"

#define REFS_SHOWN 8

static void json_cleanup(json_t **json)
{
	json_decref(*json);
}

#define _cleanup_json_ _cleanup_(json_cleanup)

const char *oci_machine(void)
{
	return MACHINE_OCI_NAME;
}

/* Brackets and commas outside of strings bound both the depth and the number of values. */
static int sane(const char *text, size_t len, struct err *err)
{
	unsigned depth = 0, values = 1;
	bool string = false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				string = false;
			continue;
		}
		if (c == '"')
			string = true;
		else if (c == '{' || c == '[')
			depth++;
		else if ((c == '}' || c == ']') && depth > 0)
			depth--;
		if (c == '{' || c == '[' || c == ',')
			values++;
		if (depth > OCI_DEPTH_MAX)
			return err_say(err, EINVAL, "the JSON is nested deeper than %u", OCI_DEPTH_MAX);
		if (values > OCI_VALUES_MAX)
			return err_say(err, E2BIG, "the JSON has more than %u values", OCI_VALUES_MAX);
	}
	return 0;
}

static int load(const char *text, size_t len, json_t **ret, struct err *err)
{
	json_error_t error;
	int r = sane(text, len, err);
	if (r < 0)
		return r;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!json)
		return err_say(err, EINVAL, "line %d: %.200s", error.line, error.text);
	*ret = json;
	return 0;
}

/* The string of a member, or NULL. */
static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static bool one_of(const char *s, const char *const *list, size_t n)
{
	for (size_t i = 0; s && i < n; i++)
		if (strcmp(s, list[i]) == 0)
			return true;
	return false;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
								     : -1;
}

static int digest_parse(const char *s, const char *field, uint8_t ret[32], struct err *err)
{
	static const char prefix[] = "sha256:";
	if (!s)
		return err_say(err, EINVAL, "%s is missing", field);
	if (strncmp(s, "sha512:", 7) == 0)
		return err_say(err, EOPNOTSUPP, "%s: sha512 is not supported; only sha256 is", field);
	if (strncmp(s, prefix, strlen(prefix)) != 0 || strlen(s) != strlen(prefix) + 64)
		return err_say(err, EINVAL, "%s: '%.120s' is no SHA-256 digest", field, s);
	s += strlen(prefix);
	for (size_t i = 0; i < 32; i++) {
		int high = hex_digit(s[2 * i]), low = hex_digit(s[2 * i + 1]);
		if (high < 0 || low < 0)
			return err_say(err, EINVAL, "%s: '%.120s' is no SHA-256 digest", field, s);
		ret[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

static int descriptor_parse(const json_t *json, const char *field, struct oci_descriptor *ret, struct err *err)
{
	struct oci_descriptor d = {.size = 0};
	const json_t *size = json_object_get(json, "size");
	if (!json_is_object(json))
		return err_say(err, EINVAL, "%s is no descriptor", field);
	char digest[48];
	(void)snprintf(digest, sizeof(digest), "%.30s.digest", field);
	int r = digest_parse(text_of(json, "digest"), digest, d.sha256, err);
	if (r < 0)
		return r;
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return err_say(err, EINVAL, "%s.size is no size", field);
	d.size = (uint64_t)json_integer_value(size);
	*ret = d;
	return 0;
}

/* A document that says what it is must be that; and none is both, or two readers would see two images in it (CVE-2021-41190). */
static int check_kind(const json_t *root, bool index, struct err *err)
{
	static const char *const indexes[] = {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"};
	static const char *const manifests[] = {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"};
	const json_t *version = json_object_get(root, "schemaVersion"), *type = json_object_get(root, "mediaType");
	const char *type_text = json_string_value(type);
	if (!json_is_object(root))
		return err_say(err, EINVAL, "it is no JSON object");
	if (!json_is_integer(version) || json_integer_value(version) != 2)
		return err_say(err, json_integer_value(version) == 1 ? EOPNOTSUPP : EINVAL, "schemaVersion is not 2%s",
			json_integer_value(version) == 1 ? ": images of Docker's schema 1 are not supported" : "");
	if (type && !(index ? one_of(type_text, indexes, ARRAY_SIZE(indexes)) : one_of(type_text, manifests, ARRAY_SIZE(manifests))))
		return err_say(err, EINVAL, "mediaType '%.120s' is not that of %s", type_text ? type_text : "", index ? "an index" : "a manifest");
	if (json_object_get(root, "manifests") && (json_object_get(root, "layers") || json_object_get(root, "config")))
		return err_say(err, EINVAL, "it is an index and a manifest at once");
	return 0;
}

/* ---- index ---- */

/* Return: 1 for an index, 0 for a manifest, or -errno for anything else. */
static int manifest_type(const json_t *entry, struct err *err)
{
	const char *type = text_of(entry, "mediaType");
	if (!type)
		return err_say(err, EINVAL, "manifests: an entry without mediaType");
	if (strcmp(type, "application/vnd.oci.image.index.v1+json") == 0 || strcmp(type, "application/vnd.docker.distribution.manifest.list.v2+json") == 0)
		return 1;
	if (strcmp(type, "application/vnd.oci.image.manifest.v1+json") == 0 || strcmp(type, "application/vnd.docker.distribution.manifest.v2+json") == 0)
		return 0;
	return err_say(err, EOPNOTSUPP, "manifests: the type '%.120s' is not supported", type);
}

static const char *annotation(const json_t *entry, const char *key)
{
	return text_of(json_object_get(entry, "annotations"), key);
}

static const char *ref_of(const json_t *entry)
{
	return annotation(entry, "org.opencontainers.image.ref.name");
}

/* A whole name such as "registry:5000/app:v2", or its tag alone. */
static bool names(const char *name, const char *ref)
{
	const char *colon = name ? strrchr(name, ':') : NULL;
	return name && (strcmp(name, ref) == 0 || (colon && !strchr(colon, '/') && strcmp(colon + 1, ref) == 0));
}

static bool has_ref(const json_t *entry, const char *ref)
{
	/* Docker writes the tag alone into the first and the whole name into the second; others the whole name into the first. */
	return names(ref_of(entry), ref) || names(annotation(entry, "io.containerd.image.name"), ref);
}

/* How well an entry suits this machine: 0 not at all, 2 surely, 1 if its CPU has what the variant asks for. */
static int suits(const json_t *entry, const struct oci_want *want)
{
	const json_t *platform = json_object_get(entry, "platform");
	const char *os = text_of(platform, "os"), *arch = text_of(platform, "architecture"), *variant = text_of(platform, "variant");
	if (!os || !arch || strcmp(os, want->os) != 0 || strcmp(arch, want->architecture) != 0)
		return 0;
	bool baseline = !variant || !*variant || strcmp(variant, "v1") == 0 || (strcmp(arch, "arm64") == 0 && strcmp(variant, "v8") == 0);
	return baseline ? 2 : 1;
}

static void list_refs(const json_t *manifests, char *out, size_t cap)
{
	size_t len = 0, shown = 0, i;
	const json_t *entry;
	out[0] = '\0';
	json_array_foreach(manifests, i, entry)
	{
		const char *ref = ref_of(entry);
		if (!ref)
			continue;
		int n = snprintf(out + len, cap - len, "%s%.40s", len ? ", " : ": ", shown == REFS_SHOWN ? "…" : ref);
		if (n < 0 || (size_t)n >= cap - len || shown++ == REFS_SHOWN)
			return;
		len += (size_t)n;
	}
}

struct choice {
	const json_t *entry;
	size_t number;
	int score;
	bool ambiguous;
};

static bool same_digest(const json_t *a, const json_t *b)
{
	const char *one = text_of(a, "digest"), *two = text_of(b, "digest");
	return one && two && strcmp(one, two) == 0;
}

/* The best of those that have the reference (if one is wanted). @scored: by platform, else each is as good as another. */
static struct choice choose(const json_t *manifests, const struct oci_want *want, bool scored)
{
	struct choice best = {.score = 0};
	size_t i;
	const json_t *entry;
	json_array_foreach(manifests, i, entry)
	{
		int score = scored ? suits(entry, want) : 1;
		if (score == 0 || (want->ref[0] && !has_ref(entry, want->ref)))
			continue;
		if (score > best.score)
			best = (struct choice){.entry = entry, .number = i, .score = score};
		else if (score == best.score && !same_digest(entry, best.entry))
			best.ambiguous = true;
	}
	return best;
}

int oci_index_parse(const char *text, size_t len, const struct oci_want *want, struct oci_descriptor *ret, struct err *err)
{
	_cleanup_json_ json_t *root = NULL;
	char refs[REFS_SHOWN * 48], field[40];
	int r = load(text, len, &root, err);
	if (r == 0)
		r = check_kind(root, true, err);
	if (r < 0)
		return r;
	const json_t *manifests = json_object_get(root, "manifests");
	if (!json_is_array(manifests))
		return err_say(err, EINVAL, "manifests is no list");
	list_refs(manifests, refs, sizeof(refs));
	struct choice all = choose(manifests, want, false);
	if (!all.entry && want->ref[0])
		return err_say(err, ENOENT, "there is no image '%.120s' in it%s", want->ref, refs);
	if (!all.entry)
		return err_say(err, ENOENT, "there is no image in it");
	if (all.ambiguous) {
		all = choose(manifests, want, true);
		if (!all.entry)
			return err_say(err, ENOENT, "there are several images in it, and none says that it is for %s/%s; choose one with --ref%s", want->os, want->architecture, refs);
		if (all.ambiguous)
			return err_say(err, EINVAL, "there are several images for %s/%s in it; choose one with --ref%s", want->os, want->architecture, refs);
	}
	r = manifest_type(all.entry, err);
	if (r < 0)
		return r;
	(void)snprintf(field, sizeof(field), "manifests[%zu]", all.number);
	struct oci_descriptor d;
	int parsed = descriptor_parse(all.entry, field, &d, err);
	if (parsed < 0)
		return parsed;
	d.is_index = r == 1;
	*ret = d;
	return 0;
}

/* ---- manifest ---- */

static int check_layer_type(const json_t *layer, const char *field, struct err *err)
{
	static const char *const known[] = {"application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip",
		"application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar.zstd"};
	const char *type = text_of(layer, "mediaType");
	if (!type)
		return err_say(err, EINVAL, "%s.mediaType is missing", field);
	if (one_of(type, known, ARRAY_SIZE(known)))
		return 0;
	if (strstr(type, ".foreign.") || strstr(type, ".nondistributable."))
		return err_say(err, EOPNOTSUPP, "%s is a foreign layer (%.120s), whose content may not be distributed with the image", field, type);
	if (strstr(type, "+encrypted"))
		return err_say(err, EOPNOTSUPP, "%s is encrypted (%.120s); decrypt the image first", field, type);
	return err_say(err, EOPNOTSUPP, "%s: the type '%.120s' is not supported", field, type);
}

static int check_count(size_t n, const char *field, struct err *err)
{
	if (n > IMAGE_LAYERS_MAX)
		return err_say(err, E2BIG, "%s: %zu layers are too many: the most is %d", field, n, IMAGE_LAYERS_MAX);
	return n == 0 ? err_say(err, EINVAL, "%s: there is no layer", field) : 0;
}

int oci_manifest_parse(const char *text, size_t len, struct oci_manifest *ret, struct err *err)
{
	static const char *const configs[] = {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"};
	_cleanup_json_ json_t *root = NULL;
	struct oci_manifest made = {.nlayers = 0};
	int r = load(text, len, &root, err);
	if (r == 0)
		r = check_kind(root, false, err);
	if (r < 0)
		return r;
	const json_t *config = json_object_get(root, "config"), *layers = json_object_get(root, "layers");
	const char *type = text_of(config, "mediaType");
	if (!one_of(type, configs, ARRAY_SIZE(configs)))
		return err_say(err, EOPNOTSUPP, "config.mediaType '%.120s' is not that of a container image", type ? type : "");
	r = descriptor_parse(config, "config", &made.config, err);
	if (r < 0)
		return r;
	if (!json_is_array(layers))
		return err_say(err, EINVAL, "layers is no list");
	r = check_count(json_array_size(layers), "layers", err);
	for (size_t i = 0; r == 0 && i < json_array_size(layers); i++) {
		const json_t *layer = json_array_get(layers, i);
		char field[48];
		(void)snprintf(field, sizeof(field), "layers[%zu]", i);
		r = check_layer_type(layer, field, err);
		if (r == 0)
			r = descriptor_parse(layer, field, &made.layers[i], err);
		made.nlayers++;
	}
	if (r == 0)
		*ret = made;
	return r;
}

/* ---- docker-save ---- */

static int copy_name(const json_t *json, const char *field, char ret[OCI_NAME_MAX], struct err *err)
{
	const char *name = json_string_value(json);
	if (!name || !*name)
		return err_say(err, EINVAL, "%s is no name of a file", field);
	if (strlen(name) >= OCI_NAME_MAX)
		return err_say(err, ENAMETOOLONG, "%s: '%.80s…' is too long", field, name);
	(void)snprintf(ret, OCI_NAME_MAX, "%s", name);
	return 0;
}

static bool docker_has_ref(const json_t *image, const char *ref)
{
	size_t i;
	const json_t *item;
	json_array_foreach(json_object_get(image, "RepoTags"), i, item)
	{
		if (names(json_string_value(item), ref))
			return true;
	}
	return false;
}

static int docker_choose(const json_t *root, const char *ref, const json_t **ret, struct err *err)
{
	size_t i;
	const json_t *image;
	if (!json_is_array(root))
		return err_say(err, EINVAL, "it is no list of images");
	if (!ref[0] && json_array_size(root) > 1)
		return err_say(err, EINVAL, "there are %zu images in it; choose one with --ref NAME:TAG", json_array_size(root));
	*ret = NULL;
	json_array_foreach(root, i, image)
	{
		if (ref[0] && !docker_has_ref(image, ref))
			continue;
		if (*ret)
			return err_say(err, EINVAL, "several images in it are called '%.120s'; choose one with --ref NAME:TAG", ref);
		*ret = image;
	}
	if (!*ret && ref[0])
		return err_say(err, ENOENT, "there is no image '%.120s' in it", ref);
	return *ret ? 0 : err_say(err, ENOENT, "there is no image in it");
}

int docker_manifest_parse(const char *text, size_t len, const char *ref, struct docker_manifest *ret, struct err *err)
{
	_cleanup_json_ json_t *root = NULL;
	const json_t *image = NULL;
	int r = load(text, len, &root, err);
	if (r == 0)
		r = docker_choose(root, ref, &image, err);
	if (r < 0)
		return r;
	const json_t *layers = json_object_get(image, "Layers");
	if (!json_is_array(layers))
		return err_say(err, EINVAL, "Layers is no list");
	memset(ret, 0, sizeof(*ret));
	r = copy_name(json_object_get(image, "Config"), "Config", ret->config, err);
	if (r == 0)
		r = check_count(json_array_size(layers), "Layers", err);
	for (size_t i = 0; r == 0 && i < json_array_size(layers); i++) {
		char field[48];
		(void)snprintf(field, sizeof(field), "Layers[%zu]", i);
		r = copy_name(json_array_get(layers, i), field, ret->layers[i], err);
		ret->nlayers++;
	}
	return r;
}

/* ---- configuration ---- */

/* Append a string. Return: 0 or -errno. */
static int put(struct oci_config *c, const char *s, const char *field, struct err *err)
{
	size_t len = strlen(s) + 1;
	if (len > OCI_TEXT_MAX - c->text_len)
		return err_say(err, E2BIG, "%s: the strings of the configuration take more than %u bytes", field, OCI_TEXT_MAX);
	memcpy(c->text + c->text_len, s, len);
	c->text_len += (uint32_t)len;
	return 0;
}

static int words_parse(struct oci_config *c, const json_t *json, const char *field, bool env, struct oci_words *ret, struct err *err)
{
	size_t n = json_array_size(json);
	if (!json || json_is_null(json))
		return 0;
	if (!json_is_array(json) || n > OCI_WORDS_MAX)
		return err_say(err, EINVAL, "%s is no list of at most %u strings", field, OCI_WORDS_MAX);
	*ret = (struct oci_words){.present = 1, .at = c->text_len};
	for (size_t i = 0; i < n; i++, ret->count++) {
		const char *word = json_string_value(json_array_get(json, i));
		if (!word)
			return err_say(err, EINVAL, "%s[%zu] is no string", field, i);
		if (env && (word[0] == '=' || !strchr(word, '=')))
			return err_say(err, EINVAL, "%s[%zu]: '%.80s' is not KEY=VALUE", field, i, word);
		int r = put(c, word, field, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int text_parse(struct oci_config *c, const json_t *json, const char *field, uint32_t *ret, struct err *err)
{
	if (!json || json_is_null(json) || (json_is_string(json) && json_string_length(json) == 0))
		return 0;
	if (!json_is_string(json))
		return err_say(err, EINVAL, "%s is no string", field);
	uint32_t at = c->text_len;
	int r = put(c, json_string_value(json), field, err);
	if (r == 0)
		*ret = at;
	return r;
}

static int diff_ids_parse(struct oci_config *c, const json_t *rootfs, struct err *err)
{
	const json_t *ids = json_object_get(rootfs, "diff_ids");
	const char *type = text_of(rootfs, "type");
	if (!type || strcmp(type, "layers") != 0 || !json_is_array(ids))
		return err_say(err, EINVAL, "rootfs is no list of layers");
	int r = check_count(json_array_size(ids), "rootfs.diff_ids", err);
	for (size_t i = 0; r == 0 && i < json_array_size(ids); i++) {
		char field[48];
		(void)snprintf(field, sizeof(field), "rootfs.diff_ids[%zu]", i);
		r = digest_parse(json_string_value(json_array_get(ids, i)), field, c->diff_ids[i], err);
		c->ndiff_ids++;
	}
	return r;
}

static int platform_parse(struct oci_config *c, const json_t *root, struct err *err)
{
	const char *os = text_of(root, "os"), *arch = text_of(root, "architecture"), *variant = text_of(root, "variant");
	char text[128];
	if (!os || !arch)
		return err_say(err, EINVAL, "os or architecture is missing");
	if (strcmp(os, "linux") != 0)
		return err_say(err, EOPNOTSUPP, "os: the image is for '%.60s', not for linux", os);
	bool more = variant && *variant;
	(void)snprintf(text, sizeof(text), "%.30s/%.40s%s%.40s", os, arch, more ? "/" : "", more ? variant : "");
	c->platform = c->text_len;
	return put(c, text, "architecture", err);
}

int oci_config_parse(const char *text, size_t len, struct oci_config *ret, struct err *err)
{
	_cleanup_json_ json_t *root = NULL;
	memset(ret, 0, offsetof(struct oci_config, text));
	ret->cwd = ret->user = ret->platform = OCI_NO_TEXT;
	int r = load(text, len, &root, err);
	if (r < 0)
		return r;
	if (!json_is_object(root))
		return err_say(err, EINVAL, "it is no JSON object");
	const json_t *config = json_object_get(root, "config");
	if (config && !json_is_object(config) && !json_is_null(config))
		return err_say(err, EINVAL, "config is no object");
	r = platform_parse(ret, root, err);
	if (r == 0)
		r = diff_ids_parse(ret, json_object_get(root, "rootfs"), err);
	if (r == 0)
		r = words_parse(ret, json_object_get(config, "Env"), "config.Env", true, &ret->env, err);
	if (r == 0)
		r = words_parse(ret, json_object_get(config, "Entrypoint"), "config.Entrypoint", false, &ret->entrypoint, err);
	if (r == 0)
		r = words_parse(ret, json_object_get(config, "Cmd"), "config.Cmd", false, &ret->cmd, err);
	if (r == 0)
		r = text_parse(ret, json_object_get(config, "WorkingDir"), "config.WorkingDir", &ret->cwd, err);
	if (r == 0 && ret->cwd != OCI_NO_TEXT && ret->text[ret->cwd] != '/')
		r = err_say(err, EINVAL, "config.WorkingDir: '%.120s' is not absolute", ret->text + ret->cwd);
	if (r == 0)
		r = text_parse(ret, json_object_get(config, "User"), "config.User", &ret->user, err);
	return r;
}
