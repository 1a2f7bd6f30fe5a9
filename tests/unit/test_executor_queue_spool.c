/* The queue against a real redis-server: results that wait outlive the worker that has them. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "executor/spool.h"
#include "executor_queue.h"

static char kept[64];

static void set_up_spool(void)
{
	set_up();
	(void)snprintf(kept, sizeof(kept), "%s/kept", dir);
	cr_assert_eq(mkdir(kept, 0700), 0);
}

TestSuite(queue_spool, .init = set_up_spool, .fini = tear_down, .timeout = 100);

static void start_kept(struct worker *w, const char *name)
{
	struct queue_config config = settings(name, 30000);
	config.slots = w->slots;
	config.spool = open(kept, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_gt(config.spool, 0);
	start_config(w, config);
}

static unsigned files(const char *ending)
{
	DIR *d = opendir(kept);
	unsigned n = 0;
	for (struct dirent *e; (e = readdir(d));) {
		const char *dot = strrchr(e->d_name, '.');
		n += e->d_name[0] != '.' && strcmp(dot ? dot : "", ending) == 0;
	}
	closedir(d);
	return n;
}

static void only_file(char *path, size_t cap)
{
	DIR *d = opendir(kept);
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			(void)snprintf(path, cap, "%s/%.200s", kept, e->d_name);
	closedir(d);
}

/* Killed while Redis is away: the next life delivers, nothing runs twice, and nothing is left in the directory. */
Test(queue_spool, a_killed_worker_loses_no_result)
{
	enum { N = 20 };
	struct worker w = {.slots = N, .by_hand = true}, next = {.slots = N};
	start_kept(&w, "w1");
	for (int i = 0; i < N; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "r%d", i);
		add(i % 2 ? "petri:jobs" : "petri:jobs:low", id);
	}
	UNTIL(w.njobs == N);
	kill_server();
	for (int i = 0; i < N; i++)
		finish(&w, w.held[i], w.ids[i]);
	UNTIL(stats(&w).spooled == N);
	queue_free(w.queue);
	cr_assert_geq(files(""), 1);
	start_kept(&next, "w1"); /* and once more before Redis is there again */
	cr_assert_eq(stats(&next).undelivered, N);
	run_for(300);
	queue_free(next.queue);
	start_server("always");
	add("petri:jobs", "new");
	start_kept(&next, "w1");
	UNTIL(stats(&next).undelivered == 0 && next.nfinished == 1);
	cr_assert_eq(next.njobs, 1); /* the new one */
	for (int i = 0; i < N; i++) {
		cr_assert_not_null(strstr(redis("GET petri:result:r%d", i)->str, "\"attempt\":1"));
		cr_assert_eq(redis("LLEN petri:done:r%d", i)->integer, 1);
	}
	cr_assert_eq(redis("XLEN petri:results:front")->integer, N + 1);
	cr_assert_eq(redis("XLEN petri:jobs")->integer + redis("XLEN petri:jobs:low")->integer, 0);
	cr_assert_eq(pending("petri:jobs") + pending("petri:jobs:low"), 0);
	cr_assert_eq(redis("EXISTS petri:state:r0")->integer, 0);
	cr_assert_eq(files(""), 0);
	cr_assert_eq(files(".new"), 0);
	queue_free(next.queue);
}

/* Redis is there and does not answer. */
Test(queue_spool, an_answer_that_does_not_come)
{
	struct worker w = {.slots = 1, .by_hand = true}, next = {.slots = 1};
	start_kept(&w, "w1");
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	run_for(50);
	cr_assert_eq(kill(server, SIGSTOP), 0);
	finish(&w, w.held[0], "a");
	uint64_t begun = now_us();
	for (unsigned n = 0; n == 0; n = files("")) {
		cr_assert_lt(now_us() - begun, 5000000);
		step(loop, 5);
	}
	queue_free(w.queue);
	cr_assert_eq(kill(server, SIGCONT), 0);
	start_kept(&next, "w1");
	UNTIL(stats(&next).undelivered == 0);
	cr_assert_eq(redis("XLEN petri:results:front")->integer, 1);
	cr_assert_eq(next.njobs, 0);
	queue_free(next.queue);
}

