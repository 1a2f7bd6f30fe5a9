/* Limits as people write and read them: numbers of JSON, and the sizes and durations of flags. */
#pragma once

#include "executor/limits.h"

#define LIMIT_TEXT_MAX 32

/* limit_text_number - as in the job's JSON, without its unit: "1048576", "0.5" (CPUs). */
void limit_text_number(const struct limit *limit, uint64_t value, char ret[LIMIT_TEXT_MAX]);
/* limit_text_flag - as its flag takes it: "1M", "10s", "0.5". */
void limit_text_flag(const struct limit *limit, uint64_t value, char ret[LIMIT_TEXT_MAX]);
