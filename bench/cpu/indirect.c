// n calls through a table of eight functions, chosen at random.
typedef unsigned long (*function)(unsigned long);
#define F(name, expression) \
  static __attribute__((noinline)) unsigned long name(unsigned long x) { return expression; }
F(f0, x + 0x9e3779b97f4a7c15)
F(f1, x ^ x >> 13)
F(f2, x * 5)
F(f3, ~x)
F(f4, x << 3 | x >> 61)
F(f5, x - 77)
F(f6, x ^ 0x5555)
F(f7, x + (x >> 7))

unsigned long kernel(unsigned long n) {
  static const function table[8] = {f0, f1, f2, f3, f4, f5, f6, f7};
  unsigned long x = 1;
  unsigned random = 1;
  while (n--) {
    random = random * 1664525 + 1013904223;
    x = table[random >> 29](x);
  }
  return x;
}
