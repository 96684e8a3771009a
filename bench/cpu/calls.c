// The n-th Fibonacci number by its definition: calls, returns, pushes, pops.
// Cloning and inlining are disabled, or the compiler would turn most calls into a loop.
__attribute__((noipa, optimize("no-inline", "no-optimize-sibling-calls"))) static unsigned long fib(unsigned long n) {
  if (n < 2) return n;
  unsigned long a = fib(n - 1);
  return a + fib(n - 2);
}

unsigned long kernel(unsigned long n) { return fib(n); }
