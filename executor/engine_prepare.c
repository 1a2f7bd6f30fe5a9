/*
 * From a job to what the pool needs: image and layers to a plan, policy name to an index, files to packs and fds,
 * argv and env to one run of strings. Every refusal names the job's field. Worker, unprivileged.
 */
#include "executor/engine_internal.h"
#include "executor/unenforced.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/pack.h"
#include "base/sys.h"
#include "executor/limits.h"
#include "policies/policy.h"

#define IMAGE_TRIES 3

/* ---- the policy ---- */
static int send_policy(struct engine *engine, uint32_t index, const struct policy_program *program, struct err *err)
{
	_cleanup_close_ int fd =
		fd_sealed_memfd("petri-policy", program->insns, program->len * sizeof(program->insns[0]));
	if (fd < 0)
		return err_set(err, fd, "make a policy memfd");
	struct wire_msg msg = {.type = WIRE_POLICY,
		.policy = {.index = index, .len = (uint32_t)program->len, .listener = program->notifies, .early = program->allows_launch, .sockets = program->allows_sockets}};
	int r = fd_send(engine->config.nursery, &msg, sizeof(msg), &fd, 1);
	return r < 0 ? err_set(err, r, "send a policy to petri-nursery") : 0;
}

static int use_policy(struct engine *engine, const char *name, struct policy_entry **ret, struct err *err)
{
	for (size_t i = 0; i < engine->npolicies; i++) {
		if (strcmp(engine->policies[i].name, name) == 0) {
			*ret = &engine->policies[i];
			return 0;
		}
	}
	if (engine->npolicies == POOL_POLICIES_MAX)
		return err_say(err, ENOSPC, "more than %d policies are in use", POOL_POLICIES_MAX);
	struct policy *policy;
	int r = policy_load(name, engine->config.policy_dirs, &policy, err);
	if (r < 0)
		return r;
	struct policy_program program = {0};
	r = policy_compile(policy, &program, err);
	policy_free(policy);
	if (r < 0)
		return r;
	struct policy_entry *entry = &engine->policies[engine->npolicies];
	*entry = (struct policy_entry){.name = strdup(name), .index = (uint32_t)engine->npolicies, .sockets = program.allows_sockets, .early = program.allows_launch};
	r = entry->name ? send_policy(engine, entry->index, &program, err) : err_set(err, ENOMEM, "policy");
	policy_program_free(&program);
	if (r < 0) {
		free(entry->name);
		return r;
	}
	engine->npolicies++;
	*ret = entry;
	return 0;
}

/* Return: as run_prepare(). */
/* What looked like the job's fault (condition, as reject_set() returns it), unless it was the host's: then r, with the true reason. */
static int refused(int condition, struct reject *why, int r, const struct err *err)
{
	if (!engine_hosts_need(r))
		return condition;
	(void)snprintf(why->message, sizeof(why->message), "%s", err_msg(err));
	return r;
}

static int plan_policy(struct engine *engine, const struct job *job, struct wire_plan *plan, struct reject *why)
{
	struct err err = ERR_INIT;
	struct policy_entry *entry = NULL;
	int r = use_policy(engine, job->policy ? job->policy : "judge", &entry, &err);
	if (r < 0)
		return refused(reject_set(why, "policy", r == -ENOENT ? REJECT_MISSING : REJECT_INVALID, "%s", err_msg(&err)), why, r, &err);
	plan->policy = entry->index;
	if (job->network == JOB_NETWORK_LOOPBACK)
		plan->network = POOL_NET_LOOPBACK;
	else
		plan->network = entry->sockets ? POOL_NET_PRIVATE : POOL_NET_SHARED;
	return 0;
}

/* ---- image and layers ---- */
/* The one that has not been used for longest makes room. */
static struct known_image *image_place(struct engine *engine, const char *name)
{
	struct known_image *oldest = &engine->images[0];
	for (size_t i = 0; i < IMAGES_MAX; i++) {
		struct known_image *known = &engine->images[i];
		if (strcmp(known->image.name, name) == 0)
			return known;
		if (known->used < oldest->used)
			oldest = known;
	}
	return oldest;
}

