/*
 * Tries: to find the key of the gate, by which petri's own calls pass the filters: on the stack that exec left, in the auxiliary
 * vector, in all memory that is mapped, in values that are easily guessed and in many random ones; each as the sixth argument of
 * clone3, which is refused without it.
 * Must: find nothing: clone3 stays ENOSYS.
 * Stopped by: the key is a random number of 64 bits in memory that the job's exec leaves.
 * Without it: (a constant key, which is among the guesses) "BROKEN: the key is 0x123456789abcdef0".
 */
#include <elf.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "reach.h"

static unsigned long tries;

static void try(unsigned long key)
{
	tries++;
	/* A structure of no size: EINVAL from the kernel, should it get there. */
	static int found;
	if ((syscall(SYS_clone3, NULL, 0UL, 0UL, 0UL, 0UL, key) >= 0 || errno != ENOSYS) && found++ < 8)
		broken("the key is %#lx: %s", key, strerror(errno));
}

static const char *at(unsigned long address)
{
	const char *p;
	memcpy(&p, &address, sizeof(p));
	return p;
}

static void try_range(const char *from, const char *to)
{
	for (const char *p = from; p + sizeof(unsigned long) <= to; p += 4) {
		unsigned long value;
		memcpy(&value, p, sizeof(value));
		try(value);
	}
}

/* The stack, the vdso's data, and whatever else is mapped and readable. */
static void try_mappings(void)
{
	static char maps[16384];
	(void)read_text("/proc/self/maps", maps, sizeof(maps));
	char *rest = NULL;
	for (char *line = strtok_r(maps, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		unsigned long from, to;
		char mode;
		if (sscanf(line, "%lx-%lx %c", &from, &to, &mode) != 3 || mode != 'r' || strstr(line, "[vvar") || strstr(line, "[vsyscall"))
			continue;
		if (to - from > 0x40000 && !strstr(line, "[stack]"))
			continue;
		try_range(at(from), at(to));
	}
}

int main(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	static const unsigned long guesses[] = {0, 1, ~0UL, 0xdeadbeefUL, 0x123456789abcdef0UL, 1000, 0x8000000000000000UL};
	for (size_t i = 0; i < sizeof(guesses) / sizeof(guesses[0]); i++)
		try(guesses[i]);
	char **p = envp;
	while (*p)
		p++;
	for (const Elf64_auxv_t *aux = (const Elf64_auxv_t *)(const void *)(p + 1); aux->a_type != AT_NULL; aux++) {
		try(aux->a_un.a_val);
		if (aux->a_type == AT_RANDOM)
			try_range(at(aux->a_un.a_val), at(aux->a_un.a_val) + 16);
	}
	try_mappings();
	for (int i = 0; i < 20000; i++) {
		unsigned long value;
		if (getrandom(&value, sizeof(value), 0) == sizeof(value))
			try(value);
	}
	must(tries > 20000, "%lu keys", tries);
	return finish();
}
