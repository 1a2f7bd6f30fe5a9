/* JSON text straight into a stream: what jansson does for trees, but linear and cheap for outputs of a MiB
 * made of control characters, for which it takes a tenth of a second, on the event loop. */
#pragma once

#include <stddef.h>
#include <stdio.h>

/* text_string - a quoted JSON string; bytes that are not UTF-8 become U+FFFD, NUL is escaped. */
void text_string(FILE *f, const char *data, size_t len);
/* text_data - "data":"…" where it is UTF-8 without NUL, else "base64":"…". */
void text_data(FILE *f, const char *data, size_t len);
