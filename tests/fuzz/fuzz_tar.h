/* What the fuzz targets of tars share: a mutator's last step. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* mend_checksums - of every block from an offset on that looks like a header: else nearly all mutated tars end at the first. */
static inline void mend_checksums(uint8_t *data, size_t size, size_t from)
{
	for (size_t at = from; at + 512 <= size; at += 512) {
		uint8_t *h = data + at;
		char digits[8];
		unsigned sum = 8 * ' ';
		if (memcmp(h + 257, "ustar", 5) != 0)
			continue;
		for (size_t i = 0; i < 512; i++)
			sum += i >= 148 && i < 156 ? 0 : h[i];
		(void)snprintf(digits, sizeof(digits), "%06o", sum & 0777777);
		memcpy(h + 148, digits, 7);
		h[155] = ' ';
	}
}
