/* The engine's own structures, shared by executor/engine*.c only. */
#pragma once

#include <errno.h>
#include <signal.h>

#include "executor/command.h"
#include "executor/engine.h"
#include "executor/runtime.h"
#include "layers/use.h"
#include "pool/leaf.h"
#include "pool/wire.h"

#define STREAM_CHUNK 65536
#define RUNTIMES_MAX 64

#define HELD_MAX (POOL_LAYERS_MAX + JOB_LAYERS_MAX)

struct held { /* layers that gc leaves alone while these counts are not given back */
	size_t n;
	struct layer_use *uses[HELD_MAX];
};

/* A zygote as the worker holds it: its fds, and the operations on them. It outlives its slot's interest in it until
 * the last operation has come back from the ring. */
struct zygote_ref {
	struct seat *seat; /* NULL once the slot let go */
	int control, pidfd, root, ns;
	int in, out, errs, listener;
	const struct zygote_page *page;
	struct loop_op control_op, pidfd_op, out_op, err_op, listener_op, in_op, source_op;
	struct loop *loop;
	char *out_buf, *err_buf, *in_buf;
	/* Of a runtime, -1 without one: what it says, and where its job is written. */
	int ready, job;
	struct loop_op ready_op, job_op;
	char ready_buf[8];
};

enum seat_state {
	SEAT_NONE,     /* no leaf yet */
	SEAT_STAMPING, /* waiting for HELLO, and then for the runtime where there is one */
	SEAT_READY,
	SEAT_RESIZING, /* waiting for RESIZED, then dispatch */
	SEAT_RUNNING,
	SEAT_ENDING, /* the processes are gone or going; outputs, verdict */
	SEAT_RETIRED,
};

struct seat { /* a slot, from the worker's side */
	/* First what every search looks at, in one cache line. */
	enum seat_state state;
	uint32_t index;
	struct run *run;    /* the job that runs here, or waits for this seat's stamp */
	uint64_t plan_hash; /* of `plan` */
	uint64_t idle_since_us;
	struct engine *engine;
	uint32_t uid_base, number;
	uint32_t image_layers; /* of the plan's layers: the image's, not a job's own */
	bool forsaken;	       /* the job that it is made ready for has gone to another seat */
	bool fresh_room;       /* its next zygote must not be made in the room of the last */
	struct leaf leaf;
	struct loop_op oom_op; /* hybrid: the leaf's OOM eventfd */
	int oom_fd;
	uint64_t oom_count;
	struct loop_timer oom_look;
	unsigned oom_looks;
	struct wire_plan plan;	      /* of the last STAMP */
	struct held held;	      /* its layers */
	struct runtime *runtime;      /* that is started in its zygote; NULL: a plain one */
	struct runtime *last_runtime; /* of the last job: the next is most likely of its kind */
	bool runtime_ran;	      /* it was started, and has no job yet */
	struct loop_timer warm;	      /* until when it has to be ready */
	unsigned warm_waits;
	uint32_t seq;
	bool got_hello;
	const struct zygote_page *page; /* of the room with the number */
	int page_of;
	bool failed_once; /* this stamp's failure was told: its zygote's end is no second one */
	struct zygote_ref *zygote;
	struct leaf_usage last_usage;
	uint64_t disk_base, inode_base; /* bytes and inodes that petri's own directories take in a fresh scratch */
	unsigned failures;		/* in a row */
	struct loop_timer retry;
	uint64_t stamped_us;	/* when the last STAMP was sent */
	struct loop_timer late; /* see seat_is_late() */
};

#define WARM_MAX 32
#define IMAGES_MAX 16

struct known_image { /* as it was when it was last read; read again once its identity changed */
	struct image image;
	struct image_identity identity;
	uint64_t used;
};

struct tally { /* how many seats there are for each that is kept warm, made or in the making */
	unsigned seats[WARM_MAX];
};

struct warm { /* what idle seats are made for */
	struct wire_plan plan;
	struct held held;
	struct runtime *runtime; /* or NULL */
	uint64_t hash;
	unsigned floor; /* so many seats are kept for it */
};

