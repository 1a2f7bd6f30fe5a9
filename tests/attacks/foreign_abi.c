/*
 * Tries: the kernel's other system call tables. x86-64: all numbers of the 32-bit one by int 0x80, from 64-bit code and from a 32-bit
 * code segment that a far return enters; those of x32; and a wrapped number (high half set). aarch64: all numbers of the 32-bit one,
 * and ARM's private ones, from a 32-bit program, where CPU and kernel run such.
 * Must: be refused with ENOSYS, each.
 * Stopped by: the fixed filter, which knows one architecture and no x32 bit.
 * Without it: (fixed filter and policies without a check of the architecture) "BROKEN: getpid by int 0x80"; with one of the two
 * left, nothing. On aarch64: "BROKEN: the 32-bit program's calls: it ended with 0xb".
 */
#include <elf.h>
#include <stdint.h>
#include <sys/wait.h>

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

static void foreign_tables(void)
{
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
}
#elif defined(__aarch64__)
#define ARM_BASE 0x10000u

/*
 * A program of 32-bit ARM instructions, its headers and all one loaded segment. When all is as it should be it can neither speak nor
 * exit: it ends by SIGILL then, and by SIGSEGV as soon as a call is answered with anything but -ENOSYS.
 */
static const struct {
	Elf32_Ehdr head;
	Elf32_Phdr load;
	uint32_t code[18];
} arm_program = {
	.head = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_ARM,
		.e_version = EV_CURRENT,
		.e_entry = ARM_BASE + sizeof(Elf32_Ehdr) + sizeof(Elf32_Phdr),
		.e_phoff = sizeof(Elf32_Ehdr),
		.e_flags = EF_ARM_EABI_VER5,
		.e_ehsize = sizeof(Elf32_Ehdr),
		.e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = 1,
	},
	.load = {.p_type = PT_LOAD, .p_vaddr = ARM_BASE, .p_filesz = sizeof(arm_program), .p_memsz = sizeof(arm_program), .p_flags = PF_R | PF_X, .p_align = 0x10000},
	.code = {
		0xe3a04000, /* mov r4, #0 */
		0xe3a05c02, /* mov r5, #512 */
		0xe1a07004, /* call: mov r7, r4 */
		0xe3a00000, /* mov r0, #0 */
		0xe3a01000, /* mov r1, #0 */
		0xe3a02000, /* mov r2, #0 */
		0xe3a03000, /* mov r3, #0 */
		0xef000000, /* svc #0 */
		0xe3700026, /* cmn r0, #38: ENOSYS */
		0x15811000, /* strne r1, [r1]: SIGSEGV */
		0xe2844001, /* add r4, r4, #1 */
		0xe1540005, /* cmp r4, r5 */
		0x1afffff4, /* bne call */
		0xe3550c02, /* cmp r5, #512 */
		0x03a0480f, /* moveq r4, #0xf0000: the private ones, breakpoint to get_tls */
		0x02845008, /* addeq r5, r4, #8 */
		0x0afffff0, /* beq call */
		0xe7f000f0, /* udf #0: SIGILL */
	},
};

static void start_arm_program(void *arg)
{
	char *argv[] = {arg, NULL};
	(void)execve(argv[0], argv, argv + 1);
	if (errno != ENOEXEC)
		broken("the 32-bit program: %s", strerror(errno));
	_exit(errno == ENOEXEC ? 126 : 99);
}

static void foreign_tables(void)
{
	static char path[] = "/work/arm";
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	must(fd >= 0 && write(fd, &arm_program, sizeof(arm_program)) == (ssize_t)sizeof(arm_program) && close(fd) == 0, "a 32-bit program");
	int status = in_child(start_arm_program, path);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 126)
		held("this machine runs no 32-bit programs");
	else
		must(WIFSIGNALED(status) && WTERMSIG(status) == SIGILL, "the 32-bit program's calls: it ended with %#x", (unsigned)status);
}
#endif

int main(void)
{
	foreign_tables();
	return finish();
}
