/*
 * Pins: an operator's word that gc must not take a layer or a blob. pins/<hex> is an empty file, root's; it pins whatever has
 * that id, layer or blob.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "layers/store.h"

/* pin_layer, pin_blob - durably; one that is pinned already stays so. As root. Return: 0, -ENOENT when there is no such thing, -errno. */
int pin_layer(struct store *store, const uint8_t id[16], struct err *err);
int pin_blob(struct store *store, const uint8_t id[16], struct err *err);
/* pin_remove - Return: 0, -ENOENT when it is not pinned, or -errno. */
int pin_remove(struct store *store, const uint8_t id[16], struct err *err);

/* pin_there - is it pinned? Return: 1, 0, or -errno when that cannot be told. Makes nothing: gc runs on full disks. */
int pin_there(struct store *store, const uint8_t id[16]);
