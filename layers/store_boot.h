/* An entry that has a store on a loop device mounted at boot: a line for fstab(5), or a unit of systemd.mount(5). */
#pragma once

#include <stddef.h>

#include "base/err.h"

#define STORE_BOOT_MAX 36864 /* of an entry: two paths, each of whose bytes may take four */

/* store_boot_fstab - the line, without its end, for the store that is mounted at state. Return: 0 or -errno. */
int store_boot_fstab(const char *state, char ret[STORE_BOOT_MAX], struct err *err);

/*
 * store_boot_write - put the entry into file. @file: "….mount" becomes a unit, which must have the name that systemd wants for the path;
 * anything else is taken for a table such as /etc/fstab, to which the line is added, unless it is there. Replaced as a whole,
 * with its mode; the file may not be a link. Return: 0, 1 when the table had the entry already, -EEXIST when it has another one for
 * state, or -errno.
 */
int store_boot_write(const char *state, const char *file, struct err *err);