enum run_stage {
	RUN_WAITING,
	RUN_STARTED,
	RUN_COLLECTING,
	RUN_STORING, /* a large output is being hashed, not here */
	RUN_COMMITTING,
};

struct run { /* a job in the engine */
	struct engine *engine;
	struct engine_job *ej;
	struct seat *seat;
	struct wire_plan plan;
	uint64_t plan_hash;
	uint32_t image_layers;
	struct held held; /* the image's layers and the job's, delivered ones too */
	struct leaf_limits limits;
	int packs[8];
	size_t npacks;
	int blobs[JOB_BLOBS_MAX];
	size_t nblobs;
	int stdin_blob;
	struct command command;
	struct runtime *runtime; /* that can run this job, or NULL */
	char *job_json;		 /* for it */
	size_t job_json_len, job_json_at;
	bool warm, declined; /* it does; it would rather not */
	enum run_stage stage;
	/* the end */
	enum job_status cause; /* STATUS_MAX: petri has not killed it */
	bool exit_seen, gone, out_eof, err_eof;
	uint64_t killed_us;
	struct loop_timer wall, cpu, empty;
	uint64_t end_us; /* since when the end is awaited; 0: not yet */
	bool fresh_leaf_tried;
	unsigned charged_tries; /* how often it waited for memory of an earlier job's to go */
	unsigned restamps;
	bool doubted;
	/* stdin */
	size_t in_at, in_len;
	bool in_source_eof;
	/* collect */
	int open_sock;
	struct loop_op open_op;
	struct loop_timer answer; /* by when the helper has to have answered */
	bool unanswered;
	size_t collect_at;
	uint64_t collected_bytes;
	uint64_t collect_started_us;
	uint32_t commit_seq;
};

struct policy_entry {
	char *name;
	uint32_t index;
	bool sockets, early;
};

struct engine {
	struct engine_config config;
	struct loop *loop;
	struct wire_host host;
	bool hello;
	struct seat *seats;
	unsigned nseats, retired;
	struct engine_job *waiting, **waiting_tail;
	unsigned running;
	struct policy_entry policies[POOL_POLICIES_MAX];
	size_t npolicies;
	struct known_image images[IMAGES_MAX];
	struct layer_uses *uses;
	struct loop_op nursery_op, supervisor_op;
	struct warm warm[WARM_MAX]; /* the first is for every seat that no floor claims */
	unsigned nwarm;
	uint64_t placed, hits;			/* jobs that got a seat; that of them found one made for their plan */
	struct job_limits usual;		/* of a job that asks for none */
	struct runtime *runtimes[RUNTIMES_MAX]; /* every one that an image named; kept to the end */
	size_t nruntimes;
	uint32_t next_seq, next_commit;
	unsigned ncpus;
	bool dead;  /* without its nursery: nothing starts any more */
	bool ended; /* … and without its files */
	struct loop_timer grave;
	bool asked;	      /* engine_ask() waits for its answer */
	uint64_t answered_us; /* CLOCK_MONOTONIC, of the nursery's latest answer */
};

