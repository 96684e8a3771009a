/* Stands for the hypervisor under Xen's own xenstored and oxenstored, so that their sockets can be measured
   without Xen: a domain 0 that never speaks on its ring. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int events = -1;
static char page[4096] __attribute__((aligned(4096)));
void *xc_interface_open(void *a, void *b, unsigned c) { return &events; }
int xc_interface_close(void *x) { return 0; }
int xc_domain_getinfo(void *x, unsigned first, unsigned max, unsigned *info) { return 0; }
void *xenevtchn_open(void *l, unsigned f) { events = eventfd(0, EFD_CLOEXEC); return &events; }
int xenevtchn_fd(void *x) { return events; }
int xenevtchn_bind_virq(void *x, unsigned v) { return 1; }
int xenevtchn_bind_interdomain(void *x, unsigned d, unsigned p) { return 2; }
int xenevtchn_notify(void *x, unsigned p) { return 0; }
int xenevtchn_unmask(void *x, unsigned p) { return 0; }
int xenevtchn_unbind(void *x, unsigned p) { return 0; }
int xenevtchn_pending(void *x) { return -1; }
void *xengnttab_open(void *l, unsigned f) { return &events; }
int xengnttab_close(void *x) { return 0; }
int xengnttab_set_max_grants(void *x, unsigned n) { return 0; }
void *xengnttab_map_grant_ref(void *x, unsigned d, unsigned r, int p) { return page; }
int xengnttab_unmap(void *x, void *a, unsigned n) { return 0; }
/* oxenstored wants more open files than an ordinary user may have, and does without. */
int setrlimit(__rlimit_resource_t r, const struct rlimit *l) { return 0; }
int setrlimit64(__rlimit_resource_t r, const struct rlimit64 *l) { return 0; }

static int hypervisors(const char *path) {
  if (strcmp(path, "/proc/xen/xsd_port") == 0) {
    int fd = memfd_create("port", 0);
    if (write(fd, "1", 1) != 1 || lseek(fd, 0, SEEK_SET) != 0) return -1;
    return fd;
  }
  if (strcmp(path, "/proc/xen/xsd_kva") == 0) {
    int fd = memfd_create("kva", 0);
    return ftruncate(fd, 4096) == 0 ? fd : -1;
  }
  return -2;
}
/* oxenstored's socket lies in a folder that is compiled in. */
#define RUN "/var/run/xenstored"
static const char *moved(const char *path) {
  static char other[4096];
  const char *to = getenv("XENSTORED_RUNDIR");
  if (to == NULL || strncmp(path, RUN, strlen(RUN)) != 0) return path;
  snprintf(other, sizeof other, "%s%s", to, path + strlen(RUN));
  return other;
}
int unlink(const char *path) { return ((int (*)(const char *))dlsym(RTLD_NEXT, "unlink"))(moved(path)); }
int mkdir(const char *path, mode_t m) {
  return ((int (*)(const char *, mode_t))dlsym(RTLD_NEXT, "mkdir"))(moved(path), m);
}
int bind(int fd, const struct sockaddr *a, socklen_t length) {
  struct sockaddr_un other;
  if (a->sa_family == AF_UNIX) {
    const char *path = moved(((const struct sockaddr_un *)a)->sun_path);
    if (strlen(path) >= sizeof other.sun_path) { errno = ENAMETOOLONG; return -1; }
    other.sun_family = AF_UNIX;
    strcpy(other.sun_path, path);
    a = (const struct sockaddr *)&other;
    length = sizeof other;
  }
  return ((int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "bind"))(fd, a, length);
}

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    int fd = hypervisors(path); \
    if (fd != -2) return fd; \
    va_list list; \
    va_start(list, flags); \
    int mode = va_arg(list, int); \
    va_end(list); \
    return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(moved(path), flags, mode); \
  }
OPEN(open)
OPEN(open64)