/* What arrives at once is never written. */
Test(queue_spool, a_healthy_queue_writes_nothing)
{
	struct worker w = {.slots = 4};
	start_kept(&w, "w1");
	struct stat before, after;
	cr_assert_eq(stat(kept, &before), 0);
	for (unsigned i = 0; i < 50; i++)
		add("petri:jobs", NULL);
	UNTIL(w.nfinished == 50);
	run_for(300);
	cr_assert_eq(stat(kept, &after), 0);
	cr_assert(before.st_mtim.tv_sec == after.st_mtim.tv_sec && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
	queue_free(w.queue);
}

/* The disk is full (a limit on file sizes stands for it): results wait in memory, and arrive. */
Test(queue_spool, a_full_disk)
{
	struct worker w = {.slots = 2, .by_hand = true};
	struct rlimit none = {0, RLIM_INFINITY};
	start_kept(&w, "w1");
	add("petri:jobs", "a");
	add("petri:jobs", "b");
	UNTIL(w.njobs == 2);
	kill_server();
	(void)signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
	finish(&w, w.held[0], w.ids[0]);
	finish(&w, w.held[1], w.ids[1]);
	run_for(500);
	cr_assert_eq(stats(&w).undelivered, 2);
	cr_assert_eq(stats(&w).spooled, 0);
	cr_assert_eq(files("") + files(".new"), 0);
	none.rlim_cur = RLIM_INFINITY;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
	UNTIL(stats(&w).spooled == 2); /* there is room again */
	start_server("always");
	UNTIL(w.nfinished == 2);
	cr_assert_eq(files(""), 0);
	queue_free(w.queue);
}

/* Cut off or changed anywhere: left aside, and the job runs again when its lease is over. */
Test(queue_spool, torn_files)
{
	struct worker w = {.slots = 1, .by_hand = true};
	start_kept(&w, "w1");
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	kill_server();
	finish(&w, w.held[0], "a");
	UNTIL(stats(&w).spooled == 1);
	queue_free(w.queue);
	char path[300], data[4096];
	only_file(path, sizeof(path));
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, data, sizeof(data));
	close(fd);
	cr_assert(n > 100 && n < (ssize_t)sizeof(data));
	log_set_level(LOG_LEVEL_MAX);
	for (ssize_t i = 0; i < 2 * n; i++) {
		char changed[4096];
		memcpy(changed, data, (size_t)n);
		if (i >= n)
			changed[i - n] ^= 1;
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		cr_assert_eq(write(fd, changed, i < n ? (size_t)i : (size_t)n), i < n ? i : n);
		close(fd);
		struct worker next = {.slots = 1};
		start_kept(&next, "w1");
		cr_assert_eq(stats(&next).undelivered, 0, "byte %zd", i);
		cr_assert_eq(files(""), 0);
		cr_assert_eq(files(".torn"), 1);
		queue_free(next.queue);
	}
}

