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
 *   tick DIRECTORY [tick=MS] [write=MB_PER_S] [poweroff_after=SECONDS]
 *
 * Every so many milliseconds (10) it writes a numbered record durably into DIRECTORY/ring,
 * a file of fixed size, and then says "tick N" on its standard output, the
 * serial console.  Five times a second it appends N to DIRECTORY/log and
 * syncs that.  So a number that was seen on the console is on the disk, and
 * a pause of the guest, or of its disk, is a gap between two lines.
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
static uint64_t open_ring(int *fd)
{
	uint64_t last = 0;

	*fd = open("ring", O_RDWR | O_CREAT | O_DIRECT | O_DSYNC, 0600);
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

static void power_off_after(long seconds)
{
	sleep(seconds);
	sync();
	reboot(RB_POWER_OFF);
}

static void tick(int64_t interval)
{
	int ring, log;
	uint64_t number = open_ring(&ring);
	int64_t next = now_ns(), log_at = next;

	log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (log < 0)
		fail("log");
	for (;;) {
		write_record(ring, ++number);
		printf("tick %llu\n", (unsigned long long)number);
		if (now_ns() >= log_at) {
			append_log(log, number);
			log_at = now_ns() + LOG_NS;
		}
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

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2 || chdir(argv[1]) < 0)
		fail("directory");
	for (int i = 2; i < argc; i++) {
		if (sscanf(argv[i], "write=%ld", &value) == 1 && value > 0) {
			if (fork() == 0)
				write_extra(value);
		} else if (sscanf(argv[i], "poweroff_after=%ld", &value) == 1) {
			if (fork() == 0)
				power_off_after(value);
		} else if (sscanf(argv[i], "tick=%ld", &value) == 1 && value > 0) {
			interval = value * 1000000L;
		}
	}
	tick(interval);
}
