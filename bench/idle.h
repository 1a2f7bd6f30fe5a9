/* What a waiting slot weighs. */
#pragma once

#include <stdint.h>

/*
 * idle_bytes - what is charged to slot NUMBER's memory group by now, room and zygote: anonymous memory, page cache, kernel objects.
 * By kind, since the group's total also counts what the kernel charged ahead for each CPU (64 pages: MEMCG_CHARGE_BATCH, mm/memcontrol.c).
 * Return: 0 when there is no such group.
 */
uint64_t idle_bytes(unsigned number);
