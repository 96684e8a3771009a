/**
 * Tests that a guest that is saved at any point and restored into a new machine continues as if nothing had happened.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { Exit, PAGE } from '../../src/engine/engine.js';
import { decodeVcpuStates, encodeVcpuStates } from '../../src/engine/vcpu-state.js';
import { busybox, type Command, outcomeOf, perl, runNatively, someText, startOn } from './linux/programs.js';
import type { Machine } from './machine.js';
import { createMachine, TAKES_LARGE_PROGRAMS } from './machine.js';
import { ALL, fault, go, mfnBits, ran, Tables, USER, WRITE } from './memory/tables.js';

const CODE_CACHE = 2 << 20;

/**
 * Returns a new machine with the same RAM and the saved state; `prepared`: frequently executed code is decoded
 * beforehand.
 */
async function successor(machine: Machine, prepared = false): Promise<Machine> {
  const next = await createMachine(machine.ram.frames, CODE_CACHE, machine.vcpus.length);
  const bytes = machine.ram.frames * PAGE;
  next.mem.u8.set(machine.mem.bytes(machine.ram.base, bytes), next.ram.base);
  if (prepared) for (const start of machine.hotCode(1000)) next.prepareCode(start);
  next.restore(machine.save());
  return next;
}

const ram = (machine: Machine): Uint8Array => machine.ram.bytes(0, machine.ram.frames);
const records = (machine: Machine): Uint8Array => encodeVcpuStates(machine.save());
function expectSameState(a: Machine, b: Machine, when = ''): void {
  if (Buffer.compare(records(a), records(b)) !== 0) expect(a.save(), when).toEqual(b.save());
}

/** Checks that nothing that a guest can observe differs between the two. */
function expectSame(a: Machine, b: Machine): void {
  expectSameState(a, b);
  if (Buffer.compare(ram(a), ram(b)) !== 0) {
    const [x, y] = [ram(a), ram(b)];
    const at = x.findIndex((byte, i) => byte !== y[i]);
    const around = (m: Uint8Array): string => Buffer.from(m.subarray(at & ~7, (at & ~7) + 8)).toString('hex');
    expect(`${at.toString(16)}: ${around(x)}`).toBe(`${at.toString(16)}: ${around(y)}`);
  }
}

describe('a real program', () => {
  /** The bytes of RAM that each program needs; small, so that moving it is quick. */
  const programs: [string, number, () => Promise<Command>][] = [
    ['busybox gzip', 2048, () => busybox('gzip', ['-c'], someText().subarray(0, 9000))],
    [
      'busybox awk, with floating point',
      2048,
      () =>
        busybox(
          'awk',
          ['{ s += length($0) / 7 } END { for (i = 1; i < 40; i++) printf "%.17g %e\\n", s / i, i / s }'],
          someText(),
        ),
    ],
    [
      'perl, dynamically linked',
      6144,
      () =>
        perl([
          '-e',
          'my %h; $h{$_ % 97} += sqrt($_) / 3 for 1 .. 3000; printf "%s %.17g\\n", $_, $h{$_} for sort keys %h',
        ]),
    ],
  ];

  test.each(programs.filter(([name]) => TAKES_LARGE_PROGRAMS || !name.startsWith('perl')))(
    '%s ends the same if it is moved to another machine every so many instructions',
    async (_, frames, command) => {
      const c = await command();
      const whole = await startOn(c, await createMachine(frames, CODE_CACHE));
      const moved = await startOn(c, await createMachine(frames, CODE_CACHE));
      // The intervals between moves grow unevenly, because the beginnings of programs differ from their middles.
      let moves = 0;
      let running = true;
      for (let step = 499; running; step = 2 * step + 13) {
        running = whole.process.run(step);
        expect(moved.process.run(step)).toBe(running);
        if (!running) break;
        const next = await successor(moved.process.machine, moves % 2 === 1);
        moved.process.moveTo(next);
        moves++;
        expectSame(next, whole.machine);
        // After the move, the two are compared instruction by instruction as far as the next system call.
        for (let i = 0; i < 150; i++) {
          const exits = [whole.machine, next].map((m) => m.run(0, 1));
          expectSameState(whole.machine, next, `${i} instructions behind move ${moves}`);
          expect(exits[0]).toBe(exits[1]);
          if (exits[0] !== Exit.limit) {
            // run() must make the system call, so rip goes back to it.
            for (const m of [whole.machine, next]) {
              m.vcpus[0].rip -= 2;
              m.vcpus[0].retired--;
            }
            break;
          }
        }
      }
      expect(moves).toBeGreaterThan(8);
      expect(moved.process.machine.vcpus[0].retired).toBe(whole.machine.vcpus[0].retired);
      expectSame(moved.process.machine, whole.machine);
      expect(outcomeOf(moved.process)).toEqual(outcomeOf(whole.process));
      expect(outcomeOf(moved.process).output.equals(runNatively(c).output)).toBe(true);
    },
  );
});

