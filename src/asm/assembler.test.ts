import { describe, expect, it } from 'vitest';
import { Decoder, Formatter, FormatterSyntax } from '../x86/iced.js';
import { assemble } from './assembler.js';

/** Disassembles the bytes with iced, as an independent opinion of what was assembled. */
function disassemble(bytes: Uint8Array, origin: bigint): string[] {
  const decoder = new Decoder(64, bytes, 0);
  decoder.ip = origin;
  const formatter = new Formatter(FormatterSyntax.Nasm);
  const out: string[] = [];
  while (decoder.canDecode) out.push(formatter.format(decoder.decode()));
  return out;
}

describe('the assembler', () => {
  it('encodes what it reads', () => {
    const lines = [
      'mov rax,[rbx+rcx*8+10h]',
      'mov byte [rdi],5',
      'mov eax,0FFFFFFFFh',
      'mov r10,1122334455667788h',
      'add qword [rsp],1',
      'lea rsi,[rsi+1]',
      'xchg al,[rdi]',
      'lock cmpxchg [r9],r10',
      'shl rax,cl',
      'shr edx,4',
      'rep movsb',
      'rep stosq',
      'push r12',
      'push 202h',
      'pop rbp',
      'syscall',
      'ret',
      'movzx eax,byte [rsi]',
      'test al,al',
      'sete dl',
      'mov cr3,rax',
      'rdtsc',
      'cpuid',
      'imul rax,rbx,64h',
      'movaps xmm1,xmm2',
      'movsd xmm0,[rax]',
      'mov rax,[gs:28h]',
      'fld tword [rax]',
      'fstp st1',
      'in al,dx',
      'iretq',
      'mov ax,ds',
      'cvtsi2sd xmm3,rax',
      'ud2',
    ];
    const source = lines
      .map((l) =>
        l
          .replace('xchg al,[rdi]', 'xchg [rdi],al')
          .replace('[gs:', 'gs:[')
          .replaceAll(/\b([0-9][0-9A-F]*)h\b/g, '0x$1'),
      )
      .join('\n');
    const bytes = assemble(source, 0x1000n).bytes;
    expect(disassemble(bytes, 0x1000n)).toEqual(lines);
  });

  it('finds labels forwards and backwards, in code and data', () => {
    const a = assemble(
      `start: lea rsi, [text]
       again: dec rcx
       jnz again
       jmp end
       mov rax, table
       text: ascii "a;b\\n"
       align 8
       table: dq start, text+1, -1
       end: ret`,
      0xffffffff81000000n,
    );
    const view = new DataView(a.bytes.buffer);
    const table = a.at('table') - a.at('start');
    expect(table % 8).toBe(0);
    expect(view.getBigUint64(table, true)).toBe(0xffffffff81000000n);
    expect(view.getBigUint64(table + 8, true)).toBe(a.labels.get('text')! + 1n);
    expect(view.getBigInt64(table + 16, true)).toBe(-1n);
    const text = disassemble(a.bytes.slice(0, a.at('text') - a.at('start')), 0xffffffff81000000n);
    const hex = (label: string) => `${BigInt.asUintN(64, a.labels.get(label)!).toString(16).toUpperCase()}h`;
    expect(text[0]).toContain(`[rel 0${hex('text')}]`);
    expect(text[2]).toContain(hex('again'));
    expect(text[3]).toContain(hex('end'));
  });

  it('names the line of a mistake', () => {
    expect(() => assemble('nop\nfrob rax', 0n)).toThrow('assembly line 2: unknown instruction: frob rax');
    expect(() => assemble('mov rax, xmm0', 0n)).toThrow('assembly line 1: no such form');
    expect(() => assemble('jmp nowhere', 0n)).toThrow('line 1: unknown name');
  });

  it.each([
    ['mov eax, wrong', 'wrong'],
    ['mov rax, wrong+1', 'wrong'],
    ['add rax, rbx+4', 'rbx'],
    ['mov eax, 0xwrong', '0xwrong'],
    ['mov eax, 7wrong', '7wrong'],
    ['mov eax, [rbx+wrong]', 'wrong'],
    ['mov eax, [rbx+7wrong]', '7wrong'],
    ['mov eax, [wrong]', 'wrong'],
    ['size = wrong*2', 'wrong'],
    ['dd wrong', 'wrong'],
    ['zero wrong', 'wrong'],
    ['align wrong', 'wrong'],
  ])('takes no unknown name for a number: %s', (line, name) => {
    const message = `assembly line 3: unknown name: ${name}`;
    expect(() => assemble(`start:\nnop\n${line}\nnop`, 0n)).toThrow(message);
  });

  it.each(['zero end-start', 'align end-start', 'size = end'])(
    'lets no label further down decide how long something is: %s',
    (line) => {
      expect(() => assemble(`start: nop\n${line}\nend: nop`, 0n)).toThrow(
        'assembly line 2: not known yet: end',
      );
    },
  );
});
