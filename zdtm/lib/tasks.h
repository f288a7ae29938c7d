/* What /proc says about tasks. */
#ifndef TASKS_H
#define TASKS_H

#include "zdtmtst.h"

#include <stdio.h>
#include <sys/syscall.h>

/* The text of /proc/PID/NAME; PID may be a thread's. Empty when the task is gone. */
static inline void task_file(pid_t pid, const char *name, char *text, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	FILE *file = fopen(path, "r");
	size_t length = file ? fread(text, 1, size - 1, file) : 0;
	text[length] = 0;
	if (file)
		fclose(file);
}

/* A line of /proc/PID/status, as a hexadecimal number; name as in "SigBlk". */
static inline unsigned long long task_status(pid_t pid, const char *name)
{
	char text[8192], *line, *rest;
	unsigned long long value = 0;

	task_file(pid, "status", text, sizeof(text));
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			sscanf(line + strlen(name) + 1, "%llx", &value);
	return value;
}

/* The letter of a task's state, as in "Z" for a zombie. */
static inline char task_state(pid_t pid)
{
	char text[512];

	task_file(pid, "stat", text, sizeof(text));
	check(*text, "task %d is gone", pid);
	return strrchr(text, ')')[2];
}

/* Whether a task sleeps in the system call with that number, or in its continuation after an interruption. */
static inline bool task_is_in(pid_t pid, long nr)
{
	char text[256];
	long now = -1;

	task_file(pid, "syscall", text, sizeof(text));
	check(*text, "task %d is gone", pid);
	sscanf(text, "%ld", &now); /* not if it is "running" */
	return now == nr || now == SYS_restart_syscall;
}

static inline void task_wait_in(pid_t pid, long nr)
{
	wait_until(task_is_in(pid, nr), "a task sleeps in its system call");
}

#endif
