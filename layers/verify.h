/*
 * Does the store still hold what it says? A layer's description is hashed anew and must give its id, and the tree on disk
 * is compared with it, entry by entry; a blob's bytes must give its id. Nothing is changed, and a verification is no use.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "layers/store.h"

#define VERIFY_NAMED_MAX 100 /* differences that are told one by one; the rest is only counted */

struct verify {
	/* Told for each of the first VERIFY_NAMED_MAX differences: one line of printable text, "missing: usr/bin/cc". */
	void (*differs)(void *ctx, const char *what);
	void *ctx;
	uint64_t differences; /* set by the functions below */
};

/*
 * layer_verify - as root; the reading happens in a child that has the right to read and no other.
 * Return: 0 with verify->differences, -ENOENT when there is no such layer, or -errno when it cannot be told.
 */
int layer_verify(struct store *store, const uint8_t id[16], struct verify *verify, struct err *err);
/* blob_verify - the same of a blob. */
int blob_verify(struct store *store, const uint8_t id[16], struct verify *verify, struct err *err);

/* ---- for the files of verify only: what runs in the child ---- */
struct verify_child {
	int diff, tree, pack; /* pack: -1 when there is none; each at its beginning */
	int out;	      /* a pipe of struct verify_message */
	uint8_t sha256[32];   /* that the description must have, or nothing is compared with it */
	uint64_t differences;
};

enum verify_kind {
	VERIFY_DIFFERS,
	VERIFY_FAILED, /* text: why it cannot be told */
	VERIFY_END,
};

struct verify_message {
	uint32_t kind;
	int32_t code; /* of VERIFY_FAILED: -errno */
	uint64_t differences;
	uint8_t id[16], sha256[32]; /* of VERIFY_END: the description's */
	char text[600];
};

/* verify_differs - tell the parent of a difference, or only count it. Return: 0 or -errno. */
int verify_differs(struct verify_child *child, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* verify_tree - compare the tree with its description, which is read from its beginning. Return: 0 or -errno. */
int verify_tree(struct verify_child *child, struct err *err);
/* verify_pack - compare the pack with the description. Return: 0 or -errno. */
int verify_pack(struct verify_child *child, struct err *err);
/* verify_content - does fd hold exactly `size` bytes with this SHA-256? Return: 1, 0, or -errno. */
int verify_content(int fd, uint64_t size, const uint8_t sha256[32], struct err *err);
