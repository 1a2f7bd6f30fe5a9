/*
 * petri-inject: lets one system call of one of petri's processes fail, or kills the process as it makes the call; for the tests.
 *
 *     petri-inject --pid PID --record FILE
 *     petri-inject --pid PID --fault ROLE:SYSCALL:NUMBER:ERROR [--every]       (a number as errno(3) has it, or "kill")
 *     petri-inject … -- COMMAND…                                                (instead of --pid: from its exec on)
 *
 * Why not strace: its counters are one process', and processes are chosen by pid alone; here a call is counted over all
 * processes that have the same part ("role"), also those that do not exist yet. PID is the supervisor; everything below it is
 * traced, a job's own program not. "ready" is printed once all is traced, "hit PID ROLE" at the fault; then it ends (the kernel
 * lets go of all that is traced), unless --every asks for all later calls too. SIGTERM ends it, and has the record written:
 * "ROLE SYSCALL COUNT" a line. The command outlives it. Exit: 0 after a hit or a record, 3 when there was no hit, 2 for what it cannot do.
 *
 * What it does not see: operations of the worker's ring, which are no system calls of anybody's.
 */
#include <dirent.h>
#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRACEES_MAX 4096
#define CALLS_MAX 512
#define KILL (-1)
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)

enum role { ROLE_OTHER,
	ROLE_SUPERVISOR,
	ROLE_WORKER,
	ROLE_NURSERY,
	ROLE_KEEPER,
	ROLE_ROOM,
	ROLE_INIT,
	ROLE_CHILD,
	ROLE_JOB,
	ROLE_HELPER,
	ROLE_OPENER,
	ROLE_COMMIT,
	ROLE_JAIL,
	ROLE_MAX };
static const char *const role_names[ROLE_MAX] = {"other", "supervisor", "worker", "nursery", "keeper", "room", "init", "child", "job", "helper", "opener", "commit", "jail"};

struct tracee {
	pid_t pid;
	enum role role;
	bool failing; /* the call it is in was taken away from it */
};

static struct tracee tracees[TRACEES_MAX];
static size_t ntracees;
static uint64_t counts[ROLE_MAX][CALLS_MAX];
static enum role fault_role = ROLE_MAX;
static long fault_call = -1, fault_error;
static uint64_t fault_number = 1;
static bool every, was_hit;
static const char *record;
static volatile sig_atomic_t stop;

static void on_end(int number)
{
	(void)number;
	stop = 1;
}

static struct tracee *find(pid_t pid)
{
	for (size_t i = 0; i < ntracees; i++)
		if (tracees[i].pid == pid)
			return &tracees[i];
	return NULL;
}

static struct tracee *add(pid_t pid, enum role role)
{
	struct tracee *t = find(pid);
	if (!t) {
		if (ntracees == TRACEES_MAX)
			exit(2);
		t = &tracees[ntracees++];
		*t = (struct tracee){.pid = pid, .role = role};
	}
	return t;
}

static void forget(pid_t pid)
{
	struct tracee *t = find(pid);
	if (t)
		*t = tracees[--ntracees];
}

static void read_stat(pid_t pid, char comm[32], pid_t *ret_parent)
{
	char path[48], line[512] = "";
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	FILE *f = fopen(path, "re");
	comm[0] = '\0';
	*ret_parent = 0;
	if (!f)
		return;
	char *open = fgets(line, sizeof(line), f) ? strchr(line, '(') : NULL, *end = strrchr(line, ')');
	if (open && end) {
		(void)snprintf(comm, 32, "%.*s", (int)(end - open - 1), open + 1);
		char state;
		(void)sscanf(end + 1, " %c %d", &state, ret_parent);
	}
	(void)fclose(f);
}

/* A part that a process names itself by; what it was, when it says nothing new. */
static enum role role_named(pid_t pid, enum role role)
{
	char comm[32];
	pid_t parent;
	read_stat(pid, comm, &parent);
	if (role != ROLE_INIT && role != ROLE_CHILD && strcmp(comm, "petri-room") == 0)
		return ROLE_ROOM;
	if (strcmp(comm, "petri-worker") == 0)
		return ROLE_WORKER;
	if (strcmp(comm, "petri-keeper") == 0)
		return ROLE_KEEPER;
	if (role == ROLE_COMMIT && strcmp(comm, "petri-nursery") == 0)
		return ROLE_NURSERY;
	return role;
}

