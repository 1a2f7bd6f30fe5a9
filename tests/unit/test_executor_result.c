#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "executor/base64.h"
#include "executor/result.h"
#include "executor/utf8.h"

/* The result's JSON, parsed again; the caller drops it. */
static json_t *round_trip(const struct result *result)
{
	char *text = result_json(result);
	cr_assert_not_null(text);
	json_error_t error;
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	cr_assert_not_null(json, "%s in %.300s", error.text, text);
	free(text);
	return json;
}

static void set_stream(struct result_stream *stream, const void *data, size_t len)
{
	stream->data = malloc(len + 1);
	memcpy(stream->data, data, len);
	stream->len = len;
}

Test(result, exact_text_in_the_documented_order)
{
	struct result result = {.id = "sub-42",
		.status = STATUS_EXITED,
		.usage = {812, 310, 402, 1048576, 1, 0, 0, 0, 0, 0, 0},
		.timing = {120000, 40, 290, 60},
		.worker = "host-1",
		.attempt = 1};
	set_stream(&result.out, "3\n", 2);
	result.files = calloc(2, sizeof(*result.files));
	result.nfiles = 2;
	result.files[0] = (struct result_file){.path = strdup("/work/out.txt"), .blob = {0xab}, .bytes = 12};
	result.files[1] = (struct result_file){
		.path = strdup("/work/log"), .as_inline = true, .data = strdup("hi"), .len = 2, .bytes = 2};
	result.has_layer = true;
	result.layer[15] = 1;
	result.meta = json_pack("{s:i}", "n", 7);
	char *text = result_json(&result);
	cr_assert_str_eq(text,
		"{\"id\":\"sub-42\",\"status\":\"exited\",\"exit_code\":0,\"signal\":null,\"message\":\"\","
		"\"field\":null,\"reason\":null,\"usage\":{\"wall_us\":812,\"cpu_user_us\":310,"
		"\"cpu_system_us\":402,\"memory_peak_bytes\":1048576,\"pids_peak\":1,\"pids_limit_hits\":0,"
		"\"io_read_bytes\":0,\"io_write_bytes\":0,\"disk_bytes\":0,\"throttled_us\":0,\"oom_kills\":0},"
		"\"stdout\":{\"data\":\"3\\n\",\"truncated\":false},\"stderr\":{\"data\":\"\",\"truncated\":false},"
		"\"files\":{\"/work/out.txt\":{\"blob\":\"xxh128:ab000000000000000000000000000000\",\"bytes\":12},"
		"\"/work/log\":{\"data\":\"hi\",\"bytes\":2}},"
		"\"layer\":\"xxh128:00000000000000000000000000000001\",\"violation\":null,\"unenforced\":[],"
		"\"meta\":{\"n\":7},\"timing\":{\"queued_us\":120000,\"dispatch_us\":40,\"exec_us\":290,"
		"\"collect_us\":60},\"worker\":\"host-1\",\"attempt\":1}");
	free(text);
	result_clear(&result);
	result_clear(&result);
}

Test(result, every_key_is_there_for_every_status)
{
	static const char *const keys[] = {"id", "status", "exit_code", "signal", "message", "field", "reason", "usage",
		"stdout", "stderr", "files", "layer", "violation", "unenforced", "meta", "timing", "worker", "attempt"};
	for (int status = 0; status < STATUS_MAX; status++) {
		struct result result = {.status = (enum job_status)status, .exit_code = 3, .term_signal = 9};
		json_t *json = round_trip(&result);
		cr_assert_eq(json_object_size(json), ARRAY_SIZE(keys));
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
			cr_assert_not_null(json_object_get(json, keys[i]), "%s", keys[i]);
		cr_assert_eq(json_is_integer(json_object_get(json, "exit_code")), status == STATUS_EXITED);
		cr_assert_eq(json_is_integer(json_object_get(json, "signal")), status == STATUS_SIGNALED);
		cr_assert_eq(json_is_string(json_object_get(json, "field")), status == STATUS_REJECTED);
		cr_assert_eq(json_is_string(json_object_get(json, "reason")), status == STATUS_REJECTED);
		cr_assert_eq(job_status_from_name(json_string_value(json_object_get(json, "status"))),
			(enum job_status)status);
		json_decref(json);
	}
}