/* Images change rarely, and parsing one is a good part of what a small job costs here. *ret is good until the next call. */
static int find_image(struct engine *engine, const char *name, const struct image **ret, struct err *err)
{
	struct image_identity identity;
	int r = image_identify(engine->config.store, name, &identity, err);
	if (r < 0)
		return r;
	struct known_image *known = image_place(engine, name);
	const struct image_identity *had = &known->identity;
	if (strcmp(known->image.name, name) != 0 || had->inode != identity.inode || had->size != identity.size ||
		had->changed.tv_sec != identity.changed.tv_sec || had->changed.tv_nsec != identity.changed.tv_nsec) {
		image_clear(&known->image);
		memset(known, 0, sizeof(*known));
		r = image_load(engine->config.store, name, &known->image, err);
		if (r < 0)
			return r;
		known->identity = identity;
	}
	known->used = now_us();
	*ret = &known->image;
	return 0;
}

void images_forget(struct engine *engine)
{
	for (size_t i = 0; i < IMAGES_MAX; i++)
		image_clear(&engine->images[i].image);
}

static int hold_image(struct engine *engine, const struct image *image, struct held *held, struct err *err)
{
	for (size_t i = 0; i < image->nlayers; i++) {
		int r = held_add(engine, held, image->layers[i], err);
		if (r < 0) {
			held_clear(engine, held);
			return r;
		}
	}
	return 0;
}

/* @held: empty; gets the image's layers. */
static int plan_image(struct engine *engine, const char *name, struct wire_plan *plan, struct held *held,
	const struct image **ret, struct reject *why)
{
	struct err err = ERR_INIT;
	int r = 0;
	/* Imported anew, and its old layers removed, between the reading of its description and the holding of them. */
	for (int tries = 0; tries < IMAGE_TRIES; tries++) {
		r = find_image(engine, name, ret, &err);
		if (r == -ENOENT)
			return reject_set(why, "image", REJECT_MISSING, "there is no image '%.100s' here", name);
		if (r < 0)
			return refused(reject_set(why, "image", REJECT_INVALID, "%s", err_msg(&err)), why, r, &err);
		r = hold_image(engine, *ret, held, &err);
		if (r != -ENOENT)
			break;
	}
	if (r < 0)
		return refused(reject_set(why, "image", r == -ENOENT || r == -EBUSY ? REJECT_MISSING : REJECT_INVALID, "the image '%.100s': %s",
				       name, err_msg(&err)),
			why, r, &err);
	const struct image *image = *ret;
	memcpy(plan->layers, image->layers, sizeof(image->layers[0]) * image->nlayers);
	plan->nlayers = (uint32_t)image->nlayers;
	plan->host_usr = image->host_usr;
	return 0;
}

/* A small committed layer is delivered as files into a slot that was warmed for the image; any other is stamped. */
static int plan_layer(struct engine *engine, struct run *run, const struct job *job, size_t i, struct reject *why)
{
	struct err err = ERR_INIT;
	struct layer_info info;
	char field[32], text[ID128_TEXT_MAX];
	(void)snprintf(field, sizeof(field), "layers[%zu]", i);
	format_id128(job->layers[i], text);
	int r = layer_load(engine->config.store, job->layers[i], &info, &err);
	if (r < 0)
		return refused(reject_set(why, field, r == -ENOENT ? REJECT_MISSING : REJECT_INVALID, "there is no layer %s here", text), why, r, &err);
	bool deliver = info.has_pack && !run->ej->stamp_layers && info.bytes <= job->limits.disk_bytes;
	if (deliver && run->npacks < ARRAY_SIZE(run->packs) - 1) {
		int fd = layer_open_pack(engine->config.store, job->layers[i], &err);
		if (fd >= 0) {
			run->packs[run->npacks++] = fd;
			return 0;
		}
	}
	/* Delivered files lie above every stamped layer, so none may be stamped over them. */
	if (run->npacks > 0)
		return 2;
	if (run->plan.nlayers == POOL_LAYERS_MAX - 1)
		return reject_set(why, field, REJECT_TOO_LARGE, "image and layers together are more than %d", POOL_LAYERS_MAX - 1);
	memcpy(run->plan.layers[run->plan.nlayers++], info.id, 16);
	return 0;
}

