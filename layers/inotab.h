/* A table from an inode (device, number) to a value: how hard links are recognised while a tree is walked. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct inotab_slot {
	dev_t dev;
	ino_t ino;
	uint64_t value; /* 0: the slot is free */
};

struct inotab {
	struct inotab_slot *slots;
	size_t cap; /* a power of two, or 0 */
	size_t count;
};

/*
 * inotab_put - find the inode, or add it with this value (not 0).
 * Return: 0 with *ret_value when it was there, 1 when it was added, or -ENOMEM.
 */
int inotab_put(struct inotab *tab, dev_t dev, ino_t ino, uint64_t value, uint64_t *ret_value);
/* inotab_get - the inode's value, or 0 when it is not there. */
uint64_t inotab_get(const struct inotab *tab, dev_t dev, ino_t ino);
void inotab_clear(struct inotab *tab);
