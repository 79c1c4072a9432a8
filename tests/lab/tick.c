/*
 * Licensed under the Apache License, Version 2.0 (the "License"); you may
 * not use this file except in compliance with the License. You may obtain
 * a copy of the License at
 *
 *      http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
 * WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
 * License for the specific language governing permissions and limitations
 * under the License.
 */

/*
 * tick: what a guest of the lab does all the time.
 *
 *   tick DIRECTORY [also=DIRECTORY]... [tick=MS] [write=MB_PER_S]
 *        [busy=PROCESSES] [poweroff_after=SECONDS]
 *
 * Every so many milliseconds (10) it writes a numbered record durably into DIRECTORY/ring,
 * a file of fixed size, and then says "tick N" on its standard output, the
 * serial console.  Five times a second it appends N to DIRECTORY/log and
 * syncs that.  So a number that was seen on the console is on the disk, and
 * a pause of the guest, or of its disk, is a gap between two lines.
 *
 * With "also", each record is written into the ring of every directory, in
 * their order, and a number is begun when the one before it is durable in all.
 * While /run/hold exists no number is begun; /run/held says that none is under
 * way.  What an earlier boot has left in these rings is said at the start, as
 * "ring DIRECTORY N".
 *
 * The numbers go on where an earlier boot of the same disk ended.
 */

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORD 4096            /* bytes; what O_DIRECT needs on any disk */
#define RECORDS 512            /* the ring holds 2 MiB */
#define TICK_NS 10000000L      /* 10 ms, if not said */
#define LOG_NS 200000000L      /* 200 ms */
#define SCRATCH (32L << 20)    /* bytes of the file for extra writes */
#define EXTRA (64L << 10)      /* bytes of one extra write */
#define MOST_ALSO 24           /* directories besides the first */
#define HOLD "/run/hold"
#define HELD "/run/held"
#define HOLD_US 1000           /* 1 ms between two looks at HOLD */

struct record {
	uint64_t number;
	char filler[RECORD - sizeof(uint64_t)];
};

static struct record record __attribute__((aligned(RECORD)));
static char extra[EXTRA] __attribute__((aligned(RECORD)));

/*
 * This is init: if it ended, the kernel would panic and reboot.  A write fails
 * when the guest powers off, as the disk is shut down first; the guest rebooted
 * then instead, one in ten times.
 */
static void fail(const char *what)
{
	warn("%s", what);
	for (;;)
		pause();
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_until(int64_t when)
{
	struct timespec t = { when / 1000000000LL, when % 1000000000LL };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* Writing data over data that is there moves no metadata: the ring is filled
 * once, before the first tick. */
static uint64_t open_ring(const char *directory, int *fd)
{
	uint64_t last = 0;
	char path[64];

	snprintf(path, sizeof(path), "%s/ring", directory);
	*fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_DSYNC, 0600);
	if (*fd < 0)
		fail("ring");
	for (long slot = 0; slot < RECORDS; slot++) {
		ssize_t n = pread(*fd, &record, RECORD, slot * RECORD);

		if (n == RECORD) {
			if (record.number > last)
				last = record.number;
			continue;
		}
		size_t rest = (RECORDS - slot) * RECORD;
		char *zeros = aligned_alloc(RECORD, rest);

		if (!zeros)
			fail("memory");
		memset(zeros, 0, rest);
		if (pwrite(*fd, zeros, rest, slot * RECORD) != (ssize_t)rest)
			fail("ring");
		free(zeros);
		break;
	}
	memset(&record, 't', sizeof(record));
	return last;
}

static void write_record(int fd, uint64_t number)
{
	record.number = number;
	if (pwrite(fd, &record, RECORD, number % RECORDS * RECORD) != RECORD)
		fail("ring");
}

static void append_log(int fd, uint64_t number)
{
	if (dprintf(fd, "%llu\n", (unsigned long long)number) < 0 ||
	    fsync(fd) < 0)
		fail("log");
}

static void fill_with_noise(char *to, size_t size)
{
	static uint64_t state = 88172645463325252ULL;

	for (size_t i = 0; i < size; i += sizeof(state)) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		memcpy(to + i, &state, sizeof(state));
	}
}

/* A process of its own, so that the ticks do not wait for it. */
static void write_extra(long mb_per_s)
{
	int64_t pause = EXTRA * 1000000000LL / (mb_per_s * 1000000L);
	int64_t next = now_ns();
	int fd = open("scratch", O_RDWR | O_CREAT | O_DIRECT | O_DSYNC, 0600);

	if (fd < 0)
		fail("scratch");
	for (;; next += pause) {
		long slot = random() % (SCRATCH / EXTRA);

		fill_with_noise(extra, EXTRA);
		if (pwrite(fd, extra, EXTRA, slot * EXTRA) != EXTRA)
			fail("scratch");
		sleep_until(next);
	}
}

/* Needs the host's processor all the time, and inside the guest gives way to
 * the ticks at once. */
static void be_busy(void)
{
	if (nice(19) < 0)
		fail("nice");
	for (;;)
		(void)now_ns();
}

static void power_off_after(long seconds)
{
	sleep(seconds);
	sync();
	reboot(RB_POWER_OFF);
}

static void hold(void)
{
	if (access(HOLD, F_OK) != 0)
		return;
	close(open(HELD, O_WRONLY | O_CREAT, 0600));
	while (access(HOLD, F_OK) == 0)
		usleep(HOLD_US);
	unlink(HELD);
}

/* The last number may be missing on the others after a power failure. */
static void open_others(char **also, int count, int *rings, uint64_t last)
{
	for (int i = 0; i < count; i++) {
		uint64_t found = open_ring(also[i], &rings[i]);

		printf("ring %s %llu\n", also[i], (unsigned long long)found);
	}
	for (int i = 0; last > 0 && i < count; i++)
		write_record(rings[i], last);
}

static void tick(int64_t interval, char **also, int count)
{
	int ring, log, others[MOST_ALSO];
	uint64_t number = open_ring(".", &ring);
	int64_t next, log_at;

	open_others(also, count, others, number);
	next = log_at = now_ns();
	log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (log < 0)
		fail("log");
	for (;;) {
		if (count > 0)
			hold();
		write_record(ring, ++number);
		for (int i = 0; i < count; i++)
			write_record(others[i], number);
		/* Before it is said: a guest that has ticked has a log. */
		if (now_ns() >= log_at) {
			append_log(log, number);
			log_at = now_ns() + LOG_NS;
		}
		printf("tick %llu\n", (unsigned long long)number);
		next += interval;
		if (next < now_ns())        /* never catch up in a burst */
			next = now_ns();
		sleep_until(next);
	}
}

int main(int argc, char **argv)
{
	long value;
	int64_t interval = TICK_NS;
	char *also[MOST_ALSO];
	int count = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2 || chdir(argv[1]) < 0)
		fail("directory");
	for (int i = 2; i < argc; i++) {
		if (sscanf(argv[i], "write=%ld", &value) == 1 && value > 0) {
			if (fork() == 0)
				write_extra(value);
		} else if (sscanf(argv[i], "busy=%ld", &value) == 1) {
			while (value-- > 0)
				if (fork() == 0)
					be_busy();
		} else if (sscanf(argv[i], "poweroff_after=%ld", &value) == 1) {
			if (fork() == 0)
				power_off_after(value);
		} else if (sscanf(argv[i], "tick=%ld", &value) == 1 && value > 0) {
			interval = value * 1000000L;
		} else if (strncmp(argv[i], "also=", 5) == 0 &&
			   count < MOST_ALSO) {
			also[count++] = argv[i] + 5;
		}
	}
	tick(interval, also, count);
}
