// n times: 64 KiB copied eight bytes at a time, then a string of that length measured byte by byte.
enum { BYTES = 65536 };
static unsigned long from[BYTES / 8], to[BYTES / 8];

static __attribute__((noinline)) void copy(unsigned long *d, const unsigned long *s, unsigned long words) {
  while (words--) *d++ = *s++;
}

static __attribute__((noinline)) unsigned long length(const char *s) {
  const char *p = s;
  while (*p) p++;
  return p - s;
}

unsigned long kernel(unsigned long n) {
  unsigned long sum = 0;
  for (int i = 0; i < BYTES / 8; i++) from[i] = 0x0101010101010101 * (i % 255 + 1);
  for (unsigned long i = 0; i < n; i++) {
    ((char *)from)[BYTES - 1 - i % 64] = 0;
    copy(to, from, BYTES / 8);
    sum = sum * 31 + length((char *)to);
    ((char *)from)[BYTES - 1 - i % 64] = 7;
  }
  return sum;
}
