/*
 * Tries: to make device nodes of every kind in every place where it may make files, with the kind hidden in bits that the kernel cuts
 * off; to open what the host has in /dev; and to change the machine's random pool or the nodes that it has.
 * Must: be refused: mknod with EPERM, what is not there with ENOENT, the random pool with EPERM.
 * Stopped by: the policies' rules on mknod and mknodat; beneath them CAP_MKNOD of the host's, which nothing in a sandbox has, and nodev
 * on the places. The root's own /dev, made by petri, has five nodes.
 * Without it: (policies that allow everything) "BROKEN: /work: mode 020666 of 0:0: went through", a whiteout; other nodes and the
 * random pool take the host's capabilities, which no change to petri gives.
 */
#include "reach.h"

#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

static void make(const char *dir)
{
	static const struct {
		unsigned kind, major, minor;
	} nodes[] = {{S_IFCHR, 1, 1}, {S_IFCHR, 1, 3}, {S_IFCHR, 1, 11}, {S_IFCHR, 5, 0}, {S_IFCHR, 5, 2}, {S_IFCHR, 10, 200}, {S_IFCHR, 10, 229},
		{S_IFCHR, 10, 232}, {S_IFCHR, 0, 0}, {S_IFBLK, 8, 0}, {S_IFBLK, 7, 0}, {S_IFBLK, 254, 0}, {S_IFBLK, 0, 0}};
	char path[64], what[128];
	(void)snprintf(path, sizeof(path), "%s/node", dir);
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
		for (unsigned long high = 0; high <= 0x100000000UL; high += 0x100000000UL) {
			unsigned long mode = high | nodes[i].kind | 0666, dev = makedev(nodes[i].major, nodes[i].minor);
			(void)snprintf(what, sizeof(what), "%s: mode %#lo of %u:%u", dir, mode, nodes[i].major, nodes[i].minor);
			must_fail_as(what, syscall(SYS_mknodat, AT_FDCWD, path, mode, dev), EPERM, EACCES, EROFS);
			must_fail_as(what, syscall(SYS_mknodat, AT_FDCWD, path, mode | 0x10000, dev), EPERM, EACCES, EROFS, EINVAL);
#ifdef SYS_mknod
			must_fail_as(what, syscall(SYS_mknod, path, mode, dev), EPERM, EACCES, EROFS);
#endif
		}
}

static void open_hosts(void)
{
	static const char *const names[] = {"mem", "port", "kmsg", "kvm", "fuse", "tty", "ptmx", "pts/0", "console", "net/tun",
		"loop-control", "loop0", "sda", "vda",
		"vda1", "xvda", "nvme0n1", "dm-0", "mapper/control", "userfaultfd", "vhost-vsock", "vsock", "snapshot", "uinput",
		"input/event0", "mqueue", "hugepages",
		"hwrng", "rtc0", "watchdog", "cpu/0/msr", "cpu_dma_latency", "autofs", "btrfs-control", "rfkill", "udmabuf",
		"dma_heap/system", "dri/card0", "log"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "/dev/%s", names[i]);
		must_fail_as(path, open(path, O_RDWR | O_NONBLOCK | O_NOCTTY), ENOENT, ENOTDIR);
	}
}

static void random_pool(void)
{
	static const char *const names[] = {"/dev/random", "/dev/urandom"};
	for (size_t i = 0; i < 2; i++) {
		int fd = open(names[i], O_RDWR);
		if (fd < 0)
			fd = open(names[i], O_RDONLY);
		int bits = 256;
		struct {
			int bits, size;
			char bytes[8];
		} pool = {64, 8, "petri"};
		must_fail_as("RNDADDENTROPY", ioctl(fd, RNDADDENTROPY, &pool), EPERM);
		must_fail_as("RNDADDTOENTCNT", ioctl(fd, RNDADDTOENTCNT, &bits), EPERM);
		must_fail_as("RNDZAPENTCNT", ioctl(fd, RNDZAPENTCNT, 0), EPERM);
		must_fail_as("RNDCLEARPOOL", ioctl(fd, RNDCLEARPOOL, 0), EPERM);
		must_fail_as("RNDRESEEDCRNG", ioctl(fd, RNDRESEEDCRNG, 0), EPERM);
	}
}

static void change(const char *name)
{
	char path[32];
	(void)snprintf(path, sizeof(path), "/dev/%s", name);
	must_fail_as("chmod of a device", chmod(path, 0), EPERM, EROFS);
	must_fail_as("chown of a device", chown(path, getuid(), getgid()), EPERM, EROFS);
	must_fail_as("unlink of a device", unlink(path), EACCES, EPERM, EROFS);
	must_fail_as("rename of a device", rename(path, "/dev/shm/x"), EACCES, EPERM, EROFS, EXDEV);
	must_fail_as("symlink over a device", symlink("/dev/zero", "/dev/mem"), EACCES, EPERM, EROFS);
}

int main(void)
{
	static const char *const dirs[] = {"/work", "/tmp", "/dev/shm", "/dev", "/var/tmp"};
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (access(dirs[i], F_OK) == 0)
			make(dirs[i]);
	open_hosts();
	random_pool();
	static const char *const nodes[] = {"null", "zero", "full", "random", "urandom"};
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
		change(nodes[i]);
	return finish();
}
