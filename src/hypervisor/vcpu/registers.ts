/** The numbers of the general registers, as instructions encode them and as the engine uses them. */

export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RSI = 6;
export const RDI = 7;
export const R11 = 11;

export { CR2, RIP } from '../../engine/engine.js';
