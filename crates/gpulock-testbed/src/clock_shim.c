/* Shifts the wall clock of the process it is preloaded into.
 *
 * The file named by GPULOCK_CLOCK_SHIFT holds the shift in microseconds, as a signed number of
 * 64 bits. It is mapped into memory, so a change is seen at once. Nothing here allocates or calls
 * back into libc's clock: an allocator asks for the time before the constructor has run. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;

__attribute__((constructor)) static void map_the_shift(void) {
    const char *path = getenv("GPULOCK_CLOCK_SHIFT");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *memory = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED)
        shift = memory;
}

static int64_t shifted_microseconds(long *nanoseconds) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    *nanoseconds = now.tv_nsec % 1000;
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 + (shift ? *shift : 0);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
        return (int)syscall(SYS_clock_gettime, clock, time);
    long nanoseconds;
    int64_t now = shifted_microseconds(&nanoseconds);
    time->tv_sec = now / 1000000;
    time->tv_nsec = now % 1000000 * 1000 + nanoseconds;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    long nanoseconds;
    int64_t now = shifted_microseconds(&nanoseconds);
    time->tv_sec = now / 1000000;
    time->tv_usec = now % 1000000;
    return 0;
}

time_t time(time_t *result) {
    long nanoseconds;
    time_t now = shifted_microseconds(&nanoseconds) / 1000000;
    if (result)
        *result = now;
    return now;
}
