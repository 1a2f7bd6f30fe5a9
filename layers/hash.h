/* One pass over bytes, two digests: XXH3-128 (the id) and SHA-256 (what a reference may pin). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct hash;

/* hash_prepare - pay libcrypto's one-time set-up (over a millisecond) now: before a fork, or at a worker's start. */
void hash_prepare(void);

/* hash_new - Return: 0 or -ENOMEM. */
int hash_new(struct hash **ret, struct err *err);
void hash_free(struct hash *hash);
void hash_update(struct hash *hash, const void *data, size_t len);

/*
 * hash_final - the digests of all that was fed in.
 * @salt: NULL for an upload: the id is the XXH3-128 of the content. Otherwise salt_len secret bytes, and the id is
 *        XXH3-128(salt || SHA-256(content)). The content enters through SHA-256 alone because XXH3 is linear enough that
 *        a secret prefix would not keep a job from making two contents with one id, or from learning the prefix.
 * Return: 0, or -errno when the crypto library failed at some point.
 */
int hash_final(struct hash *hash, const uint8_t *salt, size_t salt_len, uint8_t ret_id[16], uint8_t ret_sha256[32],
	struct err *err);
