/*
 * The form of petri's configuration files: lines `key = value`, `# comment`, `[section]`. A value may be in double quotes, with \" and
 * \\ inside; it must be where it begins or ends with a blank or holds a '#' or '"'. Behind a value a comment may follow, after a blank.
 * Everything else is an error with its line: no continuation, no control characters, no guess at what was meant.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define CONFIG_FILE_MAX (1u << 20)
#define CONFIG_LINE_MAX 4096

/* Called for each line with a key. @section: "" before the first. Return: 0 or -errno, with a message that config_parse() puts the
 * file's name and the line before. */
typedef int (*config_fn)(void *ctx, const char *section, const char *key, const char *value, unsigned line, struct err *err);

/*
 * config_parse - read a configuration text.
 * @name: of the file, for messages. Messages of the form never repeat a value, which may be a secret.
 * Return: 0, or -errno at the first fault; what came before it was delivered.
 */
int config_parse(const char *name, const char *text, size_t len, config_fn fn, void *ctx, struct err *err);

/* config_quote - a value as config_parse() reads it back, in quotes where it needs them. Return: false when @ret is too small, or when
 * the value has a control character and cannot be written. */
bool config_quote(const char *value, char *ret, size_t cap);
