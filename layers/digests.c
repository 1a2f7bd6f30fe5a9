/* An array that is sorted once, when all is in it: half the memory of a hash table. Runs in the helpers. */
#include "layers/digests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int digests_add(struct digests *digests, uint64_t ino, const uint8_t sha256[32], bool attrs)
{
	if (digests->count == digests->cap) {
		size_t cap = digests->cap ? digests->cap * 2 : 256;
		struct file_digest *bigger = reallocarray(digests->items, cap, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		digests->items = bigger;
		digests->cap = cap;
	}
	struct file_digest *d = &digests->items[digests->count];
	*d = (struct file_digest){.ino = ino, .seq = (uint32_t)digests->count, .attrs = attrs};
	memcpy(d->sha256, sha256, sizeof(d->sha256));
	digests->count++;
	digests->sorted = false;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct file_digest *x = a, *y = b;
	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

const struct file_digest *digests_find(struct digests *digests, uint64_t ino)
{
	if (!digests->sorted && digests->count > 1)
		qsort(digests->items, digests->count, sizeof(*digests->items), compare);
	digests->sorted = true;
	size_t low = 0, high = digests->count; /* the last item that is not above ino ends up before low */
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (digests->items[mid].ino <= ino)
			low = mid + 1;
		else
			high = mid;
	}
	return low > 0 && digests->items[low - 1].ino == ino ? &digests->items[low - 1] : NULL;
}

void digests_clear(struct digests *digests)
{
	free(digests->items);
	*digests = (struct digests){.count = 0};
}
