/*
 * Files that several layers have are stored once: objects/ab/<hex> is a hard link of the first one, and later ones become
 * links to it, or share its blocks where the filesystem can (FIDEDUPERANGE). Root's, after an import; not for commits,
 * which are not synced.
 */
#pragma once

#include "layers/layer.h"

/*
 * share_large - in a layer in the making, before it is synced: let large files give way to equal objects, so that they need
 * not be written to the disk. Best effort: what fails stays as it is.
 */
void share_large(struct store *store, struct layer_temp *temp);
/* share_all - when its content is durable: the rest of its files, and make objects of those that are new. Best effort. */
void share_all(struct store *store, struct layer_temp *temp);
