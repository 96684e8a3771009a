import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LinearMemory } from '../xen/memory.js';
import { ConsoleBackend, INPUT_LIMIT_BYTES } from './console.js';

const PAGE = 4096;
const text = (b: Uint8Array) => new TextDecoder().decode(b);
const bytesOf = (s: string) => new TextEncoder().encode(s);

/**
 * A console page between two guard pages, and a guest that writes and reads the rings as Linux's hvc_xen
 * does.
 */
function setUp() {
  const mem = new LinearMemory(new ArrayBuffer(3 * PAGE));
  const seen: string[] = [];
  const counts = { notified: 0, touched: 0, accept: true };
  const backend = new ConsoleBackend(
    {
      mem,
      page: PAGE,
      touch: () => {
        counts.touched++;
      },
      notify: () => {
        counts.notified++;
      },
    },
    (b) => {
      seen.push(text(b));
      return counts.accept;
    },
  );
  const guestPrints = (s: string) => {
    for (const c of bytesOf(s)) {
      const prod = mem.getU32(PAGE + 3084);
      mem.setU8(PAGE + 1024 + (prod & 2047), c);
      mem.setU32(PAGE + 3084, prod + 1);
    }
  };
  const guestReads = () => {
    let got = '';
    let cons = mem.getU32(PAGE + 3072);
    while (cons !== mem.getU32(PAGE + 3076)) got += String.fromCharCode(mem.getU8(PAGE + (cons++ & 1023)));
    mem.setU32(PAGE + 3072, cons);
    return got;
  };
  return { mem, backend, seen, counts, guestPrints, guestReads };
}

describe('the console', () => {
  it('shows what the guest prints, also across the end of the ring', () => {
    const { backend, seen, guestPrints } = setUp();
    for (let i = 0; i < 100; i++) {
      guestPrints(`line ${i} ${'x'.repeat(i)}\n`);
      backend.service();
    }
    expect(seen.join('')).toBe(
      Array.from({ length: 100 }, (_, i) => `line ${i} ${'x'.repeat(i)}\n`).join(''),
    );
  });

  it('leaves output in the ring while the terminal is full', () => {
    const { backend, seen, counts, guestPrints } = setUp();
    counts.accept = false;
    guestPrints('one');
    backend.service();
    guestPrints('two');
    backend.service();
    expect(seen).toEqual(['one']);
    backend.drained();
    expect(seen).toEqual(['one', 'two']);
  });

  it('passes typed bytes on in order however slowly the guest reads, and refuses more than its limit', () => {
    const { backend, guestReads } = setUp();
    const typed = Array.from({ length: 3000 }, (_, i) => String.fromCharCode(97 + (i % 26))).join('');
    expect(backend.type(bytesOf(typed))).toBe(3000);
    let got = '';
    for (let i = 0; i < 5; i++) {
      got += guestReads();
      backend.service();
    }
    expect(got).toBe(typed);
    expect(backend.type(new Uint8Array(INPUT_LIMIT_BYTES * 2))).toBe(INPUT_LIMIT_BYTES + 0);
  });

  it('keeps typed bytes that the guest has not read over a save and restore', () => {
    const a = setUp();
    a.backend.type(bytesOf(`${'x'.repeat(1024)}later`));
    const b = setUp();
    b.mem.u8.set(a.mem.u8);
    b.backend.restore(a.backend.save());
    expect(b.guestReads()).toBe('x'.repeat(1024));
    b.backend.service();
    expect(b.guestReads()).toBe('later');
  });

  it('is unharmed by any ring contents and indices, and writes nothing outside its page', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(1023), fc.nat(0xffffffff)), { maxLength: 40 }), (writes) => {
        const { mem, backend } = setUp();
        for (const [word, value] of writes) {
          mem.setU32(PAGE + (word < 8 ? 3072 + 4 * (word & 3) : 4 * word), value);
          backend.type(bytesOf('abc'));
          backend.service();
        }
        expect(mem.u8.subarray(0, PAGE).every((b) => b === 0)).toBe(true);
        expect(mem.u8.subarray(2 * PAGE).every((b) => b === 0)).toBe(true);
      }),
    );
  });
});