/* engine.c */
/* seat_stamp - have a zygote made. @runtime: to be started in it, or NULL. */
void seat_stamp(struct seat *seat, const struct wire_plan *plan, struct runtime *runtime);
/* seat_is_late - its zygote should be there by now: most likely what the last job wrote is being deleted, and that may take long. */
bool seat_is_late(const struct seat *seat);
void seat_ready(struct seat *seat);   /* the zygote, and the runtime in it, wait for a job */
void seat_release(struct seat *seat); /* after a job: let go of the zygote and have the next one made */
void seat_renew(struct seat *seat);   /* the same, also when nothing is expected to follow */
void engine_schedule(struct engine *engine);
/* engine_wait - put a prepared job (back) into the queue of those that wait for a slot. */
void engine_wait(struct engine *engine, struct engine_job *ej);
/* engine_late - seat_is_late() came true: its job need not wait for it. */
void engine_late(struct loop_timer *timer);
/* engine_enqueue - prepare a job and let it wait for a slot; a job that is refused is done at once. */
void engine_enqueue(struct engine *engine, struct engine_job *ej);
/* engine_check_seats - when every slot is retired, nothing can run any more: say so. */
void engine_check_seats(struct engine *engine);
void engine_die(struct engine *engine, const struct err *err);
/* engine_alive.c: the nursery answered engine_ask(). */
void engine_answered(struct engine *engine);
/* engine_mix.c: which plans seats are made for */
/* plan_hash - of what wire_plan_equal() compares. */
uint64_t plan_hash(const struct wire_plan *plan);
/* mix_init - from the configuration: "IMAGE[=SEATS],…". */
int mix_init(struct engine *engine, struct err *err);
/* mix_first, mix_next - for a seat that is new, or whose job has ended. NULL: nothing yet. */
const struct warm *mix_first(struct engine *engine);
struct runtime *mix_next(struct seat *seat, struct wire_plan *plan);
/* mix_count - once a search for a seat; mix_keeps - whether a floor would be undercut if this seat were made for something else. */
void mix_count(const struct engine *engine, struct tally *ret);
bool mix_keeps(const struct engine *engine, const struct tally *tally, const struct seat *seat);
/* told_error - what another process says went wrong, as a -errno, whatever it says. */
static inline int told_error(int error)
{
	return error < 0 && error >= -4095 ? error : -EPROTO;
}
/* engine_zygote.c */
struct zygote_ref *zygote_ref_new(struct seat *seat, int control);
void zygote_ref_drop(struct zygote_ref *z);
/* engine_hold.c: which layers are in use */
/* held_add - hold one layer. Return: 0, -ENOENT when it is not there (any more), -ENOSPC past HELD_MAX, or as layer_hold(). */
int held_add(struct engine *engine, struct held *held, const uint8_t id[16], struct err *err);
/* held_plan - hold all layers of a plan in place of what was held, which may be the same ones. Nothing changes on failure. */
int held_plan(struct engine *engine, struct held *held, const struct wire_plan *plan, struct err *err);
void held_clear(struct engine *engine, struct held *held);
/* engine_prepare.c: resolve a job into a run. Return: 0, or 1 with ej->result rejected, or -errno. */
int run_prepare(struct engine *engine, struct engine_job *ej, struct run *run, struct reject *reject, struct err *err);
/* plan_for_image - the plan of a job with this image and policy, no more. @held: empty; gets the plan's layers. */
int plan_for_image(struct engine *engine, const char *image, const char *policy, struct wire_plan *plan, struct held *held,
	struct runtime **ret_runtime, struct err *err);
void run_free(struct run *run);
void images_forget(struct engine *engine);
/* engine_run.c */
void run_dispatch(struct run *run);
void run_resized(struct run *run, int error);
void run_kill(struct run *run, enum job_status cause);
void run_exit_message(struct run *run);
void run_gone(struct run *run);
void run_maybe_finish(struct run *run);
void run_finish(struct run *run);
/* Of an errno, negative or not: it says nothing of the job, of its paths or limits, but of a host in need (memory, fds, a failing device,
 * a call cut short). It must not be told as the job's fault. */
bool engine_hosts_need(int error);
void run_internal_error(struct run *run, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* engine_runtime.c */
/* engine_runtime - the one that the image names; NULL: none, or none that can be used now. */
struct runtime *engine_runtime(struct engine *engine, const struct image *image);
/* runtime_start - in the seat's fresh zygote. Leads to seat_ready(), or to runtime_failed(). */
void runtime_start(struct seat *seat);
/* runtime_failed - it is left alone for a while, and the seat gets a plain zygote. */
void runtime_failed(struct seat *seat, const char *why);
/* runtime_fits - can the seat's runtime take the job? Else it needs a plain zygote. */
bool runtime_fits(const struct seat *seat, const struct run *run);
/* runtime_give - the job, to the runtime that waits for it. */
void runtime_give(struct run *run);
/* engine_streams.c */
void streams_start(struct run *run);
void streams_read(struct zygote_ref *z); /* post the reads on a fresh zygote's pipes */
void streams_close_stdin(struct zygote_ref *z);
/* engine_collect.c */
void collect_start(struct run *run);
void collect_commit_reply(struct engine *engine, const struct commit_reply *reply);
/* collect_abandon - the nursery is gone, and the job not this worker's any more: it is done soon, whatever became of its outputs. */
void collect_abandon(struct run *run);
