/*
 * The gate through a slot's own filters. Compiling a policy's filter into the kernel costs more than all else that makes a
 * zygote, so it is installed once, in the slot's room, and every zygote inherits it. What a room and an init must still be
 * able to do afterwards (mounts, namespaces, ids) passes by a key: the calls listed in gate_calls() are let through when
 * their sixth argument, which none of them has, is a random number of 64 bits that only the room knows.
 *
 * No job can learn the key: it lies in memory that ends with execve(2) (the registers too), of processes that the job can
 * neither see nor trace. And the key alone would open nothing: all that these calls can do needs capabilities, of which a job
 * has none, in a user namespace that lets it make no other.
 *
 * These calls never touch errno: a room, its init and its child share one memory until the job's exec.
 */
#pragma once

#include <linux/filter.h>
#include <linux/sched.h>
#include <stdint.h>

/* gate_key - the key of this process and of all that share or copy its memory; 0 until gate_make_key(). */
uint64_t gate_key(void);
int gate_make_key(void);

/* gate_calls - the system calls of the gate. Return: how many. */
unsigned gate_calls(const unsigned **ret);

/* gate_build - the instructions that let the gate's calls pass, to be put before a filter's own. Return: how many, at most cap. */
unsigned gate_build(struct sock_filter *insns, unsigned cap, uint64_t key);

/* gate_raw, gate0 … gate5 - a system call of so many arguments, with the key as the sixth. Return: its result, or -errno. */
#define GATE_ARG(x) ((long)(x))
#define gate0(nr) gate_raw(nr, 0, 0, 0, 0, 0)
#define gate1(nr, a) gate_raw(nr, GATE_ARG(a), 0, 0, 0, 0)
#define gate2(nr, a, b) gate_raw(nr, GATE_ARG(a), GATE_ARG(b), 0, 0, 0)
#define gate3(nr, a, b, c) gate_raw(nr, GATE_ARG(a), GATE_ARG(b), GATE_ARG(c), 0, 0)
#define gate4(nr, a, b, c, d) gate_raw(nr, GATE_ARG(a), GATE_ARG(b), GATE_ARG(c), GATE_ARG(d), 0)
#define gate5(nr, a, b, c, d, e) gate_raw(nr, GATE_ARG(a), GATE_ARG(b), GATE_ARG(c), GATE_ARG(d), GATE_ARG(e))

long gate_raw(long nr, long a, long b, long c, long d, long e);

/*
 * gate_clone - clone3(2) of a process that shares this memory (CLONE_VM), on the stack in args, where it runs fn(arg) and
 * ends when that returns. Return: its pid, or -errno.
 */
long gate_clone(struct clone_args *args, void (*fn)(void *arg), void *arg);
