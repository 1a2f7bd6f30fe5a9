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

static void canonical_id(XXH128_hash_t id, uint8_t ret[16])
{
	XXH128_canonical_t canonical;
	XXH128_canonicalFromHash(&canonical, id);
	memcpy(ret, canonical.digest, 16);
}

int hash_final(struct hash *hash, uint8_t ret_id[16], uint8_t ret_sha256[32], struct err *err)
{
	uint8_t sha[32];
	unsigned len = 0;
	if (hash->failed || EVP_DigestFinal_ex(hash->sha, sha, &len) != 1 || len != sizeof(sha))
		return err_set(err, EIO, "compute a hash");
	canonical_id(XXH3_128bits_digest(hash->xxh), ret_id);
	if (hash_test_hook)
		hash_test_hook(ret_id);
	memcpy(ret_sha256, sha, sizeof(sha));
	return 0;
}

void hash_salt(const uint8_t salt[HASH_SALT_LEN], const uint8_t sha256[32], uint8_t ret_id[16])
{
	uint8_t both[HASH_SALT_LEN + 32];
	memcpy(both, salt, HASH_SALT_LEN);
	memcpy(both + HASH_SALT_LEN, sha256, 32);
	canonical_id(XXH3_128bits(both, sizeof(both)), ret_id);
	explicit_bzero(both, sizeof(both));
}

struct digest {
	EVP_MD *md; /* fetched once: looking it up costs as much as hashing a small file */
	EVP_MD_CTX *sha;
	bool failed;
};

int digest_new(struct digest **ret, struct err *err)
{
	struct digest *digest = calloc(1, sizeof(*digest));
	if (!digest)
		return err_set(err, ENOMEM, "start a hash");
	digest->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	digest->sha = EVP_MD_CTX_new();
	if (!digest->md || !digest->sha || EVP_DigestInit_ex2(digest->sha, digest->md, NULL) != 1) {
		digest_free(digest);
		return err_set(err, ENOMEM, "start a hash");
	}
	*ret = digest;
	return 0;
}

void digest_free(struct digest *digest)
{
	if (!digest)
		return;
	EVP_MD_CTX_free(digest->sha);
	EVP_MD_free(digest->md);
	free(digest);
}

void digest_update(struct digest *digest, const void *data, size_t len)
{
	if (len > 0 && EVP_DigestUpdate(digest->sha, data, len) != 1)
		digest->failed = true;
}

void digest_zeros(struct digest *digest, uint64_t len)
{
	static const char zeros[64u << 10];
	while (len > 0) {
		size_t n = (size_t)MIN(len, (uint64_t)sizeof(zeros));
		digest_update(digest, zeros, n);
		len -= n;
	}
}

int digest_final(struct digest *digest, uint8_t ret_sha256[32], struct err *err)
{
	unsigned len = 0;
	bool failed = digest->failed || EVP_DigestFinal_ex(digest->sha, ret_sha256, &len) != 1 || len != 32;
	digest->failed = EVP_DigestInit_ex2(digest->sha, NULL, NULL) != 1;
	return failed ? err_set(err, EIO, "compute a hash") : 0;
}
