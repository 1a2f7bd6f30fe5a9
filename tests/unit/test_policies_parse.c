#include "policies_util.h"

#include <stdio.h>
#include <stdlib.h>

#define START "{'defaultAction':'SCMP_ACT_ERRNO',"
#define ENTRY(fields) START "'syscalls':[{'names':['read'],'action':'SCMP_ACT_ALLOW'},{" fields "}]}"
#define READ "'names':['read'],'action':'SCMP_ACT_ALLOW'"

static void refused(const char *text, const char *path)
{
	struct policy *policy = (struct policy *)0x1;
	struct err err = ERR_INIT;
	cr_assert_eq(parse_text(text, &policy, &err), -EINVAL, "accepted %s", text);
	cr_assert_eq(policy, (struct policy *)0x1, "ret_ is only touched on success");
	cr_assert_not_null(strstr(err.msg, path), "'%s' does not name '%s'", err.msg, path);
}

static void accepted(const char *text)
{
	struct policy *policy = NULL;
	struct err err = ERR_INIT;
	cr_assert_eq(parse_text(text, &policy, &err), 0, "%s: %s", text, err_msg(&err));
	policy_free(policy);
}

Test(policies_parse, refuses_by_path)
{
	static const struct {
		const char *text, *path;
	} wrong[] = {
		{"", "line"},
		{"[]", "not a JSON object"},
		{"{} x", "line"},
		{"{'defaultAction':'a','defaultAction':'b'}", "line"},
		{"{}", "defaultAction: missing"},
		{"{'defaultAction':1}", "defaultAction: not a string"},
		{"{'defaultAction':'SCMP_ACT_ALOW'}", "defaultAction: unknown action SCMP_ACT_ALOW"},
		{"{'defaultAction':'SCMP_ACT_TRACE'}", "defaultAction: SCMP_ACT_TRACE"},
		{"{'defaultAction':'SCMP_ACT_ALLOW','defaultErrnoRet':1}", "defaultErrnoRet: only for SCMP_ACT_ERRNO"},
		{START "'defaultErrnoRet':4096}", "defaultErrnoRet"},
		{START "'defaultErrnoRet':-1}", "defaultErrnoRet"},
		{START "'defaultErrnoRet':'1'}", "defaultErrnoRet"},
		{START "'defaultErrno':'EWHAT'}", "defaultErrno: unknown errno EWHAT"},
		{START "'defaultErrno':'ENOSYS','defaultErrnoRet':1}", "defaultErrno: contradicts defaultErrnoRet"},
		{START "'extra':1}", "extra: unknown field"},
		{START "'listenerPath':'/run/x'}", "listenerPath"},
		{START "'listenerMetadata':'x'}", "listenerMetadata"},
		{START "'comment':5}", "comment"},
		{START "'flags':['SECCOMP_FILTER_FLAG_WHAT']}", "flags[0]: unknown flag"},
		{START "'architectures':['SCMP_ARCH_VAX']}", "architectures[0]: unknown architecture SCMP_ARCH_VAX"},
		{START "'architectures':'SCMP_ARCH_X86'}", "architectures: not a list"},
		{START "'archMap':{}}", "archMap"},
		{START "'archMap':[{'architecture':'x'}]}", "archMap[0].architecture"},
		{START "'archMap':[{}]}", "archMap[0].architecture"},
		{START "'archMap':[{'architecture':'SCMP_ARCH_ARM','sub':1}]}", "archMap[0].sub: unknown field"},
		{START "'archMap':[{'architecture':'SCMP_ARCH_ARM','subArchitectures':['x']}]}",
			"archMap[0].subArchitectures[0]"},
		{START "'syscalls':{}}", "syscalls: not a list"},
		{START "'syscalls':[1]}", "syscalls[0]: not an object"},
		{ENTRY("'names':['read']"), "syscalls[1].action: missing"},
		{ENTRY("'action':'SCMP_ACT_ALLOW'"), "syscalls[1].names: missing"},
		{ENTRY("'names':[],'action':'SCMP_ACT_ALLOW'"), "syscalls[1].names"},
		{ENTRY("'names':[''],'action':'SCMP_ACT_ALLOW'"), "syscalls[1]: an empty system call name"},
		{ENTRY("'names':[1],'action':'SCMP_ACT_ALLOW'"), "syscalls[1].names[0]: not a string"},
		{ENTRY("'name':'read'," READ), "syscalls[1].name: beside names"},
		{ENTRY("'names':['read'],'action':'SCMP_ACT_TRACE'"), "syscalls[1].action: SCMP_ACT_TRACE"},
		{ENTRY("'names':['read'],'action':'allow'"), "syscalls[1].action: unknown action allow"},
		{ENTRY(READ ",'errnoRet':1"), "syscalls[1].errnoRet: only for"},
		{ENTRY(READ ",'Args':[]"), "syscalls[1].Args: unknown field"},
		{ENTRY(READ ",'args':{}"), "syscalls[1].args: not a list"},
		{ENTRY(READ ",'args':[1]"), "syscalls[1].args[0]: not an object"},
		{ENTRY(READ ",'args':[{'value':1,'op':'SCMP_CMP_EQ'}]"), "syscalls[1].args[0].index: missing"},
		{ENTRY(READ ",'args':[{'index':6,'value':1,'op':'SCMP_CMP_EQ'}]"), "syscalls[1].args[0].index"},
		{ENTRY(READ ",'args':[{'index':0,'op':'SCMP_CMP_EQ'}]"), "syscalls[1].args[0].value: missing"},
		{ENTRY(READ ",'args':[{'index':0,'value':-1,'op':'SCMP_CMP_EQ'}]"), "syscalls[1].args[0].value"},
		{ENTRY(READ ",'args':[{'index':0,'value':1.0,'op':'SCMP_CMP_EQ'}]"), "syscalls[1].args[0].value"},
		{ENTRY(READ ",'args':[{'index':0,'value':99999999999999999999,'op':'SCMP_CMP_EQ'}]"), "line"},
		{ENTRY(READ ",'args':[{'index':0,'value':1}]"), "syscalls[1].args[0].op: missing"},
		{ENTRY(READ ",'args':[{'index':0,'value':1,'op':'=='}]"), "syscalls[1].args[0].op: unknown operator =="},
		{ENTRY(READ ",'args':[{'index':0,'value':1,'valueTwo':1,'op':'SCMP_CMP_EQ'}]"),
			"syscalls[1].args[0].valueTwo"},
		{ENTRY(READ ",'args':[{'index':0,'value':1,'valueTwo':2,'op':'SCMP_CMP_MASKED_EQ'}]"),
			"syscalls[1].args[0].valueTwo"},
		{ENTRY(READ ",'args':[{'index':0,'value':1,'op':'SCMP_CMP_EQ'},{'index':0,'value':2,'op':'SCMP_CMP_EQ'}]"),
			"syscalls[1].args[1].index: argument 0 is compared twice"},
		{ENTRY(READ ",'includes':[]"), "syscalls[1].includes: not an object"},
		{ENTRY(READ ",'includes':{'cap':[]}"), "syscalls[1].includes.cap: unknown field"},
		{ENTRY(READ ",'includes':{'caps':['SYS_ADMIN']}"), "syscalls[1].includes.caps[0]"},
		{ENTRY(READ ",'includes':{'arches':['vax']}"), "syscalls[1].includes.arches[0]: unknown architecture vax"},
		{ENTRY(READ ",'excludes':{'minKernel':'4'}"), "syscalls[1].excludes.minKernel"},
		{ENTRY(READ ",'excludes':{'minKernel':'4.8.1'}"), "syscalls[1].excludes.minKernel"},
		{ENTRY(READ ",'excludes':{'minKernel':4.8}"), "syscalls[1].excludes.minKernel"},
		{ENTRY("'names':['no_such_call'],'includes':{'caps':['CAP_X']},'action':'x'"),
			"syscalls[1].action: unknown action x"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		refused(wrong[i].text, wrong[i].path);
}

Test(policies_parse, accepts_what_others_write)
{
	accepted(START "'syscalls':null,'archMap':null,'flags':null}");
	accepted(START "'defaultErrnoRet':38,'defaultErrno':'ENOSYS'}");
	accepted(START "'flags':['SECCOMP_FILTER_FLAG_LOG'],'architectures':['SCMP_ARCH_X86_64','SCMP_ARCH_RISCV64']}");
	accepted(START "'archMap':[{'architecture':'SCMP_ARCH_AARCH64','subArchitectures':null}]}");
	accepted(ENTRY(READ ",'args':null,'comment':'','includes':{},'excludes':{}"));
	accepted(ENTRY("'names':['call_of_the_future'],'action':'SCMP_ACT_ALLOW'"));
	accepted(ENTRY("'name':'write','action':'SCMP_ACT_ERRNO','errnoRet':0"));
}

Test(policies_parse, messages_hold_no_control_characters)
{
	struct policy *policy = NULL;
	struct err err = ERR_INIT;
	cr_assert_eq(parse_text(START "'\\u001b[31m\\n\xc3\xa9':1}", &policy, &err), -EINVAL);
	for (const char *p = err.msg; *p; p++)
		cr_assert(*p >= 0x20 && *p < 0x7f, "%d", *p);
}

Test(policies_parse, limits)
{
	_cleanup_free_ char *big = calloc(1, (1 << 20) + 2);
	memset(big, ' ', (1 << 20) + 1);
	memcpy(big, "{}", 2);
	struct policy *policy = NULL;
	struct err err = ERR_INIT;
	cr_assert_eq(policy_parse("test", big, (1 << 20) + 1, &policy, &err), -EINVAL);
	cr_assert_not_null(strstr(err.msg, "larger than 1048576 bytes"));

	static const char rule[] = "{\"name\":\"read\",\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":%d,"
				   "\"op\":\"SCMP_CMP_EQ\"}]},";
	int n = sprintf(big, "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[");
	for (int i = 0; i < 1025; i++)
		n += sprintf(big + n, rule, i);
	n += sprintf(big + n - 1, "]}") - 1;
	cr_assert_eq(policy_parse("test", big, (size_t)n, &policy, &err), -EINVAL);
	cr_assert_not_null(strstr(err.msg, "syscalls: more than 1024 calls with args"), "%s", err.msg);
	_cleanup_free_ char *nested = malloc(100000);
	memset(nested, '[', 100000);
	cr_assert_eq(policy_parse("test", nested, 100000, &policy, &err), -EINVAL);
	cr_assert_eq(policy_parse("test", "{\0}", 3, &policy, &err), -EINVAL);
}

Test(policies_parse, actions)
{
	static const struct {
		const char *action;
		unsigned answer;
	} rows[] = {
		{"SCMP_ACT_ALLOW", ALLOW},
		{"SCMP_ACT_LOG", LOG},
		{"SCMP_ACT_ERRNO", ERRNO(EPERM)},
		{"SCMP_ACT_KILL", VIOLATION},
		{"SCMP_ACT_KILL_PROCESS", VIOLATION},
		{"SCMP_ACT_KILL_THREAD", VIOLATION},
		{"SCMP_ACT_TRAP", VIOLATION},
		{"SCMP_ACT_NOTIFY", VIOLATION},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[256];
		(void)snprintf(text, sizeof(text),
			"{'defaultAction':'%s','syscalls':[{'names':['read'],'action':'SCMP_ACT_ERRNO','errnoRet':7}]}",
			rows[i].action);
		struct policy_program p = compile_text(text);
		cr_assert_eq(try0(&p, "write"), rows[i].answer, "%s", rows[i].action);
		cr_assert_eq(try0(&p, "read"), ERRNO(7));
		cr_assert_eq(p.notifies, rows[i].answer == VIOLATION);
		policy_program_free(&p);
		(void)snprintf(text, sizeof(text),
			"{'defaultAction':'SCMP_ACT_ERRNO','defaultErrnoRet':38,'syscalls':[{'names':['read'],'action':'%s'}]}",
			rows[i].action);
		p = compile_text(text);
		cr_assert_eq(try0(&p, "read"), rows[i].answer, "%s", rows[i].action);
		cr_assert_eq(try0(&p, "write"), ERRNO(38));
		cr_assert_eq(p.notifies, rows[i].answer == VIOLATION);
		policy_program_free(&p);
	}
	struct policy_program p = compile_text(ENTRY("'name':'write','action':'SCMP_ACT_ERRNO','errno':'ENOSYS'"));
	cr_assert_eq(try0(&p, "write"), ERRNO(ENOSYS));
	policy_program_free(&p);
}

Test(policies_parse, includes_and_excludes)
{
#if defined(__x86_64__)
#define NATIVE "amd64"
#define OTHER "arm64"
#else
#define NATIVE "arm64"
#define OTHER "amd64"
#endif
	static const struct {
		const char *fields;
		bool applies;
	} rows[] = {
		{"'includes':{'caps':['CAP_SYS_ADMIN']}", false},
		{"'includes':{'caps':[]}", true},
		{"'excludes':{'caps':['CAP_SYS_ADMIN','CAP_NET_RAW']}", true},
		{"'includes':{'arches':['" NATIVE "','x32']}", true},
		{"'includes':{'arches':['" OTHER "']}", false},
		{"'excludes':{'arches':['" NATIVE "']}", false},
		{"'excludes':{'arches':['" OTHER "','s390']}", true},
		{"'includes':{'minKernel':'4.8'}", true},
		{"'includes':{'minKernel':'999.0'}", false},
		{"'excludes':{'minKernel':'4.8'}", false},
		{"'excludes':{'minKernel':'999.0'}", true},
		{"'includes':{'minKernel':'4.8'},'excludes':{'arches':['" NATIVE "']}", false},
		{"'includes':{'arches':['" NATIVE "'],'caps':['CAP_SYS_TIME']}", false},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[512];
		(void)snprintf(text, sizeof(text), START "'syscalls':[{" READ ",%s}]}", rows[i].fields);
		struct policy_program p = compile_text(text);
		cr_assert_eq(try0(&p, "read"), rows[i].applies ? ALLOW : ERRNO(EPERM), "%s", rows[i].fields);
		policy_program_free(&p);
	}
}

Test(policies_parse, entries_that_do_not_apply_leave_nothing)
{
	struct policy_program p = compile_text(START
		"'syscalls':[{" READ ",'args':[{'index':0,'value':1,'op':'SCMP_CMP_EQ'},{'index':1,'value':1,'op':"
		"'SCMP_CMP_EQ'}],'includes':{'caps':['CAP_SYS_ADMIN']}},"
		"{" READ ",'args':[{'index':0,'value':2,'op':'SCMP_CMP_EQ'}]}]}");
	cr_assert_eq(try3(&p, "read", 1, 1, 0), ERRNO(EPERM));
	cr_assert_eq(try3(&p, "read", 2, 7, 0), ALLOW);
	policy_program_free(&p);
}