Test(result, rejected)
{
	struct result result = {.status = STATUS_REJECTED};
	(void)reject_set(&result.reject, "limits.io.wbps", REJECT_UNSUPPORTED, "needs %s", "io.max");
	json_t *json = round_trip(&result);
	cr_assert_str_eq(json_string_value(json_object_get(json, "field")), "limits.io.wbps");
	cr_assert_str_eq(json_string_value(json_object_get(json, "reason")), "unsupported");
	cr_assert_str_eq(json_string_value(json_object_get(json, "message")), "needs io.max");
	json_decref(json);
	strcpy(result.message, "said by the worker");
	json = round_trip(&result);
	cr_assert_str_eq(json_string_value(json_object_get(json, "message")), "said by the worker");
	json_decref(json);
}

Test(result, violation_unenforced_and_truncated)
{
	struct result result = {.status = STATUS_VIOLATION,
		.violation = "mount",
		.unenforced = {"io.rbps", "io.wbps"},
		.nunenforced = 2,
		.errout = {.truncated = true}};
	json_t *json = round_trip(&result);
	cr_assert_str_eq(json_string_value(json_object_get(json_object_get(json, "violation"), "syscall")), "mount");
	cr_assert_eq(json_array_size(json_object_get(json, "unenforced")), 2);
	cr_assert(json_is_true(json_object_get(json_object_get(json, "stderr"), "truncated")));
	cr_assert(json_is_false(json_object_get(json_object_get(json, "stdout"), "truncated")));
	json_decref(json);
}

Test(result, big_numbers)
{
	struct result result = {.usage = {.memory_peak_bytes = INT64_MAX}, .attempt = UINT32_MAX};
	json_t *json = round_trip(&result);
	cr_assert_eq(
		json_integer_value(json_object_get(json_object_get(json, "usage"), "memory_peak_bytes")), INT64_MAX);
	cr_assert_eq(json_integer_value(json_object_get(json, "attempt")), UINT32_MAX);
	json_decref(json);
}

static const struct {
	const char *bytes;
	size_t len;
	bool text;
} utf8_cases[] = {
	{"", 0, true},
	{"plain ascii, more than eight", 28, true},
	{"\x7f", 1, true},
	{"\x01\x02\x1b[31m\b\f\n\r\t\"\\/", 14, true},
	{"\xc2\x80", 2, true},	       /* U+0080, the first of two bytes */
	{"\xdf\xbf", 2, true},	       /* U+07FF */
	{"\xe0\xa0\x80", 3, true},     /* U+0800 */
	{"\xed\x9f\xbf", 3, true},     /* U+D7FF, just below the surrogates */
	{"\xee\x80\x80", 3, true},     /* U+E000, just above */
	{"\xef\xbf\xbf", 3, true},     /* U+FFFF is a noncharacter, and well-formed */
	{"\xef\xbb\xbfx", 4, true},    /* a byte order mark is kept */
	{"\xe2\x80\xa8", 3, true},     /* U+2028 */
	{"\xf0\x90\x80\x80", 4, true}, /* U+10000 */
	{"\xf4\x8f\xbf\xbf", 4, true}, /* U+10FFFF */
	{"\0", 1, false},
	{"seven..\0", 8, false},
	{"abcdefgh\0", 9, false},
	{"\x80", 1, false}, /* a continuation alone */
	{"\xbf", 1, false},
	{"\xc0\x80", 2, false}, /* overlong NUL */
	{"\xc0\xaf", 2, false}, /* overlong '/' */
	{"\xc1\xbf", 2, false},
	{"\xe0\x80\xaf", 3, false}, /* overlong in three */
	{"\xe0\x9f\xbf", 3, false},
	{"\xf0\x80\x80\xaf", 4, false}, /* overlong in four */
	{"\xf0\x8f\xbf\xbf", 4, false},
	{"\xed\xa0\x80", 3, false},		/* U+D800 */
	{"\xed\xbf\xbf", 3, false},		/* U+DFFF */
	{"\xed\xa0\xbd\xed\xb8\x80", 6, false}, /* a surrogate pair, CESU-8 */
	{"\xf4\x90\x80\x80", 4, false},		/* U+110000 */
	{"\xf5\x80\x80\x80", 4, false},
	{"\xf8\x88\x80\x80\x80", 5, false},
	{"\xfe", 1, false},
	{"\xff", 1, false},
	{"\xc2", 1, false}, /* cut short */
	{"\xe2\x82", 2, false},
	{"\xe2", 1, false},
	{"\xf0\x9f\x98", 3, false},
	{"\xf0\x9f", 2, false},
	{"\xc2"
	 "a",
		2, false}, /* cut short by something else */
	{"\xe2\x82"
	 "a",
		3, false},
	{"\xf0\x9f\x98"
	 "a",
		4, false},
	{"\xe2"
	 "a\x82",
		3, false},
	{"12345678\xff", 9, false},
	{"1234567\xff", 8, false},
};

