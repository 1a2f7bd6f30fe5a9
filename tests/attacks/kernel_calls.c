/*
 * Tries: calls that reach deep into the kernel: rings (io_uring), keyctl with every operation and on every special keyring, add_key and
 *   request_key of every type, bpf with every command, perf_event_open of itself, of a CPU and of tracepoints, userfaultfd (also of
 *   user mode only, and by its device), kcmp with the init, the log, ports, modules, other kernels, accounting, swap.
 * Must: be refused with ENOSYS or EPERM, each, or the job ends by violation.
 * Stopped by: the fixed filter (rings, keys, bpf) and the policies; beneath them no capability, and a /dev of five nodes.
 * Without it: (policies that allow everything) "BROKEN: perf_event_open of itself 1: 3, went through", "userfaultfd of user mode"; (the
 *   fixed filter's rules on rings, keys and bpf left out as well) 344 BROKEN, of which "io_uring_setup 0: 3, went through" and "keyctl 0:
 *   229295881, went through".
 */
// expect judge: violation keyctl
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/kcmp.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>

#include "attack.h"

static unsigned refused;

/* Said of those that were not refused only: there are hundreds. */
static void attempt(const char *what, int detail, long result)
{
	if (result < 0 && (errno == ENOSYS || errno == EPERM))
		refused++;
	else
		broken("%s %d: %ld, %s", what, detail, result, result < 0 ? strerror(errno) : "went through");
}

static void tell(const char *what)
{
	held("%u attempts at %s", refused, what);
	refused = 0;
}

#define USER_MODE_ONLY 1

static void rings(void)
{
	struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
	attempt("io_uring_setup", 0, syscall(SYS_io_uring_setup, 4, &params));
	for (int fd = -1; fd < 20; fd++) {
		attempt("io_uring_enter", fd, syscall(SYS_io_uring_enter, fd, 1, 0, 0, NULL, 0));
		attempt("io_uring_register", fd, syscall(SYS_io_uring_register, fd, IORING_REGISTER_PROBE, NULL, 0));
	}
}

static void keys(void)
{
	static const char *const types[] = {"user", "logon", "big_key", "keyring", "asymmetric", "encrypted", "trusted", "dns_resolver", ".request_key_auth"};
	for (int op = 0; op < 36; op++)
		for (int ring = KEY_SPEC_REQKEY_AUTH_KEY; ring <= KEY_SPEC_THREAD_KEYRING; ring++)
			attempt("keyctl", op, syscall(SYS_keyctl, op, ring, 0, 0, 0));
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		attempt("add_key", (int)i, syscall(SYS_add_key, types[i], "attack", "x", 1, KEY_SPEC_USER_KEYRING));
		attempt("request_key", (int)i, syscall(SYS_request_key, types[i], "attack", "x", KEY_SPEC_PROCESS_KEYRING));
	}
}

static void programs(void)
{
	union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
	for (int command = 0; command < 48; command++)
		attempt("bpf", command, syscall(SYS_bpf, command, &attr, sizeof(attr)));
}

static void events(void)
{
	static const unsigned types[] = {PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT, PERF_TYPE_RAW, PERF_TYPE_BREAKPOINT};
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct perf_event_attr attr = {.type = types[i], .size = sizeof(attr), .exclude_kernel = 1, .exclude_hv = 1};
		attempt("perf_event_open of itself", (int)i, syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
		attempt("perf_event_open of a CPU", (int)i, syscall(SYS_perf_event_open, &attr, -1, 0, -1, 0));
	}
}

static void faults(void)
{
	attempt("userfaultfd", 0, syscall(SYS_userfaultfd, O_CLOEXEC));
	attempt("userfaultfd of user mode", 0, syscall(SYS_userfaultfd, O_CLOEXEC | USER_MODE_ONLY));
	must_fail(open("/dev/userfaultfd", O_RDWR), ENOENT);
}

static void machine(void)
{
	char page[4096] = "x";
	attempt("kcmp with the init", 0, syscall(SYS_kcmp, 1, getpid(), KCMP_FILE, 1, 1));
	for (int action = 0; action <= 10; action++)
		attempt("syslog", action, syscall(SYS_syslog, action, page, 16));
#if defined(__x86_64__)
	attempt("iopl", 0, syscall(SYS_iopl, 3));
	attempt("ioperm", 0, syscall(SYS_ioperm, 0x80, 1, 1));
#endif
	attempt("init_module", 0, syscall(SYS_init_module, page, sizeof(page), ""));
	attempt("finit_module", 0, syscall(SYS_finit_module, 0, "", 0));
	attempt("delete_module", 0, syscall(SYS_delete_module, "loop", O_NONBLOCK));
	attempt("kexec_load", 0, syscall(SYS_kexec_load, 0, 0, NULL, 0));
	attempt("acct", 0, syscall(SYS_acct, "/work/acct"));
	attempt("swapon", 0, syscall(SYS_swapon, "/work/swap", 0));
	attempt("swapoff", 0, syscall(SYS_swapoff, "/work/swap"));
}

int main(void)
{
	rings();
	tell("rings");
	keys();
	tell("keys");
	programs();
	tell("programs in the kernel");
	events();
	tell("events");
	faults();
	tell("page faults");
	machine();
	tell("the machine");
	return finish();
}
