/*
 * Raw system calls that glibc 2.36 does not wrap, and small kernel idioms. All return -errno on failure,
 * never set errno, and are async-signal-safe, so that they can be used after clone.
 */
#pragma once

#include <linux/openat2.h>
#include <sched.h>
#include <linux/sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mount_attr;
struct sock_fprog;

/* clone3(2) without a stack: like fork. Return: the child's pid, 0 in the child, or -errno. */
pid_t sys_clone3(struct clone_args *args);
int sys_pidfd_open(pid_t pid, unsigned flags);
int sys_pidfd_send_signal(int pidfd, int sig);
int sys_openat2(int dirfd, const char *path, const struct open_how *how);
int sys_close_range(unsigned first, unsigned last, unsigned flags);

int sys_open_tree(int dirfd, const char *path, unsigned flags);
int sys_move_mount(int from, const char *from_path, int to, const char *to_path, unsigned flags);
int sys_fsopen(const char *fs, unsigned flags);
int sys_fspick(int dirfd, const char *path, unsigned flags);
int sys_fsconfig(int fd, unsigned cmd, const char *key, const void *value, int aux);
int sys_fsmount(int fd, unsigned flags, unsigned attrs);
int sys_mount_setattr(int dirfd, const char *path, unsigned flags, const struct mount_attr *attr);
int sys_pivot_root(const char *new_root, const char *put_old);

int sys_quotactl_fd(int fd, unsigned cmd, int id, void *addr);
int sys_seccomp(unsigned op, unsigned flags, void *args);
int sys_keyctl_join_session(void);

/* sys_drop_bounding_set - remove every capability from the bounding and ambient sets. capabilities(7). */
int sys_drop_bounding_set(void);
/* SYS_CAP - the bit of a capability in the sets below. */
#define SYS_CAP(name) (UINT64_C(1) << CAP_##name)
/* sys_bound_caps - remove all but these from the bounding set, and all from the ambient one. */
int sys_bound_caps(uint64_t keep);
/* sys_keep_caps - keep these, as far as they are there, as permitted and effective; nothing is inheritable. */
int sys_keep_caps(uint64_t keep);
/* sys_drop_caps - empty the permitted, effective and inheritable sets of this thread. */
int sys_drop_caps(void);

/* now_us, now_ns - CLOCK_MONOTONIC. */
uint64_t now_us(void);
uint64_t now_ns(void);
/* wall_ms, wall_us - since the epoch, CLOCK_REALTIME. */
uint64_t wall_ms(void);
uint64_t wall_us(void);
