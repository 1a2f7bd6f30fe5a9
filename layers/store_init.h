/* `petri store init`: a filesystem with project quotas for the store, in a file beside it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define STORE_INIT_SIZE (4ull << 30)
#define STORE_INIT_SIZE_MIN (512ull << 20)

/*
 * store_init - make STATE.img (sparse, 0600), a filesystem in it, and mount that at STATE with prjquota,nosuid,nodev.
 * @state: absolute path; made when it is not there; must be empty, no link and no mount point.
 * @fs: "xfs" or "ext4"; NULL is xfs. @size: bytes; 0 is STORE_INIT_SIZE.
 * @ret_driver: a word or two for the operator, such as "xfs project quota on /dev/loop0". As root.
 * An image that is there already (after a restart of the machine) is mounted as it is, whatever fs and size say.
 * Project quotas exist only from the first mount on, so a kernel that refuses them makes this fail, and everything it
 * had made is removed again.
 * Return: 0, 1 when STATE is mounted from its image already, or -errno; the message says what is missing.
 */
int store_init(const char *state, const char *fs, uint64_t size, char *ret_driver, size_t cap, struct err *err);
