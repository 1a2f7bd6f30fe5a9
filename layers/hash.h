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
static inline void hash_cleanup(struct hash **hash) /* for _cleanup_() */
{
	hash_free(*hash);
}
void hash_update(struct hash *hash, const void *data, size_t len);

/*
 * hash_final - the digests of all that was fed in; the id is an upload's.
 * Return: 0, or -errno when the crypto library failed at some point.
 */
int hash_final(struct hash *hash, uint8_t ret_id[16], uint8_t ret_sha256[32], struct err *err);

/*
 * hash_test_hook - never defined in petri itself. A test that defines it sees each id on its way out of hash_final() and
 * may change it: two trees with one id cannot be had otherwise.
 */
__attribute__((weak)) void hash_test_hook(uint8_t id[16]);

/* SHA-256 alone, for many contents one after another. */
struct digest;
int digest_new(struct digest **ret, struct err *err);
void digest_free(struct digest *digest);
void digest_update(struct digest *digest, const void *data, size_t len);
/* digest_zeros - as digest_update() with so many zeros: a hole. */
void digest_zeros(struct digest *digest, uint64_t len);
/* digest_final - of all since the last one; then begins anew. Return: 0, or -EIO when the crypto library failed. */
int digest_final(struct digest *digest, uint8_t ret_sha256[32], struct err *err);

#define HASH_SALT_LEN 32

/*
 * hash_salt - the id of a job's object: XXH3-128(salt || SHA-256 of the content).
 * The content enters through SHA-256 alone, because XXH3 is linear enough that a secret put before the content would
 * neither keep a job from making two contents with one id, nor stay secret. So the salt need not be known where the
 * content is read, either.
 */
void hash_salt(const uint8_t salt[HASH_SALT_LEN], const uint8_t sha256[32], uint8_t ret_id[16]);