Test(result, utf8_edges)
{
	for (size_t i = 0; i < ARRAY_SIZE(utf8_cases); i++)
		cr_assert_eq(utf8_is_text(utf8_cases[i].bytes, utf8_cases[i].len), utf8_cases[i].text, "case %zu", i);
	cr_assert_eq(utf8_text_prefix("ab\xe2\x82\xac\xe2\x82", 7), 5);
}

/* At every alignment of the eight-byte steps, beside jansson's own opinion. */
Test(result, utf8_agrees_with_jansson)
{
	for (size_t i = 0; i < ARRAY_SIZE(utf8_cases); i++) {
		for (size_t pad = 0; pad < 17; pad++) {
			char buf[64];
			memset(buf, 'x', sizeof(buf));
			memcpy(buf + pad, utf8_cases[i].bytes, utf8_cases[i].len);
			size_t len = pad + utf8_cases[i].len + pad % 5;
			json_t *json = json_stringn(buf, len);
			bool nul = memchr(buf, 0, len);
			cr_assert_eq(utf8_is_text(buf, len), json && !nul, "case %zu at %zu", i, pad);
			json_decref(json);
		}
	}
}

Test(result, outputs_round_trip_as_text_or_base64)
{
	for (size_t i = 0; i < ARRAY_SIZE(utf8_cases); i++) {
		struct result result = {.status = STATUS_EXITED};
		set_stream(&result.out, utf8_cases[i].bytes, utf8_cases[i].len);
		json_t *json = round_trip(&result);
		json_t *stream = json_object_get(json, "stdout"), *data = json_object_get(stream, "data");
		json_t *base64 = json_object_get(stream, "base64");
		cr_assert_eq(json_object_size(stream), 2);
		cr_assert_eq(data != NULL, utf8_cases[i].text, "case %zu", i);
		char *bytes = NULL;
		size_t len = json_string_length(data);
		if (!data)
			cr_assert_eq(base64_decode(
					     json_string_value(base64), json_string_length(base64), &bytes, &len, NULL),
				0);
		cr_assert_eq(len, utf8_cases[i].len, "case %zu", i);
		cr_assert_eq(
			memcmp(data ? json_string_value(data) : bytes, utf8_cases[i].bytes, len), 0, "case %zu", i);
		free(bytes);
		json_decref(json);
		result_clear(&result);
	}
}

