/*
 * Tries: to have a directory committed that does more as a layer than it could as files: set-id programs, devices and whiteouts (0/0),
 *        attributes of an overlay's and capabilities, opaque marks, names that mean something to other formats of layers, links out of it,
 *        files that nobody may read, sockets and FIFOs, hard links to a hole; or that keeps the commit busy (10 000 levels)
 * Must: the layer holds plain files, directories and links; what petri keeps of attributes is user.*; too deep a tree is refused
 * Stopped by: the policies; the commit, which takes permission bits alone, leaves out what is no file and attr_kept() does not name
 * Without it: (attr_kept() true for any name) the commit is refused at 'dir'; (set-id bits kept in commit and writer) the description
 *             refuses the layer: "it is setuid or setgid"; (no bound on depth in either) 58 s until "File too large"
 */
// driven-by: tests/integration/test_attacks_results.py
#include "attack.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

static void put(const char *path, mode_t mode)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
	(void)!write(fd, "x\n", 2);
	(void)fchmod(fd, mode);
	close(fd);
}

static void attributes(const char *path)
{
	static const char *const names[] = {"user.kept", "user.overlay.opaque", "user.overlay.whiteout", "user.overlay.metacopy", "user.overlay.redirect",
		"trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy", "security.capability", "security.selinux",
		"system.posix_acl_access"};
	static const char *const values[] = {"y", "/etc", "/../../../etc/passwd"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++)
			if (lsetxattr(path, names[i], values[k], strlen(values[k]), 0) == 0 && strncmp(names[i], "trusted.", 8) == 0)
				broken("%s was set on %s", names[i], path);
	const unsigned capable[5] = {0x02000001, ~0u, ~0u, ~0u, ~0u}; /* all of them, effective */
	if (lsetxattr(path, "security.capability", capable, sizeof(capable), 0) == 0)
		broken("file capabilities were set");
}

static int deep(void)
{
	for (int i = 0; i < 10000; i++)
		if (mkdir("d", 0755) < 0 || chdir("d") < 0)
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	(void)!chdir("/work");
	if (argc > 1)
		return strcmp(argv[1], "deep") == 0 ? deep() : 2;
	static const char *const names[] = {".wh.keep", ".wh..wh..opq", ".wh..wh.plnk", "-rf", " ", "\n", "new\nline", "\xff\xfe", "\\", "%s%n", "\"quoted\"",
		"diff", "pack", "layer.json", "..."};
	(void)mkdir("dir", 0755);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		put(names[i], 0644);
	put("setuid", 06755);
	put("sticky", 01777);
	put("unreadable", 0);
	(void)mkdir("closed", 0755);
	put("closed/in", 0);
	attributes("setuid");
	attributes("dir");
	attributes(".");
	(void)mkdir("covered", 0755);
	must_fail(mknod("keep", S_IFCHR | 0666, makedev(1, 1)), EPERM);
	must_fail(mknod("null", S_IFCHR | 0666, makedev(1, 3)), EPERM);
	must_fail(mknod("disk", S_IFBLK | 0666, makedev(8, 0)), EPERM);
	/* Whiteouts need no capability: judge refuses them, and the commit leaves them out. */
	(void)mknod("covered/forged", S_IFCHR | 0666, 0);
	(void)mknod("forged", S_IFCHR | 0666, 0);
	(void)mkfifo("fifo", 0666);
	if (getenv("SOCKETS")) {
		struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "socket"};
		(void)bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&un, sizeof(un));
	}
	(void)!symlink("/etc/passwd", "absolute");
	(void)!symlink("../../../../../../etc/passwd", "upwards");
	(void)!symlink("/proc/1/root/etc/passwd", "proc");
	(void)!symlink("self", "self");
	(void)!link("/etc/passwd", "hard");
	(void)!link("/work/attack", "attack-too");
	put("hole", 0644);
	(void)!truncate("hole", 1 << 20);
	for (int i = 0; i < 8; i++) {
		char name[16];
		snprintf(name, sizeof(name), "hole%d", i);
		(void)!link("hole", name);
	}
	(void)chmod("closed", 0);
	return finish();
}
