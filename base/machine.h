/*
 * The machine that petri is compiled for. What reads system calls, filters of them above all, was written for these two, and says so
 * at compile time rather than let something else through.
 */
#pragma once

#include <linux/audit.h>

/* MACHINE_AUDIT_ARCH: what seccomp_data.arch must be. MACHINE_OCI_NAME: what image indexes and seccomp profiles call the machine. */
#if defined(__x86_64__)
#define MACHINE_AUDIT_ARCH AUDIT_ARCH_X86_64
#define MACHINE_OCI_NAME "amd64"
#elif defined(__aarch64__)
#define MACHINE_AUDIT_ARCH AUDIT_ARCH_AARCH64
#define MACHINE_OCI_NAME "arm64"
#else
#error "petri knows the system calls of x86-64 and aarch64 only"
#endif

/* The filters look for the low words of arguments at the lower address. The kernel of a big-endian aarch64 has the same
 * AUDIT_ARCH_AARCH64 (syscall_get_arch(), arch/arm64/include/asm/syscall.h): they would be in force there, and look at the wrong half. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "petri's filters are for little-endian machines"
#endif

/* x32 and ILP32 have system calls of their own, which the filters refuse. */
#if !defined(__LP64__)
#error "petri is for 64-bit programs"
#endif
