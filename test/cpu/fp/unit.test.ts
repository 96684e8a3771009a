/**
 * Compares the floating-point unit with the processor that it runs on, for every form of every instruction. The seed is
 * printed; STILLPOINT_FP_SEED repeats a run, STILLPOINT_FP_STATES sets the number of states for each form.
 */
import { randomInt } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { lookupFp } from '../../../src/engine/wasm/decode/fp.js';
import * as iced from '../../../src/x86/iced.js';
import { BASELINE } from '../forms.js';
import { type Native, openNative } from '../native.js';
import { Random } from '../values.js';
import {
  casesOf,
  compareCase,
  estimateDifferences,
  isApproximate,
  unitForms,
  x87Differences,
} from './compare.js';
import { openUnit, operationOf, type Unit } from './unit.js';

const seed = Number(process.env.STILLPOINT_FP_SEED ?? randomInt(2 ** 31));
const states = Number(process.env.STILLPOINT_FP_STATES ?? 40);
const here = process.arch === 'x64' && process.platform === 'linux';
let unit: Unit;
beforeAll(async () => {
  unit = openUnit();
});

/** Returns the result of an x87 instruction on ST(0), ST(1), ..., each given as [sign and exponent, significand]. */
function x87(code: number[], stack: [number, bigint][], fcw = 0x37f): [number, bigint] {
  const image = new Uint8Array(512);
  const view = new DataView(image.buffer);
  view.setUint16(0, fcw, true);
  view.setUint32(24, 0x1f80, true);
  image[4] = (1 << stack.length) - 1;
  stack.forEach(([se, sig], i) => {
    view.setBigUint64(32 + 16 * i, sig, true);
    view.setUint16(40 + 16 * i, se, true);
  });
  unit.load(image);
  expect(unit.step(operationOf(Uint8Array.from(code))!, new Uint8Array(16), 0, 0n, 0n)).toBe(0);
  const after = new DataView(unit.save().buffer);
  return [after.getUint16(40, true), after.getBigUint64(32, true)];
}

describe('the decode table', () => {
  it('has every floating-point, MMX and SSE form of the baseline', () => {
    const r = new Random(1);
    const missing = unitForms()
      .flatMap((f) => casesOf(f, r))
      .filter((c) => operationOf(c.bytes) === undefined);
    expect(missing.map((c) => c.form.name)).toEqual([]);
  });

  it('loads or stores exactly the bytes of the memory operand', () => {
    const r = new Random(2);
    const wrong = unitForms()
      .flatMap((f) => casesOf(f, r))
      .filter((c) => c.memory && c.form.memoryBytes > 0)
      .filter((c) => {
        const { loadSize, storeSize } = operationOf(c.bytes)!.form;
        return Math.max(loadSize, storeSize) !== c.form.memoryBytes;
      });
    expect(wrong.map((c) => c.form.name)).toEqual([]);
  });

  it('has nothing that CPUID does not offer', () => {
    const known = Object.values(iced.Code)
      .filter((code): code is iced.Code => typeof code === 'number')
      .filter((code) => lookupFp(code, false) !== undefined || lookupFp(code, true) !== undefined)
      .filter((code) => {
        const features = iced.Instruction.create(code).cpuidFeatures();
        return ![...features].every((f) => BASELINE.has(iced.CpuidFeature[f]));
      });
    expect(known.map((code) => iced.Code[code])).toEqual([]);
  });
});

describe('x87 functions', () => {
  it('are rounded correctly even where processors are not', () => {
    // sin(1/32) = 0x0.07ff5557777437465.4966: the result of AMD processors ends in 6.
    expect(x87([0xd9, 0xfe], [[0x3ffa, 1n << 63n]])).toEqual([0x3ff9, 0xfff5557777437465n]);
    // 2^x - 1 for an x slightly above 3/128 is ...ec.9759.
    expect(x87([0xd9, 0xf0], [[0xbff9, 0xc000000000000001n]])).toEqual([0xbff9, 0x8402526341ec76edn]);
  });

  it('reduce arguments by a 66-bit pi', () => {
    expect(x87([0xd9, 0xfe], [[0x4000, 0xc90fdaa22168c235n]])).toEqual([0xbfbf, 0x8000000000000000n]);
  });

  it('refuse arguments of 2^63 and above', () => {
    const big: [number, bigint] = [0x3fff + 63, 1n << 63n];
    expect(x87([0xd9, 0xfe], [big])).toEqual(big);
  });
});