static enum role role_below(enum role parent)
{
	static const enum role below[ROLE_MAX] = {[ROLE_SUPERVISOR] = ROLE_COMMIT, [ROLE_WORKER] = ROLE_WORKER, [ROLE_NURSERY] = ROLE_HELPER, [ROLE_KEEPER] = ROLE_ROOM, [ROLE_ROOM] = ROLE_INIT, [ROLE_INIT] = ROLE_CHILD, [ROLE_CHILD] = ROLE_JOB, [ROLE_JOB] = ROLE_JOB, [ROLE_COMMIT] = ROLE_JAIL, [ROLE_JAIL] = ROLE_JAIL};
	return below[parent];
}

static bool seize(pid_t pid, enum role role)
{
	if (find(pid) || ptrace(PTRACE_SEIZE, pid, 0, OPTIONS) < 0)
		return false;
	(void)add(pid, role);
	(void)ptrace(PTRACE_INTERRUPT, pid, 0, 0);
	return true;
}

/* A child of one that is traced. Return: whether it was new. */
static bool seize_child(pid_t pid)
{
	char comm[32], path[48];
	pid_t parent;
	read_stat(pid, comm, &parent);
	const struct tracee *above = find(parent);
	if (!above || find(pid))
		return false;
	enum role role = role_named(pid, role_below(above->role));
	if (above->role == ROLE_SUPERVISOR && strcmp(comm, "petri-nursery") == 0)
		role = ROLE_NURSERY;
	/* A child that waits has the room's name; one that runs is the job. */
	if (above->role == ROLE_ROOM)
		role = ROLE_INIT;
	if (above->role == ROLE_INIT)
		role = strcmp(comm, "petri-room") == 0 ? ROLE_CHILD : ROLE_JOB;
	if (role == ROLE_JOB || !seize(pid, role))
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (e->d_name[0] != '.')
			(void)seize(atoi(e->d_name), role);
	if (dir)
		(void)closedir(dir);
	return true;
}

static void attach(pid_t root)
{
	if (!seize(root, ROLE_SUPERVISOR)) {
		perror("petri-inject: ptrace");
		exit(2);
	}
	for (bool more = true; more;) {
		more = false;
		DIR *dir = opendir("/proc");
		for (struct dirent *e; dir && (e = readdir(dir));)
			if (e->d_name[0] >= '1' && e->d_name[0] <= '9')
				more |= seize_child(atoi(e->d_name));
		if (dir)
			(void)closedir(dir);
	}
}

static void start(char **argv)
{
	pid_t pid = fork();
	if (pid == 0) {
		(void)raise(SIGSTOP);
		(void)execv(argv[0], argv);
		_exit(127);
	}
	int status;
	(void)waitpid(pid, &status, WUNTRACED);
	attach(pid);
	printf("pid %d\n", pid);
	(void)kill(pid, SIGCONT);
}

static void hit(struct tracee *t)
{
	was_hit = true;
	printf("hit %d %s\n", t->pid, role_names[t->role]);
	(void)fflush(stdout);
	if (fault_error == KILL) {
		(void)kill(t->pid, SIGKILL);
		if (!every)
			exit(0);
		return;
	}
	struct user_regs_struct regs;
	if (ptrace(PTRACE_GETREGS, t->pid, 0, &regs) < 0)
		return;
	regs.orig_rax = (unsigned long long)-1;
	(void)ptrace(PTRACE_SETREGS, t->pid, 0, &regs);
	/* Its own filters would be asked about call -1, which they do not know. */
	(void)ptrace(PTRACE_SETOPTIONS, t->pid, 0, OPTIONS | PTRACE_O_SUSPEND_SECCOMP);
	t->failing = true;
}

static void on_entry(struct tracee *t, uint64_t call)
{
	/* Of the helpers, only the one that opens files for the worker changes its user. */
	if (call == SYS_setresuid && t->role == ROLE_HELPER)
		t->role = ROLE_OPENER;
	if (call >= CALLS_MAX)
		return;
	uint64_t n = ++counts[t->role][call];
	if (t->role == fault_role && (long)call == fault_call && (n == fault_number || (every && n > fault_number)))
		hit(t);
}

static void on_exit_of_call(struct tracee *t)
{
	if (!t->failing) {
		if (t->role == ROLE_HELPER || t->role == ROLE_COMMIT || t->role == ROLE_OTHER)
			t->role = role_named(t->pid, t->role);
		return;
	}
	struct user_regs_struct regs;
	if (ptrace(PTRACE_GETREGS, t->pid, 0, &regs) == 0) {
		regs.rax = (unsigned long long)-fault_error;
		(void)ptrace(PTRACE_SETREGS, t->pid, 0, &regs);
	}
	(void)ptrace(PTRACE_SETOPTIONS, t->pid, 0, OPTIONS);
	t->failing = false;
	if (!every)
		exit(0);
}

