// n steps along a list of 1 MiB whose order is random: every step waits for a load.
enum { NODES = 16384 };
static struct node {
  struct node *next;
  unsigned long value[7];
} nodes[NODES];

unsigned long kernel(unsigned long n) {
  static unsigned order[NODES];
  unsigned random = 12345;
  for (unsigned i = 0; i < NODES; i++) order[i] = i;
  // Sattolo's shuffle makes one cycle through all entries.
  for (unsigned i = NODES - 1; i > 0; i--) {
    random = random * 1664525 + 1013904223;
    unsigned j = (random >> 8) % i, other = order[i];
    order[i] = order[j], order[j] = other;
  }
  for (unsigned i = 0; i < NODES; i++) {
    nodes[order[i]].next = &nodes[order[(i + 1) % NODES]];
    nodes[order[i]].value[3] = i;
  }
  struct node *at = nodes;
  unsigned long sum = 0;
  while (n--) sum += at->value[3], at = at->next;
  return sum;
}
