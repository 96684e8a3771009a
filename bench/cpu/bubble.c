// n bubble sorts of 1000 numbers: comparisons, unpredictable branches, exchanges.
enum { COUNT = 1000 };

static __attribute__((noinline)) void sort(int *a, int count) {
  for (int end = count - 1; end > 0; end--)
    for (int i = 0; i < end; i++)
      if (a[i] > a[i + 1]) {
        int t = a[i];
        a[i] = a[i + 1], a[i + 1] = t;
      }
}

unsigned long kernel(unsigned long n) {
  static int a[COUNT];
  unsigned long sum = 0;
  unsigned random = 1;
  while (n--) {
    for (int i = 0; i < COUNT; i++) a[i] = random = random * 1664525 + 1013904223;
    sort(a, COUNT);
    for (int i = 0; i < COUNT; i += 37) sum = sum * 31 + a[i];
  }
  return sum;
}