Test(result, every_byte_round_trips)
{
	for (unsigned c = 0; c < 256; c++) {
		char byte = (char)c;
		struct result result = {.status = STATUS_EXITED};
		set_stream(&result.out, &byte, 1);
		json_t *json = round_trip(&result);
		json_t *stream = json_object_get(json, "stdout");
		if (c > 0 && c < 0x80)
			cr_assert_eq(json_string_value(json_object_get(stream, "data"))[0], byte);
		else
			cr_assert_not_null(json_object_get(stream, "base64"));
		json_decref(json);
		result_clear(&result);
	}
}

Test(result, inline_file_that_is_not_text)
{
	struct result result = {.status = STATUS_EXITED, .nfiles = 1};
	result.files = calloc(1, sizeof(*result.files));
	result.files[0] = (struct result_file){.path = strdup("/w/\"q\""), .as_inline = true, .len = 3, .bytes = 3};
	result.files[0].data = malloc(3);
	memcpy(result.files[0].data, "\0\xff\x01", 3);
	json_t *json = round_trip(&result);
	json_t *file = json_object_get(json_object_get(json, "files"), "/w/\"q\"");
	cr_assert_str_eq(json_string_value(json_object_get(file, "base64")), "AP8B");
	cr_assert_eq(json_integer_value(json_object_get(file, "bytes")), 3);
	json_decref(json);
	result_clear(&result);
}

/* Messages and paths may come from a command line or be cut off: the document stays JSON. */
Test(result, bad_bytes_in_messages_are_replaced)
{
	struct result result = {.status = STATUS_INTERNAL_ERROR, .message = "a\xff\xc3(\xe2\x82", .worker = "w\n\x01"};
	json_t *json = round_trip(&result);
	cr_assert_str_eq(json_string_value(json_object_get(json, "message")),
		"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd");
	cr_assert_str_eq(json_string_value(json_object_get(json, "worker")), "w\n\x01");
	json_decref(json);
}

