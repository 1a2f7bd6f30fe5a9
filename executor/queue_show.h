/* What queue_admin_look() found, as tables for people. Its text is printable ASCII already; no line is longer than its columns. */
#pragma once

#include <jansson.h>
#include <stdio.h>

/* queue_show_total - three lines: workers, their slots, what waits. */
void queue_show_total(FILE *f, json_t *look);
void queue_show_workers(FILE *f, json_t *look);
void queue_show_streams(FILE *f, json_t *look);
/* queue_show_pending - by consumer, and the first entries. */
void queue_show_pending(FILE *f, json_t *look);
/* queue_show_dead - the list of queue_admin_dead(). */
void queue_show_dead(FILE *f, json_t *dead);
