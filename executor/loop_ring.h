/* The worker's ring, restricted: a seccomp filter does not see what a ring is asked to do, so the ring itself must refuse. */
#pragma once

#include <liburing.h>

/*
 * ring_open - make a ring that serves only the loop's operations: read, fsync, poll and cancel, without any flag that moves work
 * to other files or threads, and that lets nothing be registered any more. Any other operation completes with -EACCES.
 * Return: 0, or -errno of io_uring_setup(2), or of io_uring_register(2) where the kernel cannot restrict (before 5.10).
 */
int ring_open(unsigned entries, struct io_uring *ring);
