/*
 * Files that several layers have are stored once: objects/ab/<hex> is a hard link of the first one, and later ones become
 * links to it, or share its blocks where the filesystem can (FIDEDUPERANGE). Root's, after an import; not for commits,
 * which are not synced.
 */
#pragma once

#include "layers/layer.h"

/* share_use - in a layer in the making: let files give way to equal objects. Best effort: what fails stays as it is. */
void share_use(struct store *store, struct layer_temp *temp);
/* share_offer - make objects of a published layer's files. Its content must be durable. @tree: an fd of its `tree`. */
void share_offer(struct store *store, int diff, int tree);
