/*
 * Tries: the kernel's other system call tables: all numbers of the 32-bit one by int 0x80, from 64-bit code and from a 32-bit code
 * segment that a far return enters; those of x32; and a wrapped number (high half set).
 * Must: be refused with ENOSYS, each.
 * Stopped by: the fixed filter, which knows one architecture and no x32 bit.
 * Without it: (fixed filter and policies without a check of the architecture) "BROKEN: getpid by int 0x80"; with one of the two
 * left, nothing.
 */
#include <signal.h>
#include <sys/syscall.h>

#include "reach.h"

#if defined(__x86_64__)
static long int80(long nr, long a, long b, long c)
{
	long ret;
	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(0), "D"(0)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}

/* In memory that 32-bit code reaches: int 0x80 and a far return; half a KiB on, the way back, in 64-bit code; above that the stack. */
static long from_32_bit_segment(char *low, long nr)
{
	static const unsigned char there[] = {0xcd, 0x80, /* int $0x80 */ 0xcb /* lret */}, back[] = {0x41, 0xff, 0xe5 /* jmp *%r13 */};
	memcpy(low, there, sizeof(there));
	memcpy(low + 512, back, sizeof(back));
	long ret = nr;
	__asm__ volatile("mov %%rsp, %%r12\n"
			 "lea 2048(%[low]), %%rsp\n"
			 "lea 1f(%%rip), %%r13\n"
			 "lea 512(%[low]), %%rcx\n"
			 "movl %%ecx, (%%rsp)\n"
			 "movl $0x33, 4(%%rsp)\n" /* what the lret pops: offset and selector of 4 bytes each */
			 "xor %%ebx, %%ebx\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n xor %%esi, %%esi\n xor %%edi, %%edi\n"
			 "pushq $0x23\n"
			 "pushq %[low]\n"
			 "lretq\n"
			 "1: mov %%r12, %%rsp\n"
			 : "+a"(ret)
			 : [low] "r"(low)
			 : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "memory", "cc");
	return (int)ret;
}
#endif

int main(void)
{
#if defined(__x86_64__)
	must(int80(20, 0, 0, 0) == -ENOSYS, "getpid by int 0x80"); /* before those that end or stop this process */
	must_fail_as("getpid of x32", syscall(0x40000000 | SYS_getpid), ENOSYS);
	int wrong = 0;
	for (long nr = 0; nr <= 470; nr++)
		wrong += int80(nr, 0, 0, 0) != -ENOSYS;
	must(wrong == 0, "int 0x80: %d of 471 numbers answered", wrong);
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	wrong = low == MAP_FAILED;
	for (long nr = 0; low != MAP_FAILED && nr <= 470; nr++)
		wrong += from_32_bit_segment(low, nr) != -ENOSYS;
	must(wrong == 0, "from a 32-bit segment: %d of 471 numbers answered", wrong);
	wrong = 0;
	for (unsigned long nr = 0; nr <= 600; nr++) /* which would be exit, fork and so on: refused before they are looked at */
		wrong += syscall((long)(0x40000000UL | nr), 0, 0, 0, 0, 0, 0) != -1 || errno != ENOSYS;
	must(wrong == 0, "x32: %d of 601 numbers answered", wrong);
	static const unsigned long odd[] = {0xffffffffUL, 0x80000000UL, 0xc0000000UL, 0x20000027UL};
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		must_fail_as("a number far off", syscall((long)odd[i], 0, 0, 0, 0, 0, 0), ENOSYS);
#else
	held("no other table on this architecture");
#endif
	return finish();
}
