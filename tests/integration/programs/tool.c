/* tool ls FILE... | cat FILE... | pwd: to look into an image that has no other program. "ls" prints mode, owner, group and
 * size, or "none". */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	char buf[4096];
	if (strcmp(what, "pwd") == 0 && getcwd(buf, sizeof(buf)))
		puts(buf);
	for (int i = 2; i < argc; i++) {
		struct stat st;
		FILE *f = strcmp(what, "cat") == 0 ? fopen(argv[i], "r") : NULL;
		if (f) {
			for (size_t n; (n = fread(buf, 1, sizeof(buf), f)) > 0;)
				fwrite(buf, 1, n, stdout);
			fclose(f);
		} else if (strcmp(what, "ls") == 0 && lstat(argv[i], &st) == 0) {
			printf("%s %o %d %d %ld\n", argv[i], (unsigned)st.st_mode, (int)st.st_uid, (int)st.st_gid,
				(long)st.st_size);
		} else {
			printf("%s: none\n", argv[i]);
		}
	}
	return 0;
}
