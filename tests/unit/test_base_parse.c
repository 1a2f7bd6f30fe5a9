#include <criterion/criterion.h>

#include "base/parse.h"

Test(parse, sizes)
{
	uint64_t v = 0;
	cr_assert_eq(parse_size("64M", &v, NULL), 0);
	cr_assert_eq(v, 64ULL << 20);
	cr_assert_eq(parse_size("1.5G", &v, NULL), 0);
	cr_assert_eq(v, 3ULL << 29);
	cr_assert_eq(parse_size("4096", &v, NULL), 0);
	cr_assert_eq(v, 4096);
	cr_assert_eq(parse_size("10KiB", &v, NULL), 0);
	cr_assert_eq(v, 10240);
	cr_assert_eq(parse_size("10kB", &v, NULL), 0);
	cr_assert_eq(v, 10240);
	cr_assert_eq(parse_size("7B", &v, NULL), 0);
	cr_assert_eq(v, 7);
}

Test(parse, sizes_refused_and_output_untouched)
{
	static const char *const wrong[] = {"", "M", "-1", "+1", " 1", "1 ", "1.", ".5", "1X", "1MM", "1BB", "0x10",
		"18446744073709551616", "99999999T", "1e3"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint64_t v = 77;
		struct err err = ERR_INIT;
		cr_assert_lt(parse_size(wrong[i], &v, &err), 0, "accepted '%s'", wrong[i]);
		cr_assert_eq(v, 77);
		cr_assert_neq(err.msg[0], '\0');
	}
}

Test(parse, durations)
{
	uint64_t ms = 0;
	cr_assert_eq(parse_duration_ms("10s", &ms, NULL), 0);
	cr_assert_eq(ms, 10000);
	cr_assert_eq(parse_duration_ms("2", &ms, NULL), 0);
	cr_assert_eq(ms, 2000);
	cr_assert_eq(parse_duration_ms("0.25s", &ms, NULL), 0);
	cr_assert_eq(ms, 250);
	cr_assert_eq(parse_duration_ms("1h", &ms, NULL), 0);
	cr_assert_eq(ms, 3600000);
	cr_assert_eq(parse_duration_ms("0.1ms", &ms, NULL), 0);
	cr_assert_eq(ms, 1, "rounded up, so that a limit never becomes none");
	cr_assert_lt(parse_duration_ms("10parsecs", &ms, NULL), 0);
	cr_assert_lt(parse_duration_ms("-1s", &ms, NULL), 0);
}

Test(parse, cpu_lists)
{
	unsigned max = 0;
	cr_assert_eq(parse_cpu_list("0-1,3", &max, NULL), 0);
	cr_assert_eq(max, 3);
	cr_assert_lt(parse_cpu_list("1-0", &max, NULL), 0);
	cr_assert_lt(parse_cpu_list("", &max, NULL), 0);
	cr_assert_lt(parse_cpu_list("0,", &max, NULL), 0);
	cr_assert_lt(parse_cpu_list("a", &max, NULL), 0);
}

Test(parse, ids_round_trip)
{
	uint8_t id[16];
	char text[ID128_TEXT_MAX];
	cr_assert_eq(parse_id128("xxh128:00112233445566778899aabbccddeeff", id, NULL), 0);
	format_id128(id, text);
	cr_assert_str_eq(text, "xxh128:00112233445566778899aabbccddeeff");
	cr_assert_lt(parse_id128("xxh128:00112233445566778899AABBCCDDEEFF", id, NULL), 0);
	cr_assert_lt(parse_id128("xxh128:0011", id, NULL), 0);
	cr_assert_lt(parse_id128("../../../../etc/passwd", id, NULL), 0);
}
