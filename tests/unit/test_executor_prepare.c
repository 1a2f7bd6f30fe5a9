/* What becomes of a job when the host cannot open what it names. */
#include "test_layers_util.h"

#include <sys/resource.h>

#include "executor/engine_internal.h"

static struct fixture f;
static struct engine engine;
static struct engine_job ej;
static struct policy_entry judge = {.name = (char *)"judge"};

static struct layer_info make_layer(const char *text)
{
	struct err err = ERR_INIT;
	struct layer_info info = {.held = 0};
	int fd = TAR({"f", '0', .data = text, .mode = 0644});
	cr_assert_eq(layer_import_tar(f.store, fd, &info, &err), 0, "%s", err_msg(&err));
	close(fd);
	layer_info_release(&info);
	return info;
}

static void set_up(void)
{
	struct err err = ERR_INIT;
	struct image image = {.nlayers = 0};
	char path[80];
	fixture_open(&f, true);
	snprintf(path, sizeof(path), "%s/image.tar", f.dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), tar = TAR({"g", '0', .data = "image", .mode = 0644});
	char buf[8192];
	ssize_t n = fd_read_all(tar, buf, sizeof(buf));
	cr_assert(fd >= 0 && n > 0 && fd_write_all(fd, buf, (size_t)n) == 0);
	close(fd);
	close(tar);
	cr_assert_eq(image_import(f.store, "image", path, &image, &err), 0, "%s", err_msg(&err));
	image_clear(&image);
	engine = (struct engine){.config = {.store = f.store, .nursery = -1}, .ncpus = 1, .npolicies = 1, .policies = {judge}};
	cr_assert_eq(layer_uses_new(f.store, &engine.uses, &err), 0);
	ej = (struct engine_job){.stdin_fd = -1};
	job_init(&ej.job);
	free(ej.job.image);
	ej.job.image = strdup("image");
	ej.job.argv = calloc(2, sizeof(*ej.job.argv));
	ej.job.argv[0] = strdup("/bin/true");
	memcpy(ej.job.layers[ej.job.nlayers++], make_layer("layer").id, 16);
}

static void tear_down(void)
{
	job_clear(&ej.job);
	images_forget(&engine);
	layer_uses_free(engine.uses);
	fixture_close(&f);
}

TestSuite(prepare, .init = set_up, .fini = tear_down, .timeout = 60);

static struct run *prepare(int *ret, struct reject *why)
{
	struct err err = ERR_INIT;
	struct run *run = calloc(1, sizeof(*run));
	*why = (struct reject){0};
	*ret = run_prepare(&engine, &ej, run, why, &err);
	return run;
}

/* So many more files can be opened, and no more. */
static void leave_files(int n)
{
	int next = dup(0);
	struct rlimit files = {.rlim_cur = (rlim_t)(next + n), .rlim_max = 4096};
	close(next);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
}

/*
 * However many files can still be opened: the job has all of its layers, or is not run, and that is not told as its fault. With the failures of
 * plan_layer() dropped: "with 2 files: prepared with 0 of its layers"; with those of hold_layers() told as a refusal: "with 1 files: refused for its layers[0]".
 */
Test(prepare, without_files_a_job_is_not_run_without_its_layers)
{
	struct reject why;
	int r = -1;
	for (int held = 0; held < 2; held++, r = -1) {
		for (int n = 0; n < 16 && r != 0; n++) {
			struct held layer = {.n = 0};
			if (held) /* by another job */
				cr_assert_eq(held_add(&engine, &layer, ej.job.layers[0], NULL), 0);
			leave_files(n);
			struct run *run = prepare(&r, &why);
			leave_files(64);
			cr_assert_leq(r, 0, "with %d files: refused for its %s", n, why.field);
			cr_assert(r < 0 || run->npacks + (run->plan.nlayers - run->image_layers) == 1, "with %d files: prepared with 0 of its layers", n);
			run_free(run);
			held_clear(&engine, &layer);
			if (n == 8)
				images_forget(&engine);
		}
		cr_assert_eq(r, 0);
	}
}

/* On cgroup v2 such a job would get other CPUs than it asked for. Without the check in check_limits(): "it is taken". */
Test(prepare, cpus_that_petri_may_not_use)
{
	struct reject why;
	int r;
	engine.ncpus = 4;
	CPU_SET(0, &engine.config.cpus);
	CPU_SET(2, &engine.config.cpus);
	(void)snprintf(ej.job.limits.cpuset, sizeof(ej.job.limits.cpuset), "0-2");
	run_free(prepare(&r, &why));
	cr_assert_eq(r, 1, "it is taken");
	cr_assert_str_eq(why.field, "limits.cpuset");
	cr_assert_eq(why.reason, REJECT_UNSUPPORTED);
	(void)snprintf(ej.job.limits.cpuset, sizeof(ej.job.limits.cpuset), "0,2");
	run_free(prepare(&r, &why));
	cr_assert(r == 0 || strcmp(why.field, "limits.cpuset") != 0, "%s", why.message);
	engine.config.allow_unenforced = "cpuset";
	(void)snprintf(ej.job.limits.cpuset, sizeof(ej.job.limits.cpuset), "1");
	struct run *run = prepare(&r, &why);
	cr_assert(r == 0 || strcmp(why.field, "limits.cpuset") != 0, "%s", why.message);
	cr_assert_str_eq(run->limits.cpuset, "");
	cr_assert_eq(ej.result.nunenforced, 1);
	run_free(run);
}