/* All of them, whichever way each is going to be used. */
static int hold_layers(struct engine *engine, struct run *run, const struct job *job, struct reject *why)
{
	struct err err = ERR_INIT;
	char field[32];
	for (size_t i = 0; i < job->nlayers; i++) {
		int r = held_add(engine, &run->held, job->layers[i], &err);
		(void)snprintf(field, sizeof(field), "layers[%zu]", i);
		if (r < 0)
			return refused(reject_set(why, field, r == -ENOENT || r == -EBUSY ? REJECT_MISSING : REJECT_INVALID, "%s", err_msg(&err)), why, r, &err);
	}
	return 0;
}

static int plan_layers(struct engine *engine, struct run *run, const struct job *job, struct reject *why)
{
	uint32_t base = run->plan.nlayers;
	run->image_layers = base;
	int r = hold_layers(engine, run, job, why);
	for (size_t i = 0; r == 0 && i < job->nlayers; i++) {
		r = plan_layer(engine, run, job, i, why);
		if (r == 2) { /* a big layer above a small one: stamp them all */
			fd_close_many(run->packs, run->npacks);
			run->npacks = 0;
			run->plan.nlayers = base;
			for (size_t k = 0; k < job->nlayers; k++) {
				if (run->plan.nlayers == POOL_LAYERS_MAX - 1)
					return reject_set(why, "layers", REJECT_TOO_LARGE, "too many layers");
				memcpy(run->plan.layers[run->plan.nlayers++], job->layers[k], 16);
			}
			return 0;
		}
	}
	return r;
}

/* ---- files ---- */
static int open_blob(struct engine *engine, const uint8_t id[16], const char *field, uint64_t max, int *ret,
	struct reject *why)
{
	struct err err = ERR_INIT;
	char text[ID128_TEXT_MAX];
	uint64_t bytes = 0;
	format_id128(id, text);
	int fd = blob_open(engine->config.store, id, &bytes, &err);
	if (fd < 0)
		return refused(reject_set(why, field, fd == -ENOENT ? REJECT_MISSING : REJECT_INVALID, "there is no blob %s here", text), why, fd, &err);
	if (bytes > max) {
		(void)close(fd);
		return reject_set(why, field, REJECT_TOO_LARGE, "blob %s has %llu bytes, more than disk_bytes", text,
			(unsigned long long)bytes);
	}
	*ret = fd;
	return 0;
}

static int pack_entry_add(int pack, const struct job_file *file, uint32_t blob, uint64_t max)
{
	size_t path_len = strlen(file->path);
	struct pack_entry entry = {.type = PACK_FILE, .mode = file->mode, .path_len = (uint16_t)path_len};
	if (file->source.kind == JOB_SOURCE_BLOB) {
		entry.source = PACK_FD;
		entry.fd = blob;
		entry.size = max;
	} else {
		entry.source = PACK_INLINE;
		entry.size = file->source.len;
	}
	int r = fd_write_all(pack, &entry, sizeof(entry));
	if (r == 0)
		r = fd_write_all(pack, file->path, path_len);
	if (r == 0 && entry.source == PACK_INLINE && file->source.len > 0)
		r = fd_write_all(pack, file->source.data, file->source.len);
	return r;
}

static int pack_files(struct engine *engine, struct run *run, const struct job *job, struct reject *why, struct err *err)
{
	if (job->nfiles == 0)
		return 0;
	_cleanup_close_ int pack = memfd_create("petri-files", MFD_CLOEXEC);
	if (pack < 0)
		return err_set(err, errno, "make a memfd for the job's files");
	int r = fd_write_all(pack, PACK_MAGIC, PACK_MAGIC_LEN);
	for (size_t i = 0; r == 0 && i < job->nfiles; i++) {
		const struct job_file *file = &job->files[i];
		uint32_t blob = (uint32_t)run->nblobs;
		if (file->source.kind == JOB_SOURCE_BLOB) {
			char field[192];
			(void)snprintf(field, sizeof(field), "files.%.180s", file->path);
			if (run->nblobs == JOB_BLOBS_MAX)
				return reject_set(why, "files", REJECT_TOO_LARGE, "more than %d blobs", JOB_BLOBS_MAX);
			r = open_blob(engine, file->source.blob, field, job->limits.disk_bytes, &run->blobs[run->nblobs], why);
			if (r != 0)
				return r;
			run->nblobs++;
		}
		r = pack_entry_add(pack, file, blob, job->limits.disk_bytes);
	}
	struct pack_entry end = {.type = PACK_END};
	if (r == 0)
		r = fd_write_all(pack, &end, sizeof(end));
	if (r < 0)
		return err_set(err, r, "pack the job's files");
	run->packs[run->npacks++] = TAKE_FD(pack);
	return 0;
}

