/* A wall clock that a test sets: preloaded, it adds the seconds that TEST_CLOCK_FILE (a file of eight bytes)
   holds to what the kernel says. The monotonic clock stays as it is. Deadlines by the wall clock, which are
   dates, are given to the kernel as it counts; those by the monotonic clock are far smaller numbers. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define A_DATE 1000000000

static volatile long *offset;
static int (*cond_wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*c11_wait)(cnd_t *, mtx_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void)
{
  const char *path = getenv("TEST_CLOCK_FILE");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *found = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
  if (file >= 0) close(file);
  if (found == MAP_FAILED) _exit(97);
  cond_wait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (!cond_wait) cond_wait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  c11_wait = dlsym(RTLD_NEXT, "cnd_timedwait");
  offset = found;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
  int fault = syscall(SYS_clock_gettime, clock, now);
  if (!fault && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
  return fault;
}

int gettimeofday(struct timeval *now, void *zone)
{
  struct timespec found;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &found);
  now->tv_sec = found.tv_sec;
  now->tv_usec = found.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *now)
{
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (now) *now = found.tv_sec;
  return found.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
  return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

static struct timespec as_the_kernel_counts(const struct timespec *end)
{
  struct timespec real = *end;
  if (offset && real.tv_sec > A_DATE) real.tv_sec -= *offset;
  return real;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *end)
{
  struct timespec real = as_the_kernel_counts(end);
  return cond_wait(cond, mutex, &real);
}

int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *end)
{
  struct timespec real = as_the_kernel_counts(end);
  return c11_wait(cond, mutex, &real);
}
