// Executes x87 instructions by their encoding: escape byte D8..DF, ModRM.reg, memory or register form. SDM
// volume 2, appendix B.17 and table A-7 ff.
import { begin } from './x87-stack';
import { arithmeticMemory, arithmeticSt, changeSign, compareFlags, compareMemory, compareSt, examine, extract, remainder, roundInteger, scale, squareRoot, test } from './x87-arith';
import { initialise, judge, loadAll, loadControl, loadEnvironment, remember, saveAll, saveEnvironment } from './x87-control';
import { loadDecimal, loadExtended, loadFloat, loadInteger, storeDecimal, storeExtended, storeFloat, storeInteger, storeSt } from './x87-memory';
import { Env, F32, F64, unpack } from './soft';
import { fromInteger } from './convert';
import { C1, EFLAGS, FCW, FSW, IE, NO_STORE, SCRATCH, SF, VECTOR_MF, VECTOR_UD } from './state';
import { isEmpty, Pending, pop, push, read, set, setEmpty, setIndefinite, setTop, settle, st, top, underflow, write } from './x87-stack';
import { arctangent, exponential, logarithm, logarithm1 } from './x87-functions';
import { cosine, sine, sineCosine, tangent } from './x87-trigonometry';

function clearC1(cpu: usize): void {
  store<u16>(cpu + FSW, load<u16>(cpu + FSW) & <u16>~C1);
}

function exchange(cpu: usize, i: i32): void {
  begin(cpu);
  if (isEmpty(cpu, 0) || isEmpty(cpu, i)) {
    const e0 = isEmpty(cpu, 0),
      ei = isEmpty(cpu, i);
    if (!underflow(cpu)) return;
    // Empty registers count as registers that hold the indefinite value.
    if (e0) write(cpu, 0);
    if (ei) {
      setIndefinite();
      write(cpu, i);
    }
  } else settle(cpu);
  const p = st(cpu, 0),
    q = st(cpu, i);
  const sig = load<u64>(p),
    se = load<u16>(p, 8);
  store<u64>(p, load<u64>(q));
  store<u16>(p, load<u16>(q, 8), 8);
  store<u64>(q, sig);
  store<u16>(q, se, 8);
}

function loadSt(cpu: usize, i: i32): void {
  begin(cpu);
  if (isEmpty(cpu, i)) {
    Env.flags = IE | SF;
    setIndefinite();
    if (!settle(cpu)) return;
    setTop(cpu, top(cpu) - 1);
    write(cpu, 0);
    return;
  }
  read(cpu, i);
  push(cpu);
}

// log2(10), log2(e), pi, log10(2), ln(2). Each is truncated to 66 bits, and then rounded as the control word
// says.
function constant(cpu: usize, i: i32): i32 {
  begin(cpu);
  const down = Env.rc == 1 || Env.rc == 3,
    up = Env.rc == 2;
  switch (i) {
    case 0:
      set(0x3fff, 0x8000000000000000);
      break;
    case 1:
      set(0x4000, up ? 0xd49a784bcd1b8aff : 0xd49a784bcd1b8afe);
      break;
    case 2:
      set(0x3fff, down ? 0xb8aa3b295c17f0bb : 0xb8aa3b295c17f0bc);
      break;
    case 3:
      set(0x4000, down ? 0xc90fdaa22168c234 : 0xc90fdaa22168c235);
      break;
    case 4:
      set(0x3ffd, down ? 0x9a209a84fbcff798 : 0x9a209a84fbcff799);
      break;
    case 5:
      set(0x3ffe, down ? 0xb17217f7d1cf79ab : 0xb17217f7d1cf79ac);
      break;
    case 6:
      set(0, 0);
      break;
    default:
      return VECTOR_UD;
  }
  push(cpu);
  return 0;
}

function conditionalMove(cpu: usize, reg: i32, i: i32, negate: bool): void {
  begin(cpu);
  if (isEmpty(cpu, 0) || isEmpty(cpu, i)) {
    if (underflow(cpu)) write(cpu, 0);
    return;
  }
  const flags = load<u32>(cpu + EFLAGS);
  const bits: u32 = reg == 0 ? 0x01 : reg == 1 ? 0x40 : reg == 2 ? 0x41 : 0x04;
  if (((flags & bits) != 0) != negate) {
    read(cpu, i);
    write(cpu, 0);
  }
}

// FSTPNCE: a store with pop that raises nothing for an empty register.
function storeUnchecked(cpu: usize, i: i32): void {
  clearC1(cpu);
  if (!isEmpty(cpu, 0)) {
    read(cpu, 0);
    write(cpu, i);
  }
  pop(cpu);
}

