/* Open addressing with linear probing; never more than half full. No process of its own, no errors but -ENOMEM. */
#include "layers/inotab.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

static size_t probe(const struct inotab_slot *slots, size_t cap, dev_t dev, ino_t ino)
{
	uint64_t h = ((uint64_t)ino ^ (uint64_t)dev << 32) * 0x9e3779b97f4a7c15ull;
	size_t i = (size_t)(h >> 20) & (cap - 1);
	while (slots[i].value != 0 && (slots[i].ino != ino || slots[i].dev != dev))
		i = (i + 1) & (cap - 1);
	return i;
}

static int grow(struct inotab *tab)
{
	size_t cap = tab->cap ? tab->cap * 2 : 64;
	struct inotab_slot *slots = calloc(cap, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < tab->cap; i++)
		if (tab->slots[i].value != 0)
			slots[probe(slots, cap, tab->slots[i].dev, tab->slots[i].ino)] = tab->slots[i];
	free(tab->slots);
	tab->slots = slots;
	tab->cap = cap;
	return 0;
}

int inotab_put(struct inotab *tab, dev_t dev, ino_t ino, uint64_t value, uint64_t *ret_value)
{
	if (tab->count * 2 >= tab->cap) {
		int r = grow(tab);
		if (r < 0)
			return r;
	}
	struct inotab_slot *slot = &tab->slots[probe(tab->slots, tab->cap, dev, ino)];
	if (slot->value != 0) {
		*ret_value = slot->value;
		return 0;
	}
	*slot = (struct inotab_slot){.dev = dev, .ino = ino, .value = value};
	tab->count++;
	return 1;
}

uint64_t inotab_get(const struct inotab *tab, dev_t dev, ino_t ino)
{
	return tab->cap == 0 ? 0 : tab->slots[probe(tab->slots, tab->cap, dev, ino)].value;
}

void inotab_clear(struct inotab *tab)
{
	free(tab->slots);
	*tab = (struct inotab){NULL, 0, 0};
}
