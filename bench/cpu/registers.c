// n rounds of arithmetic that stays in registers.
unsigned long kernel(unsigned long n) {
  unsigned long a = 1, b = 2, c = 3;
  while (n--) {
    a += b ^ n;
    b = b << 7 | b >> 57;
    c ^= a - b;
    b += c;
  }
  return a ^ b ^ c;
}
