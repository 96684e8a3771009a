/** Combines the functions of regions into a WebAssembly module. Specification 1.1, 5.5. */
import { Emitter } from './emitter.js';
import { I32, I64 } from './opcodes.js';

/** The parameters of the imported functions, in the order of Import. All results are i32. */
const IMPORTS: readonly (readonly [name: string, parameters: readonly number[]])[] = [
  ['readAt', [I32, I64, I32]],
  ['writeAt', [I32, I64, I32]],
  ['step', [I32, I32, I32]],
  ['conditionOf', [I32, I32]],
  ['fpExec', [I32, I32, I32, I32, I32]],
  ['readFlags', [I32]],
];
const FUNCTION = 0x60;
const SHARED_WITH_MAXIMUM = 3;
const MOST_PAGES = 65_536;

function name(e: Emitter, text: string): void {
  e.u32(text.length);
  for (let i = 0; i < text.length; i++) e.op(text.charCodeAt(i));
}

function section(e: Emitter, id: number, content: (into: Emitter) => void): void {
  const inner = new Emitter();
  content(inner);
  e.op(id);
  e.u32(inner.length);
  e.raw(inner.view());
}

/** Builds a module that exports each function by its number. */
export function buildModule(bodies: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const e = new Emitter();
  for (const byte of [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]) e.op(byte);
  section(e, 1, (s) => {
    s.u32(IMPORTS.length + 1);
    for (const parameters of [...IMPORTS.map((i) => i[1]), [I32]]) {
      s.op(FUNCTION);
      s.u32(parameters.length);
      for (const p of parameters) s.op(p);
      s.u32(1);
      s.op(I32);
    }
  });
  section(e, 2, (s) => {
    s.u32(IMPORTS.length + 1);
    name(s, 'e');
    name(s, 'memory');
    s.op(2);
    s.op(SHARED_WITH_MAXIMUM);
    s.u32(1);
    s.u32(MOST_PAGES);
    IMPORTS.forEach(([imported], i) => {
      name(s, 'e');
      name(s, imported);
      s.op(0);
      s.u32(i);
    });
  });
  section(e, 3, (s) => {
    s.u32(bodies.length);
    for (let i = 0; i < bodies.length; i++) s.u32(IMPORTS.length);
  });
  section(e, 7, (s) => {
    s.u32(bodies.length);
    for (let i = 0; i < bodies.length; i++) {
      name(s, `${i}`);
      s.op(0);
      s.u32(IMPORTS.length + i);
    }
  });
  section(e, 10, (s) => {
    s.u32(bodies.length);
    for (const body of bodies) {
      s.u32(body.length);
      s.raw(body);
    }
  });
  return e.view().slice() as Uint8Array<ArrayBuffer>;
}
