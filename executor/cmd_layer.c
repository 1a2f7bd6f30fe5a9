/* petri layer: what layers there are, whether they are whole, and which must stay. Root. Ids go to standard output. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "executor/cli.h"
#include "executor/supervisor.h"
#include "layers/gc.h"
#include "layers/pin.h"
#include "layers/refs.h"
#include "layers/verify.h"

struct layer_options {
	const char *state;
};

static const struct option layer_options[] = {
	STATE_OPTION(struct layer_options, state),
	{0},
};

static const struct exit_code codes[] = {
	{"0", "done"},
	{"1", "failed; verify: something differs"},
	{"125", "the command line is wrong"},
	{0},
};

const struct verb layer_verb = {
	.name = "layer",
	.summary = "list, verify, pin and remove layers",
	.fn = cmd_layer,
	.forms = (const char *const[]){"list", "verify [ID]", "rm ID", "pin ID", "unpin ID", NULL},
	.about = "list: id, bytes, entries, last use, and what keeps it from gc.\n\nverify: hash a layer or blob anew, or all of them, and name what "
		 "differs.\n\nrm: remove a layer that no image, pin, job or import uses.\n\npin: keep it from gc, until unpin.",
	.options = layer_options,
	.min_words = 1,
	.max_words = 2,
	.words = "list verify rm pin unpin",
	.codes = codes,
};

static void print_layer(const struct gc_item *item, const struct refs *refs)
{
	char id[ID128_TEXT_MAX], used[32] = "-";
	struct tm tm;
	time_t at = item->used.tv_sec;
	format_id128(item->id, id);
	if (gmtime_r(&at, &tm))
		(void)strftime(used, sizeof(used), "%Y-%m-%dT%H:%M:%SZ", &tm);
	(void)printf("%s %" PRIu64 " %" PRIu64 " %s", id, item->bytes, item->entries, used);
	const char *before = " images=", *image;
	for (size_t i = 0; (image = refs_next(refs, item->id, &i)); before = ",")
		(void)printf("%s%s", before, image);
	(void)printf("%s%s\n", item->pinned ? " pinned" : "", item->damaged ? " damaged" : "");
}

static int list(struct store *store, struct err *err)
{
	_cleanup_(refs_clear) struct refs refs = REFS_INIT;
	_cleanup_(gc_list_clear) struct gc_list layers = GC_LIST_INIT;
	int r = gc_list_layers(store, &layers, err);
	if (r == 0)
		r = refs_load(store, &refs, err);
	for (size_t i = 0; r == 0 && i < layers.n; i++)
		print_layer(&layers.items[i], &refs);
	return r;
}

/* ---- verify ---- */
struct verification {
	struct verify verify;
	char what[64]; /* "layer xxh128:…" */
	uint64_t good, bad;
};

static void on_difference(void *ctx, const char *text)
{
	struct verification *v = ctx;
	(void)printf("%s: %s\n", v->what, text);
}

/* Return: 0, -ENOENT when there is no such thing, or -errno. */
static int verify_one(struct store *store, struct verification *v, const uint8_t id[16], bool blob, struct err *err)
{
	char text[ID128_TEXT_MAX];
	format_id128(id, text);
	(void)snprintf(v->what, sizeof(v->what), "%s %s", blob ? "blob" : "layer", text);
	v->verify = (struct verify){.differs = on_difference, .ctx = v};
	int r = blob ? blob_verify(store, id, &v->verify, err) : layer_verify(store, id, &v->verify, err);
	if (r < 0)
		return r;
	if (v->verify.differences > VERIFY_NAMED_MAX)
		(void)printf("%s: and %" PRIu64 " more\n", v->what, v->verify.differences - VERIFY_NAMED_MAX);
	if (v->verify.differences > 0)
		v->bad++;
	else
		v->good++;
	return 0;
}

static void verify_list(struct store *store, struct verification *v, const struct gc_list *list)
{
	for (size_t i = 0; i < list->n; i++) {
		struct err why = ERR_INIT;
		int r = verify_one(store, v, list->items[i].id, list->items[i].blob, &why);
		if (r == -ENOENT) /* gc took it in between */
			continue;
		if (r < 0) {
			(void)printf("%s: cannot be verified: %s\n", v->what, err_msg(&why));
			v->bad++;
		}
	}
}

static int verify_all(struct store *store, struct verification *v, struct err *err)
{
	_cleanup_(gc_list_clear) struct gc_list layers = GC_LIST_INIT, blobs = GC_LIST_INIT;
	int r = gc_list_layers(store, &layers, err);
	if (r == 0)
		r = gc_list_blobs(store, &blobs, err);
	if (r < 0)
		return r;
	verify_list(store, v, &layers);
	verify_list(store, v, &blobs);
	return 0;
}

/* Return: the exit code, or -errno. */
static int verify(struct store *store, const char *text, struct err *err)
{
	struct verification v = {.good = 0};
	uint8_t id[16];
	int r;
	if (text) {
		r = parse_id128(text, id, err);
		if (r == 0)
			r = verify_one(store, &v, id, false, err);
		if (r == -ENOENT && (r = verify_one(store, &v, id, true, err)) == -ENOENT)
			return err_say(err, ENOENT, "there is no layer or blob %s", text);
	} else {
		r = verify_all(store, &v, err);
	}
	if (r < 0)
		return r;
	(void)fflush(stdout);
	(void)fprintf(stderr, "petri layer verify: %" PRIu64 " good, %" PRIu64 " damaged\n", v.good, v.bad);
	return v.bad > 0;
}

/* ---- the verb ---- */
static int with_id(struct store *store, const char *text, int (*fn)(struct store *store, const uint8_t id[16], struct err *err),
	struct err *err)
{
	uint8_t id[16];
	int r = parse_id128(text, id, err);
	return r < 0 ? r : fn(store, id, err);
}

static int layer_words(struct store *store, char **w, struct err *err)
{
	static const struct {
		const char *name;
		int (*fn)(struct store *store, const uint8_t id[16], struct err *err);
	} actions[] = {{"rm", gc_remove_layer}, {"pin", pin_layer}, {"unpin", pin_remove}};
	int n = w[1] ? 2 : 1;
	if (n == 1 && strcmp(w[0], "list") == 0)
		return list(store, err);
	if ((n == 1 || n == 2) && strcmp(w[0], "verify") == 0)
		return verify(store, n == 2 ? w[1] : NULL, err);
	for (size_t i = 0; n == 2 && i < ARRAY_SIZE(actions); i++)
		if (strcmp(w[0], actions[i].name) == 0)
			return with_id(store, w[1], actions[i].fn, err);
	return verb_complain(&layer_verb, "'%s'%s is none of its forms", w[0], n == 2 ? " with an ID" : " alone");
}

int cmd_layer(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct layer_options options = {.state = NULL};
	char **words;
	int code;
	if (!verb_parse(&layer_verb, &options, argc, argv, &words, &code))
		return code;
	_cleanup_(store_cleanup) struct store *store = NULL;
	int r = store_open(state_dir(options.state), &store, &err);
	if (r == 0)
		r = layer_words(store, words, &err);
	if (r == 0 && (fflush(stdout) != 0 || ferror(stdout)))
		r = err_set(&err, errno, "write to standard output");
	if (r < 0) {
		log_error("%s", err_msg(&err));
		return 1;
	}
	return r;
}