static void on_syscall(struct tracee *t)
{
	struct __ptrace_syscall_info info;
	if (ptrace(PTRACE_GET_SYSCALL_INFO, t->pid, sizeof(info), &info) <= 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
		on_entry(t, info.entry.nr);
	else if (info.op == PTRACE_SYSCALL_INFO_EXIT)
		on_exit_of_call(t);
}

/* Return: false when the tracee was let go. */
static bool on_event(struct tracee *t, int event)
{
	unsigned long message = 0;
	if (event == PTRACE_EVENT_EXEC) {
		if (t->role != ROLE_CHILD && t->role != ROLE_JOB)
			return true;
		(void)ptrace(PTRACE_DETACH, t->pid, 0, 0);
		forget(t->pid);
		return false;
	}
	if ((event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) &&
		ptrace(PTRACE_GETEVENTMSG, t->pid, 0, &message) == 0) {
		enum role role = role_below(t->role);
		struct tracee *born = add((pid_t)message, role);
		born->role = role;
	}
	return true;
}

static void on_stop(pid_t pid, int status)
{
	struct tracee *t = find(pid);
	if (!t) { /* one may stop, and make calls, before its parent's event says whose it is */
		char comm[32];
		pid_t parent;
		read_stat(pid, comm, &parent);
		const struct tracee *above = find(parent);
		t = add(pid, above ? role_below(above->role) : ROLE_OTHER);
	}
	int number = WSTOPSIG(status), event = status >> 16, deliver = 0;
	if (number == (SIGTRAP | 0x80)) {
		on_syscall(t);
	} else if (event == PTRACE_EVENT_STOP) {
		if (number == SIGSTOP || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU) {
			(void)ptrace(PTRACE_LISTEN, pid, 0, 0);
			return;
		}
	} else if (event) {
		if (!on_event(t, event))
			return;
	} else {
		deliver = number;
	}
	(void)ptrace(PTRACE_SYSCALL, pid, 0, deliver);
}

static void write_record(void)
{
	FILE *f = record ? fopen(record, "we") : NULL;
	for (int role = 0; f && role < ROLE_MAX; role++)
		for (int call = 0; call < CALLS_MAX; call++) {
			char *name = counts[role][call] ? seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call) : NULL;
			if (name)
				(void)fprintf(f, "%s %s %llu\n", role_names[role], name, (unsigned long long)counts[role][call]);
			free(name);
		}
	if (f)
		(void)fclose(f);
}

static int parse_fault(char *text)
{
	char *role = strtok(text, ":"), *call = strtok(NULL, ":"), *number = strtok(NULL, ":"), *error = strtok(NULL, ":");
	if (!role || !call || !number || !error)
		return -1;
	for (int i = 0; i < ROLE_MAX; i++)
		if (strcmp(role_names[i], role) == 0)
			fault_role = (enum role)i;
	fault_call = seccomp_syscall_resolve_name(call);
	fault_number = strtoull(number, NULL, 10);
	fault_error = strcmp(error, "kill") == 0 ? KILL : strtol(error, NULL, 10);
	return fault_role == ROLE_MAX || fault_call < 0 || fault_number == 0 || fault_error == 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	pid_t pid = 0;
	int i = 1;
	for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--pid") == 0 && i + 1 < argc)
			pid = atoi(argv[++i]);
		else if (strcmp(argv[i], "--record") == 0 && i + 1 < argc)
			record = argv[++i];
		else if (strcmp(argv[i], "--fault") == 0 && i + 1 < argc && parse_fault(argv[i + 1]) == 0)
			i++;
		else if (strcmp(argv[i], "--every") == 0)
			every = true;
		else
			return fprintf(stderr, "petri-inject: what is '%s'?\n", argv[i]), 2;
	}
	/* No SA_RESTART: waitpid(2) is to return. */
	const struct sigaction end = {.sa_handler = on_end};
	(void)sigaction(SIGTERM, &end, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (pid > 0)
		attach(pid);
	else if (i + 1 < argc)
		start(argv + i + 1);
	else
		return fprintf(stderr, "petri-inject: neither --pid nor a command\n"), 2;
	printf("ready\n");
	(void)fflush(stdout);
	while (!stop) {
		int status;
		pid_t who = waitpid(-1, &status, __WALL);
		if (who < 0 && errno == EINTR)
			continue;
		if (who < 0)
			break; /* nobody is left */
		if (WIFSTOPPED(status))
			on_stop(who, status);
		else
			forget(who);
	}
	write_record();
	return was_hit || record ? 0 : 3;
}