describe('cases that once failed', () => {
  const image = (fcw: number, fsw: number, ftw: number): Uint8Array => {
    const bytes = new Uint8Array(512);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, fcw, true);
    view.setUint16(2, fsw, true);
    bytes[4] = ftw;
    view.setUint32(24, 0x1f80, true);
    view.setBigUint64(32, 1n << 63n, true);
    view.setUint16(40, 0x3c00, true); // ST(0) = 2^-1023: too small for a double
    return bytes;
  };
  const run = (state: Uint8Array, code: number[], operand: number[] = []): DataView => {
    unit.load(state);
    const window = new Uint8Array(512);
    window.set(operand);
    expect(unit.step(operationOf(Uint8Array.from(code))!, window, 0, 0n, 0n)).toBe(0);
    return new DataView(unit.save().buffer);
  };

  it('FFREEP frees ST(0) as well as the register that it names', () => {
    expect(run(image(0x37f, 0, 0xff), [0xdf, 0xc3]).getUint8(4)).toBe(0xf6);
  });

  it('a store with an unmasked underflow reports no inexact result', () => {
    const after = run(image(0x36f, 0, 1), [0xdd, 0x1e]);
    expect(after.getUint16(2, true) & 0x3f).toBe(0x10);
    expect(after.getUint8(4)).toBe(1);
  });

  it('a denormal double is loaded even if the denormal exception is unmasked', () => {
    const after = run(image(0x37d, 0, 0), [0xdd, 0x06], [1]);
    expect(after.getUint16(2, true)).toBe(0xb882);
    expect(after.getUint16(40, true)).toBe(16383 - 1074);
  });

  it('CVTPI2PS from memory does not change the x87 state', () => {
    const after = run(image(0x37f, 0x2800, 0x20), [0x0f, 0x2a, 0x0e]);
    expect(after.getUint16(2, true)).toBe(0x2800);
    expect(after.getUint8(4)).toBe(0x20);
  });

  it('a denormal dividend of an infinite divisor underflows if underflow is unmasked', () => {
    const state = image(0x36f, 0, 3);
    const view = new DataView(state.buffer);
    view.setUint16(40, 0, true);
    view.setBigUint64(32, 1n << 62n, true); // ST(0) = 2^-16383
    view.setUint16(56, 0x7fff, true);
    view.setBigUint64(48, 1n << 63n, true); // ST(1) = infinity
    const after = run(state, [0xd9, 0xf8]);
    expect(after.getUint16(2, true)).toBe(0x8092);
    expect(after.getUint16(40, true)).toBe(24576);
  });

  it('FSTPNCE accepts an empty stack', () => {
    expect(run(image(0x37f, 0, 0), [0xd9, 0xd9]).getUint16(2, true)).toBe(0x0800);
  });
});

describe.skipIf(!here)(`on ${states} states a form, seed ${seed}`, { timeout: 300_000 }, () => {
  let native: Native;
  beforeAll(() => {
    console.log(`floating-point unit test: seed ${seed}, ${states} states a form`);
    native = openNative(new Uint8Array(4096));
  });

  it('the processor and the unit agree on every form, bit for bit', () => {
    const r = new Random(seed);
    const found = unitForms()
      .filter((f) => !isApproximate(f))
      .flatMap((f) => casesOf(f, r))
      .flatMap((c) => compareCase(native, unit, c, states, r));
    expect(
      found
        .slice(0, 5)
        .map((m) => m.text)
        .join('\n'),
    ).toBe('');
  });

  it('x87 functions differ from the processor by at most one unit in the last place', () => {
    const r = new Random(seed);
    const found = unitForms()
      .filter((f) => isApproximate(f) && f.unit === 'x87')
      .flatMap((f) => casesOf(f, r))
      .flatMap((c) => compareCase(native, unit, c, 4 * states, r, x87Differences));
    expect(
      found
        .slice(0, 5)
        .map((m) => m.text)
        .join('\n'),
    ).toBe('');
  });

  it('reciprocal estimates are as close as both processors guarantee', () => {
    const r = new Random(seed);
    const found = unitForms()
      .filter((f) => isApproximate(f) && f.unit === 'sse')
      .flatMap((f) => casesOf(f, r))
      .flatMap((c) => compareCase(native, unit, c, 4 * states, r, estimateDifferences));
    expect(
      found
        .slice(0, 5)
        .map((m) => m.text)
        .join('\n'),
    ).toBe('');
  });
});
