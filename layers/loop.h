/* Loop devices, loop(4). */
#pragma once

#include <stddef.h>
#include <sys/stat.h>

#include "base/err.h"

#define LOOP_NAME_MAX 32

/*
 * loop_attach - attach the file to a free loop device that lets go of it with its last user (autoclear).
 * @ret_name: "/dev/loopN". Return: the device's fd (caller owns; hold it until it is mounted), or -errno.
 */
int loop_attach(int file, char ret_name[LOOP_NAME_MAX], struct err *err);

/* loop_backs - whether block device dev is a loop device over the file that st describes. */
int loop_backs(dev_t dev, const struct stat *st, char ret_name[LOOP_NAME_MAX]);
