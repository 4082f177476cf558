/* The process that benchmarks trace: makes system calls as it is told to on standard input, one command a line.
 *
 *   call KIND COUNT    COUNT calls at full speed. KIND: openat (in vain, under names that all differ), getppid,
 *                      pair (openat of a file that is there, and close)
 *   pace RATE SECONDS  openat so often a second
 *
 * Each is answered by a line: calls made, CPU time in ns, wall time in ns.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Relative to a descriptor that is none: the kernel reads the name and gives up, so that little hides what is added. */
static char name[] = "no/such/folder/file00000000";
static char *const digits = name + sizeof(name) - 1;

static long long now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void next_name(void)
{
	char *digit = digits;
	while (*--digit == '9')
		*digit = '0';
	if (*digit >= '0')
		++*digit;
}

static void open_missing(void)
{
	next_name();
	syscall(SYS_openat, -1, name, O_RDONLY | O_CLOEXEC, 0);
}

static void call(const char *kind, long count)
{
	if (!strcmp(kind, "openat"))
		for (long i = 0; i < count; i++)
			open_missing();
	else if (!strcmp(kind, "pair"))
		for (long i = 0; i < count; i++)
			syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC, 0));
	else
		for (long i = 0; i < count; i++)
			syscall(SYS_getppid);
}

/* A thousand bursts a second; where one comes late the next ones come at once. */
static long pace(long rate, double seconds)
{
	long long start = now(CLOCK_MONOTONIC), made = 0, steps = seconds * 1000;
	for (long long step = 1; step <= steps; step++) {
		for (long long due = rate * step / 1000; made < due; made++)
			open_missing();
		long long until = start + step * 1000000;
		struct timespec t = {until / 1000000000, until % 1000000000};
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL))
			;
	}
	return made;
}

int main(void)
{
	char line[100], kind[20];
	long number;
	double seconds;

	setlinebuf(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		long long cpu = now(CLOCK_PROCESS_CPUTIME_ID), wall = now(CLOCK_MONOTONIC);
		if (sscanf(line, "call %19s %ld", kind, &number) == 2)
			call(kind, number);
		else if (sscanf(line, "pace %ld %lf", &number, &seconds) == 2)
			number = pace(number, seconds);
		else
			return 2;
		printf("%ld %lld %lld\n", number, now(CLOCK_PROCESS_CPUTIME_ID) - cpu, now(CLOCK_MONOTONIC) - wall);
	}
	return 0;
}