/* ---- strings ---- */
static int make_strings(struct run *run, const struct job *job, const struct image *image, struct reject *why)
{
	const struct command *c = &run->command;
	int r = command_make(&run->command, job, image);
	if (r == -ENOENT)
		return reject_set(why, "argv", REJECT_INVALID, "there is no argv, and the image has no command of its own");
	if (r < 0)
		return reject_set(why, "argv", REJECT_TOO_LARGE, "argv and env are more than %u bytes", DISPATCH_STRINGS_MAX);
	if (c->argc + c->envc > DISPATCH_WORDS_MAX)
		return reject_set(why, c->envc > c->argc ? "env" : "argv", REJECT_TOO_LARGE,
			"argv and env have %u strings; the most is %u", c->argc + c->envc, DISPATCH_WORDS_MAX);
	return 0;
}

/* ---- limits ---- */
/* cgroup v1 cannot count network buffers as memory: they get a limit of their own beside it, the part of it that is one in so many. */
#define SOCKETS_SHARE 8

/* Return: whether the operator lets the job run without it; then it does. */
static bool go_without(const struct engine *engine, struct run *run, const char *name)
{
	struct result *result = &run->ej->result;
	if (!unenforced_allows(engine->config.allow_unenforced, name) || result->nunenforced == ARRAY_SIZE(result->unenforced))
		return false;
	unenforced_clear(&run->limits, name);
	result->unenforced[result->nunenforced++] = name;
	return true;
}

static int check_limits(struct engine *engine, struct run *run, const struct job *job, struct reject *why)
{
	const struct job_limits *l = &job->limits;
	struct leaf_limits *out = &run->limits;
	*out = (struct leaf_limits){.memory_bytes = l->memory_bytes, .swap_bytes = l->swap_bytes, .pids = l->pids, .io = {l->io.rbps, l->io.wbps, l->io.riops, l->io.wiops}};
	/* As many CPUs as there are need no quota. */
	out->cpus_milli = l->cpus_milli >= engine->ncpus * 1000ull ? 0 : l->cpus_milli;
	(void)snprintf(out->cpuset, sizeof(out->cpuset), "%s", l->cpuset);
	run->plan.disk_bytes = l->disk_bytes;
	run->plan.disk_inodes = l->disk_inodes;
	const char *needs = "";
	const struct leaf *leaf = NULL;
	for (unsigned i = 0; i < engine->nseats && !leaf; i++)
		if (engine->seats[i].leaf.fd[KNOB_KILL] >= 0)
			leaf = &engine->seats[i].leaf;
	run->ej->result.nunenforced = 0;
	size_t at = 0;
	for (const char *name; leaf && (name = leaf_supports(leaf, &engine->host, out, &at, &needs));) {
		char field[64];
		if (go_without(engine, run, name))
			continue;
		(void)snprintf(field, sizeof(field), "limits.%s", name);
		return reject_set(why, field, REJECT_UNSUPPORTED, "unsupported: %s needs %s", name, needs);
	}
	unsigned highest = 0;
	struct err err = ERR_INIT;
	if (l->cpuset[0] && (parse_cpu_list(l->cpuset, &highest, &err) < 0 || highest >= engine->ncpus))
		return reject_set(why, "limits.cpuset", REJECT_INVALID, "this machine has CPUs 0 to %u", engine->ncpus - 1);
	/* cgroup v2 takes any CPU, and where the groups above have none of these it gives the job theirs. */
	if (out->cpuset[0] && CPU_COUNT(&engine->config.cpus) > 0 && !limits_cpuset_within(out->cpuset, &engine->config.cpus) && !go_without(engine, run, "cpuset"))
		return reject_set(why, "limits.cpuset", REJECT_UNSUPPORTED, "unsupported: cpuset needs CPUs that petri itself may use");
	return 0;
}