/* Another prefix is another queue: not delivered there, and not lost. */
Test(queue_spool, another_prefix)
{
	struct worker w = {.slots = 1, .by_hand = true}, other = {.slots = 1}, next = {.slots = 1};
	start_kept(&w, "w1");
	add("petri:jobs", "a");
	UNTIL(w.njobs == 1);
	kill_server();
	finish(&w, w.held[0], "a");
	UNTIL(stats(&w).spooled == 1);
	queue_free(w.queue);
	start_server("always");
	struct queue_config config = settings("w1", 30000);
	config.prefix = "other";
	config.spool = open(kept, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	start_config(&other, config);
	UNTIL(stats(&other).connected);
	cr_assert_eq(stats(&other).undelivered, 0);
	queue_free(other.queue);
	cr_assert_eq(redis("EXISTS petri:result:a other:result:a")->integer, 0);
	start_kept(&next, "w1");
	UNTIL(redis("EXISTS petri:result:a")->integer == 1);
	queue_free(next.queue);
}

/* So old that its result may have been read and forgotten: written only if the entry is there still. */
Test(queue_spool, an_old_result)
{
	for (int gone = 0; gone < 2; gone++) {
		struct worker w = {.slots = 1, .by_hand = true}, next = {.slots = 1};
		const char *id = gone ? "gone" : "there";
		start_kept(&w, "w1");
		add("petri:jobs", id);
		UNTIL(w.njobs == 1);
		run_for(100);
		cr_assert_eq(kill(server, SIGSTOP), 0);
		finish(&w, w.held[0], id);
		uint64_t begun = now_us();
		while (!files("") && now_us() - begun < 5000000)
			step(loop, 5);
		queue_free(w.queue);
		cr_assert_eq(kill(server, SIGKILL), 0);
		cr_assert_eq(waitpid(server, NULL, 0), server);
		start_server("always");
		redis("DEL petri:result:%s", id);
		if (gone)
			redis("XTRIM petri:jobs MAXLEN 0");
		struct queue_config config = settings("w1", 30000);
		config.result_ttl_ms = 1000;
		config.spool = open(kept, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		run_for(1200);
		start_config(&next, config);
		UNTIL(stats(&next).connected && stats(&next).undelivered == 0);
		cr_assert_eq(redis("EXISTS petri:result:%s", id)->integer, !gone);
		queue_free(next.queue);
	}
}

/* As many as a large worker can hold back, delivered within a second of Redis' return. */
Test(queue_spool, many_large_results)
{
	enum { N = 400,
		SIZE = 64 << 10 };
	struct worker w = {.slots = N, .by_hand = true};
	char *json = malloc(SIZE + 100);
	cr_assert_not_null(json);
	start_kept(&w, "w1");
	for (int i = 0; i < N; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "r%d", i);
		add("petri:jobs", id);
	}
	UNTIL(w.njobs == N);
	kill_server();
	memset(json, 'x', SIZE);
	for (int i = 0; i < N; i++) {
		(void)snprintf(json + SIZE, 100, "%s", w.ids[i]);
		w.out--;
		queue_finish(w.queue, w.held[i], w.ids[i], json, NULL, "exited", NULL);
	}
	UNTIL(stats(&w).spooled == N);
	run_for(2500); /* the backoff has grown */
	start_server("always");
	uint64_t begun = now_us();
	UNTIL(w.nfinished == N);
	cr_log_info("%d results of %d KiB in %lu ms", N, SIZE >> 10, (unsigned long)((now_us() - begun) / 1000));
	for (int i = 0; i < N; i++)
		cr_assert_eq(redis("STRLEN petri:result:r%d", i)->integer, (long long)(SIZE + strlen(w.ids[i])));
	cr_assert_eq(files(""), 0);
	free(json);
	queue_free(w.queue);
}

/* Redis refuses writes for a while: one probe at a time, not all of them again and again. */
Test(queue_spool, probes_are_single)
{
	enum { N = 50 };
	struct worker w = {.slots = N, .by_hand = true};
	start_kept(&w, "w1");
	for (int i = 0; i < N; i++)
		add("petri:jobs", NULL);
	UNTIL(w.njobs == N);
	run_for(300);
	redis("CONFIG RESETSTAT");
	redis("ACL SETUSER default -xack");
	redis("ACL SETUSER default -evalsha -eval");
	for (int i = 0; i < N; i++)
		finish(&w, w.held[i], w.ids[i]);
	UNTIL(stats(&w).spooled == N);
	run_for(2000);
	const char *text = strstr(redis("INFO commandstats")->str, "cmdstat_evalsha:");
	const char *rejected = text ? strstr(text, "rejected_calls=") : NULL;
	cr_assert_not_null(rejected);
	cr_assert_lt(strtol(rejected + 15, NULL, 10), 4 * N);
	redis("ACL SETUSER default +xack +evalsha +eval");
	UNTIL(w.nfinished == N);
	queue_free(w.queue);
}

/* ---- the spool alone ---- */

static int told;
static void on_told(void *data, int error)
{
	told = error ? error : 1;
}

Test(queue_spool, its_size_is_bounded)
{
	struct spool *spool;
	char data[100] = "";
	cr_assert_eq(spool_open(loop, open(kept, O_RDONLY | O_DIRECTORY), 1000, &spool, NULL), 0);
	struct spool_batch *batch = spool_begin(spool), *second = spool_begin(spool);
	for (int i = 0; i < 9; i++)
		cr_assert_eq(spool_add(batch, data, sizeof(data)), 0);
	cr_assert_eq(spool_add(batch, data, sizeof(data)), -ENOSPC);
	spool_commit(batch, on_told, NULL);
	UNTIL(told == 1);
	cr_assert_eq(spool_add(second, data, sizeof(data)), -ENOSPC);
	for (int i = 0; i < 9; i++) {
		cr_assert_eq(files(""), 1);
		spool_done(batch);
	}
	cr_assert_eq(files(""), 0);
	cr_assert_eq(spool_add(second, data, sizeof(data)), 0);
	spool_drop(second);
	spool_free(spool);
}

Test(queue_spool, a_directory_has_one_owner)
{
	struct err err = ERR_INIT;
	int state = open(dir, O_RDONLY | O_DIRECTORY);
	int first = spool_make_dir(state, "..", getuid(), &err);
	cr_assert_gt(first, 0, "%s", err_msg(&err));
	cr_assert_eq(spool_make_dir(state, "..", getuid(), &err), -EBUSY);
	cr_assert_eq(spool_make_dir(state, "a/b", getuid(), &err), -EINVAL);
	close(first);
	first = spool_make_dir(state, "..", getuid(), &err);
	cr_assert_gt(first, 0);
	struct stat st;
	cr_assert_eq(fstatat(state, "spool/results-..", &st, AT_SYMLINK_NOFOLLOW), 0);
	cr_assert_eq(st.st_mode & 0777, 0700);
	close(first);
	close(state);
}
