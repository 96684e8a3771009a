/** Register operands as byte offsets in a vCPU's state: rax is 0, rcx is 8, and so on; ah is 1. */
import * as iced from '../../../x86/iced.js';

// Types: an enumeration of iced has no index signature.
const byName = iced.Register as unknown as Record<string, number>;
const LEGACY = ['AX', 'CX', 'DX', 'BX', 'SP', 'BP', 'SI', 'DI'];

export const NO_REGISTER = 255;
/** Indexed by iced's register number. NO_REGISTER for all but general registers. */
export const registerOffset = new Uint8Array(256).fill(NO_REGISTER);
/** log2 of the size of a general register in bytes, indexed by iced's register number. */
export const registerLog = new Uint8Array(256);

const enter = (name: string, offset: number, log: number): void => {
  registerOffset[byName[name]] = offset;
  registerLog[byName[name]] = log;
};
for (let i = 0; i < 16; i++) {
  const name = i < 8 ? LEGACY[i] : `R${i}`;
  enter(i < 8 ? `R${name}` : name, 8 * i, 3);
  enter(i < 8 ? `E${name}` : `${name}D`, 8 * i, 2);
  enter(i < 8 ? name : `${name}W`, 8 * i, 1);
  enter(i < 4 ? `${name[0]}L` : `${name}L`, 8 * i, 0);
  if (i < 4) enter(`${name[0]}H`, 8 * i + 1, 0);
}

/** In the order of their encoding: es cs ss ds fs gs. */
export const SEGMENTS = ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'].map((name) => byName[name]);