const CODE = 0x400000;
const DATA = 0x600000;
const FAR = 0x700000;
const [RAX, RCX, RSP, RSI, RDI] = [0, 1, 4, 6, 7];

let tables: Tables;
let machine: Machine;
let root: number;

beforeEach(async () => {
  machine = await createMachine(640, CODE_CACHE);
  tables = new Tables(machine);
  root = tables.take();
  const cpu = machine.vcpus[0];
  cpu.cr3Kernel = cpu.cr3User = machine.ram.mfnOf(root);
  cpu.userMode = true;
});

describe('code that was prepared before the guest arrived', () => {
  const LOOP = 'again: inc eax\ndec ecx\njnz again\nud2';
  const DEC_EAX = Uint8Array.of(0xff, 0xc8);

  /** The guest's loop has run and the successor has decoded it; then `change` sets its first instruction. */
  async function changed(change: (next: Machine, at: number) => void): Promise<number> {
    tables.program(root, CODE, LOOP);
    const cpu = machine.vcpus[0];
    cpu.setReg(RCX, 100);
    expect(go(machine, cpu, 300, CODE)).toEqual(ran);
    const at = machine.translate(0, CODE, 2) - machine.ram.base;
    const starts = machine.hotCode(1000);
    expect([...starts]).toEqual([at]);
    const next = await createMachine(machine.ram.frames, CODE_CACHE);
    next.mem.u8.set(machine.ram.bytes(0, machine.ram.frames), next.ram.base);
    for (const start of starts) next.prepareCode(start);
    change(next, next.ram.base + at);
    next.restore(machine.save());
    const { vcpus } = next;
    vcpus[0].setReg(RAX, 1000);
    vcpus[0].setReg(RCX, 100);
    go(next, vcpus[0], 300, CODE);
    return vcpus[0].reg(RAX);
  }

  test('is the code that runs', async () => {
    expect(await changed(() => {})).toBe(1100);
  });

  test('is not decoded again', async () => {
    // No write to its frame was announced.
    expect(await changed((next, at) => next.mem.u8.set(DEC_EAX, at))).toBe(1100);
  });

  test('is dropped when its frame is written', async () => {
    const write = (next: Machine, at: number): void => {
      next.mem.u8.set(DEC_EAX, at);
      next.touch(at);
    };
    expect(await changed(write)).toBe(900);
  });

  test('may be announced for any address', async () => {
    for (let i = 0; i < machine.ram.frames * PAGE; i += 4093) machine.prepareCode(i);
    for (const start of [machine.ram.frames * PAGE - 1, machine.ram.frames * PAGE, 0xffff_ffff])
      machine.prepareCode(start);
    machine.restore(machine.save());
    tables.program(root, CODE, LOOP);
    const cpu = machine.vcpus[0];
    cpu.setReg(RCX, 100);
    expect(go(machine, cpu, 300, CODE)).toEqual(ran);
    expect(cpu.reg(RAX)).toBe(100);
  });
});

describe('a half-done string instruction', () => {
  const MANY = 200_000;
  test.each([
    ['rep movsb', 1, 0x202],
    ['rep stosw', 2, 0x202],
    ['rep movsb', 1, 0x602],
    ['repe cmpsb', 1, 0x202],
    ['repne scasb', 1, 0x202],
    ['rep lodsb', 1, 0x202],
  ])('%s with elements of %i bytes and rflags %i continues where it was', async (text, bytes, rflags) => {
    for (let i = 0; i <= (MANY * bytes) / PAGE + 1; i++) {
      const [from, to] = [tables.mapNew(root, DATA + i * PAGE), tables.mapNew(root, FAR + i * PAGE)];
      for (let k = 0; k < PAGE; k++) machine.mem.setU8(from + k, i + k * 3);
      if (text.endsWith('cmpsb')) machine.mem.u8.copyWithin(to, from, from + PAGE);
      if (text.endsWith('scasb')) machine.mem.u8.fill(9, to, to + PAGE);
    }
    tables.program(root, CODE, `${text}\nnop`);
    const cpu = machine.vcpus[0];
    const down = (rflags & 0x400) !== 0;
    cpu.setReg(RSI, down ? DATA + MANY * bytes : DATA);
    cpu.setReg(RDI, down ? FAR + MANY * bytes : FAR);
    cpu.setReg(RCX, MANY);
    cpu.setReg(RAX, 0x1234);
    cpu.rflags = rflags;
    cpu.rip = CODE;
    const other = await successor(machine);
    let at = other;
    let steps = 0;
    while (at.vcpus[0].rip === CODE) {
      expect(at.run(0, 1)).toBe(Exit.limit);
      at = await successor(at);
      steps++;
    }
    // It was interrupted, and each part counted as an instruction.
    expect(steps).toBeGreaterThan(2);
    expect(at.vcpus[0].reg(RCX)).toBe(0);
    expect(machine.run(0, steps)).toBe(Exit.limit);
    expect(cpu.rip).toBe(at.vcpus[0].rip);
    expectSame(at, machine);
  });
});

