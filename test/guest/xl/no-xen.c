/* Stands for Xen and for xenstored under Xen's own xl, so that `xl create --dryrun` can be asked on any machine what it
   makes of a configuration. Only what that verb calls is here. The file that XL_CONF names stands for xl.conf. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char handle[4096];
void *xc_interface_open(void *a, void *b, unsigned c) { return handle; }
int xc_interface_close(void *x) { return 0; }
void *xs_open(unsigned long flags) { return handle; }
void *xs_daemon_open(void) { return handle; }
void xs_close(void *x) {}
void xs_daemon_close(void *x) {}
int xs_fileno(void *x) { return 0; }
void *xs_read(void *x, unsigned t, const char *path, unsigned *length) { return NULL; }
int xc_sched_id(void *x, int *id) { *id = 7; return 0; }
int xc_get_max_cpus(void *x) { return 8; }
int xc_get_online_cpus(void *x) { return 8; }
int xc_get_max_nodes(void *x) { return 1; }
long xc_sharing_used_frames(void *x) { return 0; }
long xc_sharing_freed_pages(void *x) { return 0; }
/* xen_sysctl_physinfo has no more than 256 bytes; the caller's is at least as long. All that is 0 there is unknown. */
int xc_physinfo(void *x, unsigned *info) { return 0; }
/* XENVER_version, XENVER_pagesize, XENVER_build_id, XENVER_platform_parameters. */
int xc_version(void *x, int command, void *into) {
  if (command == 0) return (4 << 16) | 17;
  if (command == 7) return 4096;
  if (command == 10) { errno = ENODATA; return -1; }
  if (into) memset(into, 0, command == 5 ? 8 : 16);
  return 0;
}
FILE *fopen(const char *path, const char *mode) {
  static FILE *(*real)(const char *, const char *);
  if (!real) real = (FILE * (*)(const char *, const char *))dlsym(RTLD_NEXT, "fopen");
  return real(strcmp(path, "/etc/xen/xl.conf") ? path : getenv("XL_CONF"), mode);
}
