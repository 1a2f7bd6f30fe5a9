/* The two digests of stored objects. Runs in the worker, in root's commands and in the sandboxed helpers. */
#include "layers/hash.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <xxhash.h>

#include "base/cleanup.h"

struct hash {
	XXH3_state_t *xxh;
	EVP_MD_CTX *sha;
	bool failed;
};

void hash_prepare(void)
{
	struct hash *hash = NULL;
	(void)hash_new(&hash, NULL);
	hash_free(hash);
}

int hash_new(struct hash **ret, struct err *err)
{
	struct hash *hash = calloc(1, sizeof(*hash));
	if (!hash)
		return err_set(err, ENOMEM, "start a hash");
	hash->xxh = XXH3_createState();
	hash->sha = EVP_MD_CTX_new();
	if (!hash->xxh || !hash->sha || XXH3_128bits_reset(hash->xxh) != XXH_OK ||
		EVP_DigestInit_ex(hash->sha, EVP_sha256(), NULL) != 1) {
		hash_free(hash);
		return err_set(err, ENOMEM, "start a hash");
	}
	*ret = hash;
	return 0;
}

void hash_free(struct hash *hash)
{
	if (!hash)
		return;
	(void)XXH3_freeState(hash->xxh);
	EVP_MD_CTX_free(hash->sha);
	free(hash);
}

void hash_update(struct hash *hash, const void *data, size_t len)
{
	if (len == 0)
		return;
	if (XXH3_128bits_update(hash->xxh, data, len) != XXH_OK || EVP_DigestUpdate(hash->sha, data, len) != 1)
		hash->failed = true;
}

int hash_final(struct hash *hash, const uint8_t *salt, size_t salt_len, uint8_t ret_id[16], uint8_t ret_sha256[32],
	struct err *err)
{
	uint8_t sha[32], salted[128];
	unsigned len = 0;
	if (hash->failed || EVP_DigestFinal_ex(hash->sha, sha, &len) != 1 || len != sizeof(sha))
		return err_set(err, EIO, "compute a hash");
	XXH128_hash_t id = XXH3_128bits_digest(hash->xxh);
	if (salt) {
		if (salt_len + sizeof(sha) > sizeof(salted))
			return err_set(err, EINVAL, "salt a hash");
		memcpy(salted, salt, salt_len);
		memcpy(salted + salt_len, sha, sizeof(sha));
		id = XXH3_128bits(salted, salt_len + sizeof(sha));
		explicit_bzero(salted, sizeof(salted));
	}
	XXH128_canonical_t canonical;
	XXH128_canonicalFromHash(&canonical, id);
	memcpy(ret_id, canonical.digest, 16);
	memcpy(ret_sha256, sha, sizeof(sha));
	return 0;
}
