/*
 * Any bytes as a document or an archive of a container image; the first byte says as which. Parsing neither crashes nor leaks nor goes
 * out of its bounds; what it accepts is within what it promises; a refusal says why.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "layers/oci.h"
#include "fuzz_tar.h"

#define CHECK(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

#define DECOMPRESSED_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* The first byte chooses the parser. One in eight keeps its wrong checksums. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	size = LLVMFuzzerMutate(data, size, max);
	if (seed % 8 != 0)
		mend_checksums(data, size, 1);
	return size;
}

/* Document and archive structs are large: one of each for all inputs. */
static struct oci_config config;
static struct docker_manifest docker;
static struct oci_archive archive;

static void check_words(const struct oci_words *words)
{
	uint32_t at = words->at;
	CHECK(words->count <= OCI_WORDS_MAX && (words->present || words->count == 0));
	for (uint32_t i = 0; i < words->count; i++) {
		CHECK(at < config.text_len);
		size_t len = strnlen(config.text + at, config.text_len - at);
		CHECK(len < config.text_len - at);
		at += (uint32_t)len + 1;
	}
}

static void check_text(uint32_t at)
{
	CHECK(at == OCI_NO_TEXT || (at < config.text_len && memchr(config.text + at, '\0', config.text_len - at)));
}

static int fuzz_config(const char *text, size_t len, struct err *err)
{
	int r = oci_config_parse(text, len, &config, err);
	if (r < 0)
		return r;
	CHECK(config.text_len <= OCI_TEXT_MAX && config.ndiff_ids > 0 && config.ndiff_ids <= IMAGE_LAYERS_MAX);
	check_words(&config.env);
	check_words(&config.entrypoint);
	check_words(&config.cmd);
	check_text(config.cwd);
	check_text(config.user);
	check_text(config.platform);
	return 0;
}

static int fuzz_docker(const char *text, size_t len, struct err *err)
{
	int r = docker_manifest_parse(text, len, len % 2 ? "tag" : "", &docker, err);
	if (r < 0)
		return r;
	CHECK(docker.nlayers > 0 && docker.nlayers <= IMAGE_LAYERS_MAX && strnlen(docker.config, OCI_NAME_MAX) < OCI_NAME_MAX);
	for (uint32_t i = 0; i < docker.nlayers; i++)
		CHECK(docker.layers[i][0] && strnlen(docker.layers[i], OCI_NAME_MAX) < OCI_NAME_MAX);
	return 0;
}

static int fuzz_manifest(const char *text, size_t len, struct err *err)
{
	struct oci_manifest manifest;
	int r = oci_manifest_parse(text, len, &manifest, err);
	CHECK(r < 0 || (manifest.nlayers > 0 && manifest.nlayers <= IMAGE_LAYERS_MAX));
	for (uint32_t i = 0; r == 0 && i < manifest.nlayers; i++)
		CHECK(manifest.layers[i].size <= INT64_MAX);
	return r;
}

static int fuzz_index(const char *text, size_t len, struct err *err)
{
	struct oci_want want = {.os = "linux", .architecture = "amd64"};
	struct oci_descriptor found;
	if (len % 2)
		memcpy(want.ref, "tag", 4);
	int r = oci_index_parse(text, len, &want, &found, err);
	CHECK(r < 0 || (found.size <= INT64_MAX && found.is_index <= 1));
	return r;
}

static int fuzz_archive(const char *text, size_t len, struct err *err)
{
	int fd = memfd_create("archive", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC);
	CHECK(fd >= 0 && out >= 0 && fd_write_all(fd, text, len) == 0 && lseek(fd, 0, SEEK_SET) == 0);
	int r = oci_tar_index(fd, len, &archive, err);
	CHECK(r < 0 || (archive.kind < OCI_KIND_MAX && archive.packing < OCI_PACKING_MAX && archive.count <= OCI_FILES_MAX));
	for (uint32_t i = 0; r == 0 && archive.kind != OCI_KIND_TREE && i < archive.count; i++) {
		const struct oci_file *f = &archive.files[i];
		CHECK(strnlen(f->name, OCI_NAME_MAX) < OCI_NAME_MAX && f->offset <= len && f->size <= len - f->offset);
	}
	if (r == 0 && archive.packing == OCI_PACKING_COMPRESSED) {
		r = oci_tar_peek(fd, 1u << 30, &archive, err);
		CHECK(lseek(fd, 0, SEEK_SET) == 0);
		if (r == 0)
			r = oci_tar_decompress(fd, out, DECOMPRESSED_MAX, err);
		CHECK(lseek(out, 0, SEEK_END) <= (off_t)DECOMPRESSED_MAX);
	}
	close(fd);
	close(out);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int (*const parsers[])(const char *text, size_t len, struct err *err) = {fuzz_index, fuzz_manifest, fuzz_config, fuzz_docker, fuzz_archive};
	struct err err = ERR_INIT;
	if (size == 0)
		return 0;
	/* A buffer of its own, so that reading one byte too many is seen. */
	char *text = malloc(size > 1 ? size - 1 : 1);
	CHECK(text);
	memcpy(text, data + 1, size - 1);
	int r = parsers[data[0] % 5](text, size - 1, &err);
	CHECK(r <= 0 && (r == 0 || err.msg[0]));
	free(text);
	return 0;
}
