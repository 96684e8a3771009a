// Guests for benches: a kernel of a few lines on bare page tables, and Linux with a console.

import { assemble } from '../../src/asm/assembler.js';
import { wasmEngine } from '../../src/engine/engines.js';
import { Guest } from '../../src/helper/guest.js';
import { openSingleHost } from '../../src/host/standalone/single-host.js';
import { Domain } from '../../src/hypervisor/domain.js';
import { virtualXen417 } from '../../src/hypervisor/identity.js';

const PAGE = 4096;
const DOMID = 1;

const create = (frames: number, nsPerInstruction: number) =>
  Domain.create(
    {
      domid: DOMID,
      uuid: new Uint8Array(16),
      vcpus: 1,
      memoryFrames: frames,
      maxFrames: frames,
      memoryMap: [{ start: 0n, bytes: BigInt(frames * PAGE), type: 1 }],
      identity: virtualXen417(1),
      nsPerInstruction,
    },
    {
      monotonic: () => performance.now() * 1e6,
      wallClock: () => Date.now() * 1e6,
      // It runs to its end in one call.
      engine: wasmEngine({ compilesAtOnce: true }),
    },
  );

/** Runs `body` `loops` times in a small kernel. Returns the seconds that this took. */
export async function tinyKernel(body: string, loops: number): Promise<number> {
  const frames = 2048;
  const domain = await create(frames, 1);
  domain.prepare();
  const { ram } = domain.buildTarget;
  const { mem } = ram;
  const entry = (table: number, index: number, to: number, flags: number): void => {
    mem.setU32(ram.linearOf(table) + 8 * index, (ram.mfnOf(to) << 12) | flags);
    mem.setU32(ram.linearOf(table) + 8 * index + 4, ram.mfnOf(to) >>> 20);
  };
  const [l4, l3, l2, l1] = [2047, 2046, 2045, 2040];
  entry(l4, 0, l3, 7);
  entry(l3, 0, l2, 7);
  for (let i = 0; i < 5; i++) entry(l2, i, l1 + i, 7);
  for (let f = 0; f < frames; f++) entry(l1 + (f >>> 9), f & 511, f, f >= l1 ? 5 : 7);
  const code = assemble(
    `
    lea rdi, [traps]
    xor eax, eax
    syscall
    lea rsi, [ipi]
    mov edi, 7
    mov eax, 32
    syscall
    mov eax, [ipi+4]
    mov [ipi], eax
    mov r13, ${ram.mfnOf(0x600) * PAGE + 7}
    mov ebx, ${loops}
  again:
    ${body}
  went_on:
    dec ebx
    jnz again
    lea rsi, [reason]
    mov edi, 2
    mov eax, 29
    syscall
  fault:
    lea rax, [went_on]
    mov [rsp+24], rax
    mov rcx, [rsp]
    mov r11, [rsp+8]
    add rsp, 24
    push 0
    push rcx
    push r11
    push rax
    mov eax, 23
    syscall
  ipi: dq 0
  reason: dq 0
  traps: db 14, 4
    dw 0xe030
    dd 0
    dq fault
    zero 16`,
    0x10000n,
  );
  mem.u8.set(code.bytes, ram.linearOf(0) + 0x10000);
  domain.powerOn({ rip: 0x10000, rsp: 0x9000, rsi: 0, cr3: ram.mfnOf(l4) });
  domain.start();
  const start = performance.now();
  const end = domain.run(1e9);
  const seconds = (performance.now() - start) / 1000;
  if (end.state !== 'shutdown' || end.reason !== 'poweroff')
    throw new Error(`the kernel ended otherwise: ${JSON.stringify(end)}`);
  return seconds;
}

/**
 * Boots Linux to its first prompt, types `line` there and returns everything that it printed until it powers off;
 * without a line, until the prompt. `seconds` and `instructions` are those to the prompt.
 */
export async function bootLinux(
  kernel: Uint8Array,
  ramdisk: Uint8Array,
  line: string | undefined,
  megabytes = 256,
): Promise<{ text: string; seconds: number; instructions: number }> {
  let text = '';
  let kick: () => void = () => {};
  const start = performance.now();
  const guest = await Guest.powerOn(
    {
      name: 'bench',
      uuid: new Uint8Array(16),
      memoryMib: megabytes,
      vcpus: 1,
      image: { kernel, ramdisk, cmdline: 'console=hvc0 quiet rdinit=/init' },
      kernelName: 'vmlinuz',
      ramdiskName: 'initramfs',
    },
    openSingleHost('bench'),
    {
      engine: wasmEngine(),
      console: (output) => {
        text += Buffer.from(output).toString('latin1');
        return true;
      },
      log: () => {},
      wake: () => kick(),
    },
  );
  await guest.attach();
  let prompt: { seconds: number; instructions: number } | undefined;
  guest.start();
  for (;;) {
    const end = guest.run(2e6);
    if (prompt === undefined && text.includes('guest#')) {
      const instructions = guest.domain.state.vcpus.reduce((sum, v) => sum + (v.cpu.retired ?? 0), 0);
      prompt = { seconds: (performance.now() - start) / 1000, instructions };
      if (line === undefined) break;
      guest.console.type(new TextEncoder().encode(line));
    }
    if (end.state === 'shutdown') break;
    const ms =
      end.state !== 'idle'
        ? 0
        : end.wakeAt === undefined
          ? 1000
          : (end.wakeAt - guest.domain.clock.now()) / 1e6;
    await new Promise<void>((done) => {
      if (ms <= 1) return void setImmediate(done);
      const timer = setTimeout(done, ms);
      kick = () => {
        clearTimeout(timer);
        done();
      };
    });
  }
  await guest.detach();
  if (prompt === undefined) throw new Error(`Linux ended before its prompt:\n${text}`);
  return { text, ...prompt };
}
