/* Profiles as Docker and podman publish them, unmodified. They are not part of petri: looked for where packages put
 * them, and in $PETRI_DOCKER_PROFILE. */
#include "policies_util.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/fd.h"

static const char *const docker[] = {
	"/usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json",
	"/usr/share/gocode/src/github.com/moby/moby/profiles/seccomp/default.json",
	NULL,
};
static const char *const podman[] = {"/usr/share/containers/seccomp.json", NULL};

/* Return: the program of the first file that is there, or false. */
static bool load_first(const char *first, const char *const *paths, struct policy_program *ret)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	if (!first || fd_read_file(AT_FDCWD, first, 1 << 20, &text, &len, NULL) < 0)
		for (; *paths && fd_read_file(AT_FDCWD, *paths, 1 << 20, &text, &len, NULL) < 0; paths++)
			;
	if (!text)
		return false;
	struct policy *policy = NULL;
	struct err err = ERR_INIT;
	cr_assert_eq(policy_parse("docker", text, len, &policy, &err), 0, "%s", err_msg(&err));
	*ret = compile_policy(policy);
	return true;
}

/* What both agree on. */
static void check_common(const struct policy_program *p)
{
	static const char *const allowed[] = {"read", "openat", "execve", "futex", "mmap", "ptrace", "bind", "connect",
		"seccomp", "inotify_init1"};
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
		cr_assert_eq(try0(p, allowed[i]), ALLOW, "%s", allowed[i]);
	/* Allowed there to those who hold a capability, which no job does. */
	static const char *const refused[] = {"bpf", "open_by_handle_at", "init_module", "acct", "iopl",
		"settimeofday", "vhangup", "kexec_load", "swapon"};
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		cr_assert_eq(try0(p, refused[i]) & SECCOMP_RET_ACTION_FULL, SECCOMP_RET_ERRNO, "%s", refused[i]);
	cr_assert_eq(try3(p, "socket", AF_INET, SOCK_STREAM, 0), ALLOW);
	cr_assert_eq(try3(p, "personality", 0x20008, 0, 0), ALLOW);
	cr_assert_eq(try3(p, "personality", 0x40000, 0, 0) & SECCOMP_RET_ACTION_FULL, SECCOMP_RET_ERRNO);
	cr_assert(!p->notifies && p->allows_sockets && p->allows_launch);
}

Test(policies_docker, docker_loads_unmodified)
{
	struct policy_program p;
	if (!load_first(getenv("PETRI_DOCKER_PROFILE"), docker, &p))
		cr_skip_test("no Docker seccomp profile: set PETRI_DOCKER_PROFILE, or install golang-github-docker-docker-dev");
	check_common(&p);
	cr_assert_eq(try3(&p, "clone", 0x1200011, 0, 0), ALLOW);
	cr_assert_eq(try3(&p, "clone", 0x10000011, 0, 0), ERRNO(EPERM), "CLONE_NEWUSER");
	cr_assert_eq(try0(&p, "clone3"), ERRNO(ENOSYS));
	cr_assert_eq(try0(&p, "mount"), ERRNO(EPERM));
	cr_assert_eq(try0(&p, "unshare"), ERRNO(EPERM));
	policy_program_free(&p);
}

Test(policies_docker, podman_loads_unmodified)
{
	struct policy_program p;
	if (!load_first(NULL, podman, &p))
		cr_skip_test("no /usr/share/containers/seccomp.json: install golang-github-containers-common");
	check_common(&p);
	cr_assert_eq(try3(&p, "socket", AF_NETLINK, SOCK_RAW, 9), ERRNO(EINVAL), "NETLINK_AUDIT");
	cr_assert_eq(try3(&p, "socket", AF_NETLINK, SOCK_RAW, 0), ALLOW);
	cr_assert_eq(try3(&p, "socket", AF_INET, SOCK_RAW, 9), ALLOW);
	cr_assert_eq(try0(&p, "bpf"), ERRNO(EPERM));
	policy_program_free(&p);
}