/* Where the image lies decides whether the I/O that its use causes can be limited. */
static int check_io(struct engine *engine, struct run *run, struct reject *why)
{
	const struct wire_host *host = &engine->host;
	const struct {
		uint64_t limit;
		const char *field;
	} limits[] = {{run->limits.io.rbps, "limits.io.rbps"}, {run->limits.io.wbps, "limits.io.wbps"},
		{run->limits.io.riops, "limits.io.riops"}, {run->limits.io.wiops, "limits.io.wiops"}};
	for (size_t i = 0; engine->hello && i < ARRAY_SIZE(limits); i++) {
		if (limits[i].limit == 0 || (host->store_io && (host->usr_io || !run->plan.host_usr)))
			continue;
		const char *name = limits[i].field + strlen("limits.");
		if (go_without(engine, run, name))
			continue;
		return reject_set(why, limits[i].field, REJECT_UNSUPPORTED, "unsupported: %s needs %s on a block device",
			name, host->store_io ? "/usr (the image host)" : "the store");
	}
	return 0;
}

/* Whatever stands against it, the job runs without one. */
static void choose_runtime(struct engine *engine, struct run *run, const struct job *job, const struct image *image)
{
	if (run->ej->run_cold || !engine->policies[run->plan.policy].early)
		return;
	struct runtime *runtime = engine_runtime(engine, image);
	if (runtime && runtime_serves(runtime, job, &run->command, &engine->usual) &&
		runtime_job_json(job, &run->command, &run->job_json, &run->job_json_len) == 0)
		run->runtime = runtime;
}

int run_prepare(struct engine *engine, struct engine_job *ej, struct run *run, struct reject *reject, struct err *err)
{
	const struct job *job = &ej->job;
	const struct image *image = NULL;
	run->engine = engine;
	run->ej = ej;
	run->cause = STATUS_MAX;
	run->open_sock = run->stdin_blob = -1;
	int r = check_limits(engine, run, job, reject);
	if (r == 0)
		r = plan_policy(engine, job, &run->plan, reject);
	if (r == 0 && run->plan.network != POOL_NET_SHARED)
		run->limits.sockets_bytes = job->limits.memory_bytes / SOCKETS_SHARE;
	if (r == 0)
		r = plan_image(engine, job->image ? job->image : "host", &run->plan, &run->held, &image, reject);
	if (r == 0)
		r = check_io(engine, run, reject);
	if (r == 0)
		r = plan_layers(engine, run, job, reject);
	if (r == 0)
		r = pack_files(engine, run, job, reject, err);
	if (r == 0 && job->stdin_source.kind == JOB_SOURCE_BLOB)
		r = open_blob(engine, job->stdin_source.blob, "stdin", UINT64_MAX, &run->stdin_blob, reject);
	if (r == 0)
		r = make_strings(run, job, image, reject);
	if (r == 0)
		choose_runtime(engine, run, job, image);
	if (r < 0 && reject->message[0])
		(void)err_say(err, r, "%s", reject->message);
	return r;
}

int plan_for_image(struct engine *engine, const char *name, const char *policy, struct wire_plan *plan, struct held *held,
	struct runtime **ret_runtime, struct err *err)
{
	struct job job;
	struct reject why = {0};
	const struct image *image = NULL;
	job_init(&job);
	*plan = (struct wire_plan){.disk_bytes = job.limits.disk_bytes, .disk_inodes = job.limits.disk_inodes};
	free(job.policy);
	job.policy = strdup(policy);
	int r = plan_policy(engine, &job, plan, &why);
	if (r == 0)
		r = plan_image(engine, name, plan, held, &image, &why);
	*ret_runtime = r == 0 && image && engine->policies[plan->policy].early ? engine_runtime(engine, image) : NULL;
	job_clear(&job);
	return r != 0 ? err_say(err, ENOENT, "%s", why.message) : 0;
}

void run_free(struct run *run)
{
	held_clear(run->engine, &run->held);
	fd_close_many(run->packs, run->npacks);
	fd_close_many(run->blobs, run->nblobs);
	if (run->stdin_blob > 0)
		cleanup_close(&run->stdin_blob);
	command_clear(&run->command);
	free(run->job_json);
	free(run);
}