test('a guest that stands at a fault takes it again in the other machine, or continues if its cause is gone', async () => {
  const linear = tables.mapNew(root, DATA);
  const at = tables.program(root, CODE, 'mov rax, 5\nstore: add [rdi], rax\nnop');
  const cpu = machine.vcpus[0];
  const va = DATA + PAGE - 4;
  cpu.setReg(RDI, va);
  expect(go(machine, cpu, 5, CODE)).toEqual(fault(USER | WRITE, DATA + PAGE));
  const next = await successor(machine);
  expect(next.vcpus[0].rip).toBe(at.get('store'));
  expect(next.vcpus[0].cr2).toBe(DATA + PAGE);
  expect(next.vcpus[0].retired).toBe(1);
  expect(go(next, next.vcpus[0], 5)).toEqual(fault(USER | WRITE, DATA + PAGE));
  for (const m of [machine, next]) {
    m.mem.setBig(tables.entry(root, DATA) - machine.ram.base + m.ram.base + 8, mfnBits(600) | ALL);
    m.tables.forget();
    expect(go(m, m.vcpus[0], 1)).toEqual(ran);
    expect(m.mem.getU32(linear - machine.ram.base + m.ram.base + PAGE - 4)).toBe(5);
  }
  expectSame(next, machine);
});

/** Every kind of state: all flags, a stack, x87 with a full stack and unusual tags, MMX, SSE, MXCSR, segment bases. */
const MIXED = `
    mov rsp, ${DATA + 2048}
    mov ebp, 3
  top:
    mov rax, 0x8123456789abcdef
    add rax, rax
    pushfq
    adc rax, 3
    pushfq
    sbb rbx, rax
    pushfq
    inc rcx
    pushfq
    dec rdx
    shl rax, 3
    pushfq
    rol rbx, 7
    imul rdx, rax, 77
    pushfq
    neg rdx
    bts rdx, 5
    pushfq
    fld1
    fldpi
    fadd st0, st1
    fsqrt
    fsincos
    fldl2e
    db 0xd9, 0xca ; fxch st2
    ffree st1
    fnstsw ax
    fdivp st2, st0
    fld1
    fldz
    fdivp st1, st0
    fnstcw [rsp - 8]
    cvtsi2sd xmm3, rbp
    sqrtsd xmm4, xmm3
    divsd xmm4, xmm3
    addpd xmm5, xmm4
    movups [rsp - 64], xmm5
    mov dword [rsp - 16], 0x7f80
    ldmxcsr [rsp - 16]
    divsd xmm6, xmm7
    stmxcsr [rsp - 12]
    comisd xmm4, xmm5
    pushfq
    std
    lea rdi, [rsp - 128]
    stosq
    cld
    movsx rsi, ax
    cmpxchg [rsp - 200], rbx
    pushfq
    mov r8, gs:[16]
    add r8, fs:[8]
    movq mm3, [rsp - 64]
    paddw mm3, mm3
    emms
    call sub
    fnsave [rsp - 400]
    dec ebp
    jnz top
    ud2
  sub: xchg rax, r9
    ret 8
`;

test('a guest that is moved after every single instruction computes the same as one that stays', async () => {
  for (const va of [DATA, DATA + PAGE, FAR]) tables.mapNew(root, va);
  tables.program(root, CODE, MIXED);
  const cpu = machine.vcpus[0];
  cpu.rip = CODE;
  cpu.fsBase = FAR;
  cpu.gsBase = FAR + 64;
  cpu.setReg(RSP, 0);
  for (let i = 0; i < 64; i++) machine.mem.setU8(tables.linear(6) + i, i * 37);
  let at = await createMachine(machine.ram.frames, CODE_CACHE);
  let spare = await createMachine(machine.ram.frames, CODE_CACHE);
  at.mem.u8.set(ram(machine), at.ram.base);
  at.restore(machine.save());
  let steps = 0;
  for (let exit = Exit.limit; exit === Exit.limit; steps++) {
    exit = at.run(0, 1);
    expect(machine.run(0, 1)).toBe(exit);
    expectSameState(at, machine, `after ${steps} instructions`);
    spare.mem.u8.set(ram(at), spare.ram.base);
    spare.restore(at.save());
    [at, spare] = [spare, at];
  }
  expect(cpu.exitVector).toBe(6);
  expect(steps).toBeGreaterThan(180);
  expectSame(at, machine);
  expect(at.vcpus[0].retired).toBe(steps - 1);
});

test('records that are cut short or of another number of vCPUs are refused', async () => {
  const two = await createMachine(16, 1 << 20, 2);
  expect(() => two.restore(machine.save())).toThrow('2 vCPUs expected, found 1');
  expect(() => machine.restore(two.save())).toThrow('1 vCPUs expected, found 2');
  const bytes = records(machine);
  for (const length of [1, 20, bytes.length - 1])
    expect(() => decodeVcpuStates(bytes.subarray(0, length))).toThrow();
  const broken = bytes.slice();
  broken[100] ^= 1;
  expect(() => decodeVcpuStates(broken)).toThrow();
});
