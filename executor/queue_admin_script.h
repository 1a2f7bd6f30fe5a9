/*
 * The operator's scripts. KEYS of all: jobs:high, jobs, jobs:low, jobs:worker: (a prefix), tenants, dead, workers, worker: (a prefix),
 * and the prefix of every key.
 */
#pragma once

/* -> {now_ms, depth, pending, oldest_ms, dead, {{key depth pending oldest_ms priority kind name}…}, {{consumer pending}…},
 * {{key entry consumer idle_ms deliveries}…}} */
extern const char queue_admin_look_script[];
extern const char queue_admin_workers_script[];	     /* -> {{name age_ms hash}…} */
extern const char queue_admin_requeue_script[];	     /* entry stream|"" bell -> in how many streams it is pending; done if in one */
extern const char queue_admin_waiting_script[];	     /* stream after|"" -> {{entry id|nil job|nil}…}, few at a time */
extern const char queue_admin_purge_script[];	     /* stream entry id result ttl_ms meta reply|"" -> 1, 0 somebody has it */
extern const char queue_admin_dead_script[];	     /* from count -> {{entry id attempts consumer stream error job_bytes}…} */
extern const char queue_admin_dead_job_script[];     /* entry -> job|nil */
extern const char queue_admin_dead_requeue_script[]; /* entry bell -> what became of it */
extern const char queue_admin_dead_purge_script[];   /* -> how many there were */
