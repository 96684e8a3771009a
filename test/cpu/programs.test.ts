import { expect, test } from 'vitest';
import {
  busybox,
  type Command,
  type Outcome,
  perl,
  runNatively,
  runOnMachine,
  someText,
} from './linux/programs.js';
import { TAKES_LARGE_PROGRAMS } from './machine.js';

/** Runs a command on the machine and on the processor. Returns what both printed. */
async function same(command: Command): Promise<Outcome> {
  const native = runNatively(command);
  const ours = await runOnMachine(command);
  expect(native.status).toBe(0);
  expect(ours.errors).toBe(native.errors);
  expect(ours.output.toString('latin1')).toBe(native.output.toString('latin1'));
  expect(ours.status).toBe(native.status);
  return ours;
}

const lines = (count: number, line: (i: number) => string): Buffer =>
  Buffer.from(Array.from({ length: count }, (_, i) => `${line(i)}\n`).join(''));
const numbers = lines(3000, (i) => `${(i * 7919) % 3001} ${Math.sin(i)} word${(i * 31) % 97}`);

const AWK = `{ s += $2; q += $2 * $2; n[$3]++ }
END { printf "%.15g %.17g %e %g\\n", s, q, s / 7, q / 1e300 * s * 1e-300;
      for (w in n) m += n[w]; print m;
      for (i = 0; i < 30; i++) printf "%d %.3f %08.4f %s %x\\n", i, i / 3, -i / 7, int(1e15 / (i + 1)), i * 1e6 }`;

const DC = '20 k 2 v p 1 3 / p 2 77 ^ p 123456789012 987 * 3 - p 17 5 % p 16 o 255 p';

const PERL = `
my %count; my @words = map { lc } (do { local $/; <STDIN> } =~ /\\w+/g);
$count{$_}++ for @words;
printf "%s %d\\n", $_, $count{$_} for (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count)[0 .. 19];
printf "%.17g %.15g %g %e\\n", sqrt(2), exp(1), log(10), atan2(1, 1) * 4;
printf "%.10f\\n", sin($_) / (cos($_) + 2) for 1 .. 10;
print join(",", map { sprintf "%b %o %x", $_, $_, $_ } 1, 255, 65536, 4294967295, 18446744073709551615), "\\n";
print unpack("H*", pack("nNvVdfq", 1, 2, 3, 4, 1.5, -2.25, -7)), "\\n";
my ($a, $b) = (1, 1); ($a, $b) = ($b, $a + $b) for 1 .. 90; print "$a\\n";
my $s = "x" x 1000; $s =~ s/(x{3})/length($1) . "-"/ge; print length($s), " ", unpack("%32C*", $s), "\\n";
print 9**20, " ", 2**0.5, " ", 1e308 * 10, " ", -17 % 5, " ", 1 / 3, " ", int(-3.7), " ", 10 <=> 9, "\\n";
`;

test("Debian's busybox gives the digests of a text", async () => {
  const text = someText();
  expect((await same(await busybox('sha256sum', [], text))).output.length).toBeGreaterThan(64);
  await same(await busybox('md5sum', [], text));
  await same(await busybox('sha512sum', [], text));
  await same(await busybox('sha3sum', [], text));
});

test('busybox compresses to the same bytes as on the processor, and decompresses them', async () => {
  const text = someText();
  const packed = await same(await busybox('gzip', ['-9', '-c'], text));
  expect(packed.output.length).toBeLessThan(text.length / 2);
  const unpacked = await same(await busybox('gunzip', ['-c'], packed.output));
  expect(unpacked.output.equals(text)).toBe(true);
});

test('busybox sorts numbers and words', async () => {
  await same(await busybox('sort', ['-n'], numbers));
  await same(await busybox('sort', ['-k3,3', '-k1,1nr'], numbers));
});

test("busybox's awk computes with floating-point numbers and prints the same digits", async () => {
  const { output } = await same(await busybox('awk', [AWK], numbers));
  expect(output.toString().split('\n').length).toBe(33);
});

test("busybox's dc calculates", async () => {
  await same(await busybox('dc', ['-e', DC]));
});

test.runIf(TAKES_LARGE_PROGRAMS)(
  "Debian's perl, dynamically linked, counts words, formats numbers and matches",
  async () => {
    const { output } = await same(await perl(['-e', PERL], someText()));
    expect(output.toString().split('\n').length).toBeGreaterThan(35);
  },
);