Test(result, meta_is_echoed)
{
	static const char *const metas[] = {"{\"a\":[1,2.5,null,true,\"\\u0000x\"]}", "\"text\"", "7", "[]", "false"};
	for (size_t i = 0; i < ARRAY_SIZE(metas); i++) {
		struct result result = {.status = STATUS_EXITED};
		result.meta = json_loads(metas[i], JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		json_t *json = round_trip(&result);
		cr_assert(json_equal(json_object_get(json, "meta"), result.meta), "%s", metas[i]);
		json_decref(json);
		result_clear(&result);
	}
}

/* The worker writes results on its event loop. The bound is loose, for sanitizers and busy machines. */
Test(result, a_mebibyte_is_quick)
{
	static const char *const fills[] = {"ordinary text\n", "\x01", "\xff", "\xe2\x82\xac"};
	for (size_t i = 0; i < ARRAY_SIZE(fills); i++) {
		struct result result = {.status = STATUS_EXITED};
		size_t len = 1 << 20, unit = strlen(fills[i]);
		result.out = (struct result_stream){.data = malloc(len), .len = len / unit * unit};
		for (size_t at = 0; at < result.out.len; at += unit)
			memcpy(result.out.data + at, fills[i], unit);
		uint64_t start = now_us();
		char *text = result_json(&result);
		uint64_t us = now_us() - start;
		cr_assert_not_null(text);
		cr_assert_lt(us, 500000, "fill %zu took %lu us", i, us);
		free(text);
		result_clear(&result);
	}
}

Test(result, exit_codes)
{
	static const struct {
		struct result result;
		int want;
	} cases[] = {{{.status = STATUS_EXITED, .exit_code = 0}, 0}, {{.status = STATUS_EXITED, .exit_code = 42}, 42},
		{{.status = STATUS_EXITED, .exit_code = 255}, 255},
		{{.status = STATUS_SIGNALED, .term_signal = 11}, 139},
		{{.status = STATUS_SIGNALED, .term_signal = 64}, 192}, {{.status = STATUS_CPU_LIMIT}, 124},
		{{.status = STATUS_WALL_LIMIT}, 124}, {{.status = STATUS_MEMORY_LIMIT, .term_signal = 9}, 137},
		{{.status = STATUS_OUTPUT_LIMIT}, 153}, {{.status = STATUS_DISK_LIMIT, .exit_code = 1}, 122},
		{{.status = STATUS_VIOLATION, .term_signal = 31}, 159},
		{{.status = STATUS_EXEC_FAILED, .exit_code = 126}, 126},
		{{.status = STATUS_EXEC_FAILED, .exit_code = 127}, 127}, {{.status = STATUS_EXEC_FAILED}, 126},
		{{.status = STATUS_CANCELLED}, 130}, {{.status = STATUS_REJECTED}, 125},
		{{.status = STATUS_INTERNAL_ERROR}, 125}, {{.status = STATUS_MAX}, 125}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		cr_assert_eq(result_exit_code(&cases[i].result), cases[i].want, "case %zu", i);
}

Test(result, status_names)
{
	for (int i = 0; i < STATUS_MAX; i++)
		cr_assert_eq(job_status_from_name(job_status_name((enum job_status)i)), (enum job_status)i);
	cr_assert_eq(job_status_from_name("nonesuch"), STATUS_MAX);
	cr_assert_eq(job_status_from_name(""), STATUS_MAX);
	cr_assert_str_eq(job_status_name(STATUS_MAX), "internal_error");
}

Test(base64, vectors_of_rfc_4648)
{
	static const char *const vectors[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
		{"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xbf", "+/+/"}};
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		char text[32] = "", *data = NULL;
		size_t len;
		base64_encode(vectors[i][0], strlen(vectors[i][0]), text);
		cr_assert_str_eq(text, vectors[i][1]);
		cr_assert_eq(strlen(text), base64_encoded_len(strlen(vectors[i][0])));
		cr_assert_eq(base64_decode(text, strlen(text), &data, &len, NULL), 0);
		cr_assert_eq(len, strlen(vectors[i][0]));
		cr_assert_str_eq(data, vectors[i][0]);
		free(data);
	}
}

Test(base64, refused_and_outputs_untouched)
{
	static const char *const wrong[] = {"Z", "Zg", "Zg=", "Zm9v=", "Zm9v====", "====", "=",
		"==", "Zg==Zg==", "Z===", "=AAA", "A=AA", "AA=A", "Zm 9v", "Zm9v\n", "Zm9-", "Zm9_",
		"Zh==", "Zm9=", "Zm9\x80", "Zm9v Zm9v"};
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		char *data = (char *)1;
		size_t len = 77;
		struct err err = ERR_INIT;
		cr_assert_eq(
			base64_decode(wrong[i], strlen(wrong[i]), &data, &len, &err), -EINVAL, "accepted %s", wrong[i]);
		cr_assert_eq(data, (char *)1);
		cr_assert_eq(len, 77);
		cr_assert_str_not_empty(err.msg);
	}
}

Test(base64, every_length_round_trips)
{
	char bytes[300], text[404];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 151 + 7);
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		char *back = NULL;
		size_t n;
		base64_encode(bytes, len, text);
		cr_assert_eq(base64_decode(text, base64_encoded_len(len), &back, &n, NULL), 0);
		cr_assert_eq(n, len);
		cr_assert_eq(memcmp(back, bytes, len), 0);
		free(back);
	}
}

Test(utf8, trim_cuts_half_characters_only)
{
	static const char *const cases[][2] = {{"", ""}, {"abc", "abc"}, {"ab\xe2\x82\xac", "ab\xe2\x82\xac"},
		{"ab\xe2\x82", "ab"}, {"ab\xe2", "ab"}, {"\xc3", ""}, {"\xc3\xa9", "\xc3\xa9"}, {"\xf0\x9f\x98", ""},
		{"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"}, {"a\xf0", "a"}, {"\x80\x80\x80\x80", "\x80\x80\x80\x80"}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char buf[16];
		strcpy(buf, cases[i][0]);
		utf8_trim(buf);
		cr_assert_str_eq(buf, cases[i][1], "case %zu", i);
	}
}
