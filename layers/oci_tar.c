/*
 * The outer archive of an image: which files it holds and where, so that layers of gigabytes are read where they lie. Runs in a helper. A
 * parser of its own because libarchive tells no offsets: ustar, GNU long names, and of pax the path, linkpath and size. Where it
 * errs, a blob is not found or has another digest; nothing worse follows from an index.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "layers/oci.h"

#define BLOCK 512u
#define EXTENDED_MAX (1u << 20) /* bytes of a pax header or a long name */
#define HEADERS_MAX 1000000u
#define HOPS_MAX 8	  /* links to links */
#define LINKS_MAX 1024u	  /* in all: each costs a search */
#define OTHERS_MAX 8	  /* names that no image has, before the first that one has */
#define OTHERS_BETWEEN 64 /* and later */

/* ---- what an archive is ---- */

static bool ends_with(const char *s, const char *end)
{
	size_t len = strlen(s), n = strlen(end);
	return len >= n && strcmp(s + len - n, end) == 0;
}

bool oci_marks_note(struct oci_marks *marks, const char *name, bool regular)
{
	static const char *const roots[] = {"usr", "etc", "bin"};
	static const char *const parts[] = {"repositories", "json", "VERSION"};
	size_t first = strcspn(name, "/");
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++)
		marks->root |= strlen(roots[i]) == first && strncmp(name, roots[i], first) == 0;
	if (!regular)
		return marks->root;
	if (strcmp(name, "oci-layout") == 0)
		marks->layout = true;
	else if (strcmp(name, "index.json") == 0)
		marks->index = true;
	else if (strcmp(name, "manifest.json") == 0)
		marks->manifest = true;
	else if (strncmp(name, "blobs/", 6) == 0 || ends_with(base, ".tar"))
		marks->parts = true;
	else if (!ends_with(base, ".json") && !ends_with(base, ".tar.gz") && strcmp(base, parts[0]) != 0 && strcmp(base, parts[1]) != 0 && strcmp(base, parts[2]) != 0)
		marks->others++;
	bool none = !marks->layout && !marks->manifest;
	return marks->root || (none && marks->others > (marks->parts || marks->index ? OTHERS_BETWEEN : OTHERS_MAX));
}

enum oci_kind oci_marks_kind(const struct oci_marks *marks)
{
	if (marks->root)
		return OCI_KIND_TREE;
	if (marks->layout)
		return OCI_KIND_LAYOUT;
	/* A manifest.json alone may be anybody's. */
	return marks->manifest && marks->parts ? OCI_KIND_DOCKER : OCI_KIND_TREE;
}

/* ---- headers ---- */

struct header {
	char type;
	bool sparse;
	uint64_t size; /* of what follows in the archive */
	char name[OCI_NAME_MAX], link[OCI_NAME_MAX];
};

struct reader {
	int fd;
	uint64_t size, at;
	/* From extended headers, for the next entry. */
	bool has_size, has_name, has_link, sparse;
	uint64_t next_size;
	char next_name[OCI_NAME_MAX], next_link[OCI_NAME_MAX];
};

