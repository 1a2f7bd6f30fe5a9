/* Redis URLs: whatever is accepted fits its fields, and is accepted again in its printed form. */
#include <stdlib.h>
#include <string.h>

#include "executor/queue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[1024], again[1024];
	struct redis_url url, second;
	struct err err = ERR_INIT;
	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	if (redis_url_parse(text, true, &url, &err) < 0) {
		if (!err.msg[0])
			abort();
		return 0;
	}
	redis_url_format(&url, again, sizeof(again));
	if (redis_url_parse(again, false, &second, &err) < 0)
		abort();
	if (strcmp(url.host, second.host) || strcmp(url.path, second.path) || url.port != second.port ||
		url.db != second.db)
		abort();
	return 0;
}