function miscellany(cpu: usize, n: i32): i32 {
  switch (n) {
    case 0x20:
      changeSign(cpu, false);
      return 0;
    case 0x21:
      changeSign(cpu, true);
      return 0;
    case 0x24:
      test(cpu);
      return 0;
    case 0x25:
      examine(cpu);
      return 0;
    case 0x30:
      exponential(cpu);
      return 0;
    case 0x31:
      logarithm(cpu);
      return 0;
    case 0x32:
      tangent(cpu);
      return 0;
    case 0x33:
      arctangent(cpu);
      return 0;
    case 0x34:
      extract(cpu);
      return 0;
    case 0x35:
      remainder(cpu, true);
      return 0;
    case 0x36:
      clearC1(cpu);
      setTop(cpu, top(cpu) - 1);
      return 0;
    case 0x37:
      clearC1(cpu);
      setTop(cpu, top(cpu) + 1);
      return 0;
    case 0x38:
      remainder(cpu, false);
      return 0;
    case 0x39:
      logarithm1(cpu);
      return 0;
    case 0x3a:
      squareRoot(cpu);
      return 0;
    case 0x3b:
      sineCosine(cpu);
      return 0;
    case 0x3c:
      roundInteger(cpu);
      return 0;
    case 0x3d:
      scale(cpu);
      return 0;
    case 0x3e:
      sine(cpu);
      return 0;
    case 0x3f:
      cosine(cpu);
      return 0;
    default:
      return n >= 0x28 && n < 0x30 ? constant(cpu, n - 0x28) : VECTOR_UD;
  }
}

function registerForm(cpu: usize, esc: i32, reg: i32, rm: i32): i32 {
  switch (esc) {
    case 0:
      if (reg == 2 || reg == 3) compareSt(cpu, rm, false, reg - 2);
      else arithmeticSt(cpu, reg, rm, 0, false);
      return 0;
    case 1:
      if (reg == 0) loadSt(cpu, rm);
      else if (reg == 1) exchange(cpu, rm);
      else if (reg == 2) return rm == 0 ? 0 : VECTOR_UD;
      else if (reg == 3) storeUnchecked(cpu, rm);
      else return miscellany(cpu, (reg << 3) | rm);
      return 0;
    case 2:
      if (reg < 4) conditionalMove(cpu, reg, rm, false);
      else if (reg == 5 && rm == 1) compareSt(cpu, 1, true, 2);
      else return VECTOR_UD;
      return 0;
    case 3:
      if (reg < 4) conditionalMove(cpu, reg, rm, true);
      else if (reg == 5) compareFlags(cpu, rm, true, false);
      else if (reg == 6) compareFlags(cpu, rm, false, false);
      else return VECTOR_UD;
      return 0;
    case 4:
      if (reg == 2 || reg == 3) compareSt(cpu, rm, false, reg - 2);
      else arithmeticSt(cpu, reg, rm, rm, false);
      return 0;
    case 5:
      if (reg == 0) {
        clearC1(cpu);
        setEmpty(cpu, rm);
      } else if (reg == 1) exchange(cpu, rm);
      else if (reg < 4) storeSt(cpu, rm, reg == 3);
      else if (reg < 6) compareSt(cpu, rm, true, reg - 4);
      else return VECTOR_UD;
      return 0;
    case 6:
      if (reg == 2) compareSt(cpu, rm, false, 1);
      else if (reg == 3) {
        if (rm != 1) return VECTOR_UD;
        compareSt(cpu, 1, false, 2);
      } else arithmeticSt(cpu, reg, rm, rm, true);
      return 0;
    default:
      if (reg == 0) {
        clearC1(cpu);
        setEmpty(cpu, rm);
        pop(cpu);
      } else if (reg == 1) exchange(cpu, rm);
      else if (reg < 4) storeSt(cpu, rm, true);
      else if (reg == 5) compareFlags(cpu, rm, true, true);
      else if (reg == 6) compareFlags(cpu, rm, false, true);
      else return VECTOR_UD;
      return 0;
  }
}

/** Loads the memory operand of an arithmetic instruction into A: m32, m32 integer, m64 or m16 integer. */
function operand(esc: i32, src: usize): void {
  if (esc == 0) unpack(F32, <u64>load<u32>(src), 0);
  else if (esc == 4) unpack(F64, load<u64>(src), 0);
  else fromInteger(esc == 2 ? <i64>load<i32>(src) : <i64>load<i16>(src));
}