static int read_at(const struct reader *r, uint64_t at, void *buf, size_t len)
{
	size_t done = 0;
	while (done < len) {
		ssize_t n = pread(r->fd, (char *)buf + done, len - done, (off_t)(at + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

/* Octal, or big-endian binary with the highest bit of the first byte set. Return: 0 or -EINVAL. */
static int number(const uint8_t *field, size_t len, uint64_t *ret)
{
	uint64_t v = 0;
	if (field[0] & 0x80) {
		if (field[0] != 0x80)
			return -EINVAL; /* negative, or far too large */
		for (size_t i = 1; i < len; i++) {
			if (v >> 55)
				return -EINVAL;
			v = v << 8 | field[i];
		}
		*ret = v;
		return 0;
	}
	size_t i = 0;
	while (i < len && field[i] == ' ')
		i++;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(field[i] - '0'); /* at most 12 digits: 36 bits */
	if (i < len && field[i] != ' ' && field[i] != '\0')
		return -EINVAL;
	*ret = v;
	return 0;
}

static bool checksum_good(const uint8_t *h)
{
	uint64_t said;
	unsigned sum = 8 * ' ';
	for (size_t i = 0; i < BLOCK; i++)
		sum += i >= 148 && i < 156 ? 0 : h[i];
	return number(h + 148, 8, &said) == 0 && said == sum;
}

/* Without "./" before and slashes behind. What does not fit is no name that anything here looks for: "". */
static void set_name(char ret[OCI_NAME_MAX], const char *name, size_t len)
{
	len = strnlen(name, len);
	while (len >= 2 && name[0] == '.' && name[1] == '/') {
		name += 2;
		len -= 2;
		while (len > 0 && name[0] == '/') {
			name++;
			len--;
		}
	}
	while (len > 0 && name[len - 1] == '/')
		len--;
	if (len >= OCI_NAME_MAX)
		len = 0;
	memcpy(ret, name, len);
	ret[len] = '\0';
}

static void ustar_name(const uint8_t *h, char ret[OCI_NAME_MAX])
{
	char whole[155 + 1 + 100];
	size_t len = 0;
	/* GNU's own format has other things where ustar has the prefix. */
	if (memcmp(h + 257, "ustar\0", 6) == 0 && h[345]) {
		len = strnlen((const char *)h + 345, 155);
		memcpy(whole, h + 345, len);
		whole[len++] = '/';
	}
	size_t n = strnlen((const char *)h, 100);
	memcpy(whole + len, h, n);
	set_name(ret, whole, len + n);
}

static int header_parse(const uint8_t *h, struct header *ret)
{
	*ret = (struct header){.type = (char)h[156]};
	int r = number(h + 124, 12, &ret->size);
	if (r < 0)
		return r;
	ustar_name(h, ret->name);
	/* A link's target with its dots, which belong to it. */
	size_t n = strnlen((const char *)h + 157, 100);
	memcpy(ret->link, h + 157, n);
	return 0;
}

/* ---- extended headers ---- */

static void pax_record(struct reader *r, const char *key, size_t key_len, const char *value, size_t len)
{
	char digits[24];
	if (key_len == 4 && memcmp(key, "path", 4) == 0) {
		set_name(r->next_name, value, len);
		r->has_name = true;
	} else if (key_len == 8 && memcmp(key, "linkpath", 8) == 0) {
		size_t n = len < OCI_NAME_MAX ? len : 0;
		memcpy(r->next_link, value, n);
		r->next_link[n] = '\0';
		r->has_link = true;
	} else if (key_len == 4 && memcmp(key, "size", 4) == 0 && len > 0 && len < sizeof(digits)) {
		memcpy(digits, value, len);
		digits[len] = '\0';
		r->has_size = parse_u64(digits, &r->next_size, NULL) == 0;
	} else if (key_len > 11 && memcmp(key, "GNU.sparse.", 11) == 0) {
		r->sparse = true;
	}
}

/* Records of the form "LENGTH KEY=VALUE\n", where LENGTH counts all of it. */
static int pax_parse(struct reader *r, const char *text, size_t len)
{
	while (len > 0) {
		size_t n = 0, digits = 0;
		while (digits < len && digits < 8 && isdigit((unsigned char)text[digits]))
			n = n * 10 + (size_t)(text[digits++] - '0');
		if (digits == 0 || n > len || n < digits + 4 || text[digits] != ' ' || text[n - 1] != '\n')
			return -EINVAL;
		const char *key = text + digits + 1, *end = text + n - 1;
		const char *equals = memchr(key, '=', (size_t)(end - key));
		if (!equals)
			return -EINVAL;
		pax_record(r, key, (size_t)(equals - key), equals + 1, (size_t)(end - equals - 1));
		text += n;
		len -= n;
	}
	return 0;
}

/* The body of an 'x', 'L' or 'K' entry, which speaks of the next one. Return: 0 or -errno. */
static int extended(struct reader *r, const struct header *h, uint64_t at)
{
	if (h->size > EXTENDED_MAX)
		return -EFBIG;
	_cleanup_free_ char *text = malloc(h->size + 1);
	if (!text)
		return -ENOMEM;
	int read = read_at(r, at, text, h->size);
	if (read < 0)
		return read;
	text[h->size] = '\0';
	if (h->type == 'x')
		return pax_parse(r, text, h->size);
	if (h->type == 'L') {
		set_name(r->next_name, text, h->size);
		r->has_name = true;
	} else {
		size_t n = strlen(text) < OCI_NAME_MAX ? strlen(text) : 0;
		memcpy(r->next_link, text, n);
		r->next_link[n] = '\0';
		r->has_link = true;
	}
	return 0;
}

/* One more header block, within what the file held when it was looked at. */
static int take_block(struct reader *r, uint8_t ret[BLOCK])
{
	if (r->size - r->at < BLOCK)
		return -ENODATA;
	int e = read_at(r, r->at, ret, BLOCK);
	if (e == 0)
		r->at += BLOCK;
	return e;
}

/* GNU's old sparse files have maps in further blocks, before their content. */
static int skip_sparse_maps(struct reader *r, const uint8_t *first)
{
	uint8_t block[BLOCK];
	bool more = first[482] != 0;
	while (more) {
		int e = take_block(r, block);
		if (e < 0)
			return e;
		more = block[504] != 0;
	}
	return 0;
}

/* The next entry, with its extended headers applied; r->at is then at its content. Return: 1, 0 at the end, or -errno. */
static int next(struct reader *r, struct header *ret, unsigned *headers)
{
	uint8_t block[BLOCK];
	r->has_size = r->has_name = r->has_link = r->sparse = false;
	for (;;) {
		/* An archive may end without the blocks of zeros. */
		if (r->at == r->size)
			return 0;
		int e = take_block(r, block);
		if (e < 0)
			return e;
		if (block[0] == 0 && memcmp(block, block + 1, BLOCK - 1) == 0)
			return 0;
		if (!checksum_good(block) || header_parse(block, ret) < 0 || ++*headers > HEADERS_MAX)
			return -EINVAL;
		if (ret->type != 'x' && ret->type != 'g' && ret->type != 'L' && ret->type != 'K')
			break;
		e = ret->type == 'g' ? 0 : extended(r, ret, r->at);
		if (e < 0)
			return e;
		if (ret->size > r->size - r->at)
			return -ENODATA;
		r->at += (ret->size + BLOCK - 1) / BLOCK * BLOCK;
		if (r->at > r->size)
			return -ENODATA;
	}
	if (ret->type >= '1' && ret->type <= '6')
		ret->size = 0; /* links, devices, directories and FIFOs have no content, whatever they say */
	else if (r->has_size)
		ret->size = r->next_size;
	if (r->has_name)
		memcpy(ret->name, r->next_name, sizeof(ret->name));
	if (r->has_link)
		memcpy(ret->link, r->next_link, sizeof(ret->link));
	ret->sparse = r->sparse || ret->type == 'S';
	return ret->type == 'S' && skip_sparse_maps(r, block) < 0 ? -ENODATA : 1;
}

/* ---- the index ---- */

static const struct oci_file *find(const struct oci_archive *a, const char *name)
{
	for (size_t i = a->count; i-- > 0;)
		if (strcmp(a->files[i].name, name) == 0)
			return &a->files[i];
	return NULL;
}

/* A symbolic link's target as a name in the archive. Return: false when it leads out. */
static bool join(const char *from, const char *target, char ret[OCI_NAME_MAX])
{
	const char *slash = strrchr(from, '/');
	size_t len = slash ? (size_t)(slash - from) : 0;
	if (target[0] == '/')
		return false;
	memcpy(ret, from, len);
	while (*target) {
		size_t n = strcspn(target, "/");
		if (n == 2 && memcmp(target, "..", 2) == 0) {
			if (len == 0)
				return false;
			while (len > 0 && ret[len - 1] != '/')
				len--;
			len -= len > 0;
		} else if (n > 0 && !(n == 1 && target[0] == '.')) {
			if (len + 1 + n >= OCI_NAME_MAX)
				return false;
			if (len > 0)
				ret[len++] = '/';
			memcpy(ret + len, target, n);
			len += n;
		}
		target += n;
		target += *target == '/';
	}
	ret[len] = '\0';
	return true;
}

/* Older docker-saves store a layer that two images share once, and link to it. Links that lead nowhere are left as they are: without a name. */
static void follow_links(struct oci_archive *a)
{
	for (size_t i = 0; i < a->count; i++) {
		const struct oci_file *f = &a->files[i];
		for (int hop = 0; f && f->link[0] && hop < HOPS_MAX; hop++)
			f = find(a, f->link);
		if (f && !f->link[0]) {
			a->files[i].offset = f->offset;
			a->files[i].size = f->size;
		} else {
			a->files[i].name[0] = '\0';
		}
	}
	for (size_t i = 0; i < a->count; i++)
		a->files[i].link[0] = '\0';
}

static int record(struct oci_archive *a, const struct header *h, uint64_t at, unsigned *links, struct err *err)
{
	bool hard = h->type == '1', symbolic = h->type == '2';
	if (h->name[0] == '\0' || h->sparse || (!hard && !symbolic && h->type != '0' && h->type != '\0' && h->type != '7'))
		return 0;
	if (a->count == OCI_FILES_MAX)
		return err_say(err, E2BIG, "the archive has more than %u files", OCI_FILES_MAX);
	if ((hard || symbolic) && ++*links > LINKS_MAX)
		return err_say(err, E2BIG, "the archive has more than %u links", LINKS_MAX);
	struct oci_file *f = &a->files[a->count];
	*f = (struct oci_file){.offset = at, .size = h->size};
	memcpy(f->name, h->name, sizeof(f->name));
	if (hard)
		set_name(f->link, h->link, strlen(h->link));
	if ((symbolic && !join(h->name, h->link, f->link)) || ((hard || symbolic) && !f->link[0]))
		return 0;
	a->count++;
	return 0;
}

static bool packed(const uint8_t *head, size_t len)
{
	return (len >= 2 && memcmp(head, "\x1f\x8b", 2) == 0) || (len >= 4 && memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0) ||
		(len >= 6 && memcmp(head, "\xfd"
					  "7zXZ\0",
				     6) == 0);
}

int oci_tar_index(int fd, uint64_t size, struct oci_archive *ret, struct err *err)
{
	struct reader r = {.fd = fd, .size = size};
	struct oci_marks marks = {.others = 0};
	uint8_t head[6];
	struct header h;
	unsigned headers = 0, links = 0;
	int e;
	ret->kind = OCI_KIND_TREE;
	ret->packing = OCI_PACKING_NONE;
	ret->count = 0;
	if (size >= sizeof(head) && read_at(&r, 0, head, sizeof(head)) == 0 && packed(head, sizeof(head))) {
		ret->packing = OCI_PACKING_COMPRESSED;
		return 0;
	}
	while ((e = next(&r, &h, &headers)) > 0) {
		if (h.size > size - r.at) {
			e = -ENODATA;
			break;
		}
		bool regular = h.type == '0' || h.type == '\0' || h.type == '7' || h.type == '1' || h.type == '2';
		if (oci_marks_note(&marks, h.name, regular))
			return 0;
		int recorded = record(ret, &h, r.at, &links, err);
		if (recorded < 0)
			return marks.layout || marks.manifest ? recorded : 0;
		r.at += (h.size + BLOCK - 1) / BLOCK * BLOCK;
		if (r.at > size) { /* the padding of the last entry is missing */
			e = 0;
			break;
		}
	}
	enum oci_kind kind = oci_marks_kind(&marks);
	if (kind != OCI_KIND_TREE && e < 0)
		return e == -ENODATA ? err_say(err, EINVAL, "the archive ends too early")
				     : err_set(err, e, "the archive is damaged at byte %" PRIu64, r.at);
	ret->kind = kind;
	follow_links(ret);
	return 0;
}
