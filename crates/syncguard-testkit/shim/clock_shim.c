/*
 * Shifts the wall clock of a program that is started with this library preloaded.
 *
 * CLOCK_SHIM names a file whose first eight bytes are the shift in milliseconds, a signed number in
 * the byte order of the machine. The file is mapped, so a new shift takes effect at the next reading
 * of the clock. Without the variable, without the file, or with a shorter file, nothing is shifted.
 *
 * Only the wall clock is shifted. The monotonic and the boot clock are not, just as when an
 * administrator or a time server steps the clock of a machine.
 *
 * The clock itself is read by system calls, because looking up the replaced functions may allocate,
 * and an allocator may read the clock.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MS_PER_S 1000
#define NS_PER_MS 1000000L
#define NS_PER_S 1000000000L

static const _Atomic int64_t *shift_ms;

/* Until this has run, while the program is still being loaded, nothing is shifted. */
__attribute__((constructor)) static void map_shift(void)
{
    const char *path = getenv("CLOCK_SHIM");
    if (path == NULL)
        return;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    struct stat status;
    if (fstat(file, &status) == 0 && status.st_size >= (off_t)sizeof *shift_ms) {
        void *mapped = mmap(NULL, sizeof *shift_ms, PROT_READ, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED)
            shift_ms = mapped;
    }
    close(file);
}

static void shift(struct timespec *now)
{
    if (shift_ms == NULL)
        return;
    int64_t ms = atomic_load_explicit(shift_ms, memory_order_relaxed);
    now->tv_sec += ms / MS_PER_S;
    now->tv_nsec += ms % MS_PER_S * NS_PER_MS;
    if (now->tv_nsec < 0) {
        now->tv_nsec += NS_PER_S;
        now->tv_sec -= 1;
    } else if (now->tv_nsec >= NS_PER_S) {
        now->tv_nsec -= NS_PER_S;
        now->tv_sec += 1;
    }
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        shift(now);
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone; /* obsolete, and always zero */
    struct timespec precise;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    if (result == 0) {
        now->tv_sec = precise.tv_sec;
        now->tv_usec = precise.tv_nsec / 1000;
    }
    return result;
}

time_t time(time_t *now)
{
    struct timespec precise;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
        return (time_t)-1;
    if (now != NULL)
        *now = precise.tv_sec;
    return precise.tv_sec;
}