function memoryForm(cpu: usize, esc: i32, reg: i32, src: usize): i32 {
  if (!(esc & 1)) {
    begin(cpu);
    operand(esc, src);
    if (reg == 2 || reg == 3) {
      if (compareMemory(cpu, false, false) && reg == 3) pop(cpu);
    } else arithmeticMemory(cpu, reg);
    return 0;
  }
  switch (((esc >> 1) << 3) | reg) {
    case 0x00:
      loadFloat(cpu, F32, src);
      return 0;
    case 0x02:
      return storeFloat(cpu, F32, false);
    case 0x03:
      return storeFloat(cpu, F32, true);
    case 0x08:
      loadInteger(cpu, <i64>load<i32>(src));
      return 0;
    case 0x0a:
      return storeInteger(cpu, 32, false);
    case 0x0b:
      return storeInteger(cpu, 32, true);
    case 0x0d:
      loadExtended(cpu, src);
      return 0;
    case 0x0f:
      return storeExtended(cpu);
    case 0x10:
      loadFloat(cpu, F64, src);
      return 0;
    case 0x12:
      return storeFloat(cpu, F64, false);
    case 0x13:
      return storeFloat(cpu, F64, true);
    case 0x18:
      loadInteger(cpu, <i64>load<i16>(src));
      return 0;
    case 0x1a:
      return storeInteger(cpu, 16, false);
    case 0x1b:
      return storeInteger(cpu, 16, true);
    case 0x1c:
      loadDecimal(cpu, src);
      return 0;
    case 0x1d:
      loadInteger(cpu, load<i64>(src));
      return 0;
    case 0x1e:
      return storeDecimal(cpu);
    case 0x1f:
      return storeInteger(cpu, 64, true);
    default:
      return VECTOR_UD;
  }
}

// What FNSTENV and FNSAVE do after the engine has stored their bytes.
const KEEP: u32 = 0;
const MASK_ALL: u32 = 1;
const INITIALISE: u32 = 2;

function control(cpu: usize, op: i32, src: usize, fop: i32): i32 {
  const short = (fop & 0x10000) != 0;
  const scratch = cpu + SCRATCH;
  const pending = (load<u16>(cpu + FSW) & 0x80) != 0;
  Pending.fsw = load<u16>(cpu + FSW);
  Pending.pop = false;
  switch (op) {
    case 0x14: // FLDENV
      if (pending) return VECTOR_MF;
      loadEnvironment(cpu, src, short);
      return 0;
    case 0x15: // FLDCW
      if (pending) return VECTOR_MF;
      loadControl(cpu, <u32>load<u16>(src));
      return 0;
    case 0x16: // FNSTENV
      saveEnvironment(cpu, scratch, short);
      Pending.clearMasks = MASK_ALL;
      return 0;
    case 0x17: // FNSTCW
      store<u16>(scratch, load<u16>(cpu + FCW));
      return 0;
    case 0x3c: // DB E0..E4: FNENI, FNDISI, FNCLEX, FNINIT, FNSETPM
      if ((fop & 7) == 2) store<u16>(cpu + FSW, load<u16>(cpu + FSW) & 0x7f00);
      else if ((fop & 7) == 3) initialise(cpu);
      else if ((fop & 7) > 4) return VECTOR_UD;
      return 0;
    case 0x54: // FRSTOR
      if (pending) return VECTOR_MF;
      loadAll(cpu, src, short);
      return 0;
    case 0x56: // FNSAVE
      saveAll(cpu, scratch, short);
      Pending.clearMasks = INITIALISE;
      return 0;
    case 0x57: // FNSTSW m16
      store<u16>(scratch, load<u16>(cpu + FSW));
      return 0;
    default: // 0x7c: FNSTSW AX
      if (fop & 7) return VECTOR_UD;
      store<u16>(cpu, load<u16>(cpu + FSW));
      return 0;
  }
}

/** Executes one x87 instruction. `fop` has the 11 opcode bits, and bit 16 if the operand size is 16 bits. */
export function x87(cpu: usize, op: i32, src: usize, fop: i32): i32 {
  Pending.clearMasks = KEEP;
  Pending.fop = -1;
  switch (op) {
    case 0x14:
    case 0x15:
    case 0x16:
    case 0x17:
    case 0x3c:
    case 0x54:
    case 0x56:
    case 0x57:
    case 0x7c:
      return control(cpu, op, src, fop);
    default:
      break;
  }
  if (load<u16>(cpu + FSW) & 0x80) return VECTOR_MF;
  const esc = op >> 4,
    reg = op & 7;
  if (op & 8) {
    remember(cpu, fop, false);
    return registerForm(cpu, esc, reg, fop & 7);
  }
  // The instruction of a store is remembered only when the store has happened.
  const result = memoryForm(cpu, esc, reg, src);
  if (result == VECTOR_UD) return result;
  Pending.fop = fop;
  const stores = (esc & 1) != 0 && (reg == 2 || reg == 3 || reg == 6 || (reg == 7 && esc != 1));
  if (!stores || result == NO_STORE) remember(cpu, fop, true);
  return result;
}

/** Completes a memory form after the engine has stored its bytes. */
export function commit(cpu: usize): void {
  store<u16>(cpu + FSW, <u16>Pending.fsw);
  if (Pending.pop) pop(cpu);
  if (Pending.fop >= 0) remember(cpu, Pending.fop, true);
  if (Pending.clearMasks == MASK_ALL) {
    store<u16>(cpu + FCW, load<u16>(cpu + FCW) | 0x3f);
    judge(cpu);
  } else if (Pending.clearMasks == INITIALISE) initialise(cpu);
}
