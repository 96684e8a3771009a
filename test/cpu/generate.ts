/**
 * Generates sequences and their initial state from a seed: registers, the data window and the images in it. Invariant:
 * a sequence depends on its seed alone; every form comes up equally often.
 */

import { APPROXIMATE } from './approximate.js';
import { type Form, forms } from './forms.js';
import { BLOCK, DATA, DATA_BYTES, IMAGES, STACK, WRITABLE_BYTES } from './layout.js';
import { type Anchors, IMAGE_SLOTS } from './operands.js';
import { type Sequence, type Step, undefinedFlags } from './sequence.js';
import { makeStep } from './steps.js';
import { controlWord, fillLine, float80, integer, LINE_KINDS, mxcsr, Random } from './values.js';

const MAX_STEPS = 6;

/** The whole data window, including the read-only page, as it is before each sequence of a batch. */
export function makeWindow(seed: number): Uint8Array {
  const r = new Random(seed);
  const bytes = new Uint8Array(DATA_BYTES);
  const view = new DataView(bytes.buffer);
  for (let line = 0; line < DATA_BYTES / 16; line++)
    fillLine(r, view, line * 16, LINE_KINDS[line % LINE_KINDS.length]);
  bytes.fill(0, IMAGES - DATA, IMAGES - DATA + 0x800);
  const at = (address: number): number => address - DATA;
  for (const slot of IMAGE_SLOTS.fxsave) fillFxsave(r, view, at(slot));
  for (const [slots, width] of [
    [IMAGE_SLOTS.fnsave28, 4],
    [IMAGE_SLOTS.fnstenv28, 4],
    [IMAGE_SLOTS.fnsave14, 2],
    [IMAGE_SLOTS.fnstenv14, 2],
  ] as const) {
    for (const slot of slots) {
      view.setUint16(at(slot), controlWord(r), true);
      view.setUint16(at(slot) + width, statusWord(r, view.getUint16(at(slot), true)), true);
      view.setUint16(at(slot) + 2 * width, r.u32(), true);
    }
  }
  for (const slot of IMAGE_SLOTS.fnsave28)
    for (let i = 0; i < 8; i++) float80(r, view, at(slot) + 28 + 10 * i);
  for (const slot of IMAGE_SLOTS.fnsave14)
    for (let i = 0; i < 8; i++) float80(r, view, at(slot) + 14 + 10 * i);
  for (const slot of IMAGE_SLOTS.fbld) fillLine(r, view, at(slot), 'bcd');
  IMAGE_SLOTS.angle.forEach((slot, i) => {
    const unit = r.u32() / 2 ** 32;
    const size = i < 4 ? unit * 0.28 * 2 ** -(r.below(4) * r.below(12)) : 0.125 + unit * 2.875;
    view.setFloat64(at(slot), r.chance(50) && i < 4 ? -size : size, true);
  });
  return bytes;
}

/** Returns a status word that agrees with its control word: the summary bits follow from flags and masks. */
function statusWord(r: Random, control: number): number {
  const flags = r.chance(60) ? 0 : r.below(64) & (r.chance(90) ? control : 0x3f);
  const pending = (flags & ~control & 0x3f) !== 0;
  return (
    flags |
    ((r.below(2) << 6) & (flags << 6)) |
    (pending ? 0x8080 : 0) |
    (r.below(8) << 11) |
    (r.u32() & 0x4700)
  );
}

/** An FXSAVE image: x87 and SSE state, all of it valid. */
function fillFxsave(r: Random, view: DataView, at: number): void {
  const control = controlWord(r);
  view.setUint16(at, control, true);
  view.setUint16(at + 2, statusWord(r, control), true);
  view.setUint8(at + 4, r.chance(60) ? r.u32() | r.u32() | r.u32() : r.pick([0, 0xff, r.below(256)]));
  view.setUint32(at + 24, mxcsr(r), true);
  for (let i = 0; i < 8; i++) float80(r, view, at + 32 + 16 * i);
  for (let i = 0; i < 16; i++) fillLine(r, view, at + 160 + 16 * i, r.pick(LINE_KINDS));
}

/** Returns the sequence with this seed. */
export function makeSequence(seed: number): Sequence {
  const r = new Random(seed);
  const block = new Uint8Array(BLOCK.bytes);
  const view = new DataView(block.buffer);
  const [pointer, index] = anchorsOf(r);
  const anchors: Anchors = {
    pointer,
    pointerValue: DATA + 0xc00 + r.below(0x800),
    index,
    indexValue: r.below(128) - 64,
  };
  for (let i = 0; i < 16; i++) view.setBigUint64(BLOCK.gpr + 8 * i, integer(r), true);
  view.setBigUint64(BLOCK.gpr + 8 * pointer, BigInt(anchors.pointerValue), true);
  view.setBigInt64(BLOCK.gpr + 8 * index, BigInt(anchors.indexValue), true);
  view.setBigUint64(
    BLOCK.gpr + 8 * 4,
    BigInt(STACK + 8 * r.below(16) + (r.chance(10) ? r.below(8) : 0)),
    true,
  );
  view.setBigUint64(BLOCK.rflags, BigInt(0x202 | (r.u32() & (r.chance(15) ? 0x4cd5 : 0x8d5))), true);
  fillFxsave(r, view, BLOCK.fxsave);
  const steps: Step[] = [];
  const wanted = 1 + r.below(MAX_STEPS);
  while (steps.length < wanted) {
    const form = r.pick(forms());
    const step = makeStep(r, form, anchors);
    if (step === undefined || undefinedFlags([...steps, step]) === undefined) continue;
    steps.push(step);
    if (APPROXIMATE.has(form.mnemonic) || endsAnyway(form)) break;
  }
  return { steps, block };
}

const endsAnyway = (form: Form): boolean => form.privileged || /^(ud\d|int\d)/.test(form.mnemonic);

function anchorsOf(r: Random): [number, number] {
  const list = [3, 5, 8, 9, 10, 11, 12, 13, 14, 15];
  const pointer = r.pick(list);
  return [pointer, r.pick(list.filter((n) => n !== pointer))];
}

export { WRITABLE_BYTES };
