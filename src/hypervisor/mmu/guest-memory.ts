/**
 * Copies between the guest's virtual memory and Xen's own buffers. This is the only way in which hypercalls access
 * what the guest's pointers refer to. Invariant: an address is checked page by page at the moment of use, addresses
 * in Xen's own range are refused, and each byte is read once.
 * Source: xen/arch/x86/usercopy.c, access_ok() of asm/x86_64/uaccess.h.
 */
import { type CpuEngine, Intent } from '../../engine/engine.js';
import { LinearMemory } from '../../xen/memory.js';
import { HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START } from '../../xen/paging.js';

const CANONICAL_END = 0x8000_0000_0000;

/** Is added to an intent to use the kernel's page tables and rules, whatever mode the vCPU is in. */
const KERNEL = Intent.asKernel;

export const isCanonical = (va: number): boolean => va >= HYPERVISOR_VIRT_START && va < CANONICAL_END;
/**
 * Whether the address may be a guest's (access_ok): it is canonical and not in Xen's range. This is sufficient for a
 * range that begins there too: such a range reaches a non-canonical address, where the copy fails, before it reaches
 * Xen's range.
 */
export const addressOk = (va: number): boolean => va >= HYPERVISOR_VIRT_END && va < CANONICAL_END;

export class GuestMemory {
  /** What was copied in, or is to be copied out. 8 KiB are enough for every structure of the ABI. */
  readonly buffer = new LinearMemory(new ArrayBuffer(8192));
  private readonly mem: LinearMemory;

  constructor(private readonly engine: CpuEngine) {
    this.mem = engine.ram.mem;
  }

  /**
   * The linear address of a byte that the guest's kernel can read, valid up to the end of the page; -1 if it cannot
   * read it.
   */
  readable(vcpu: number, va: number): number {
    return addressOk(va) ? this.engine.translate(vcpu, va, Intent.read | KERNEL) : -1;
  }

  /** Copies `bytes` bytes from the guest to buffer[to...]. Returns false if a byte cannot be read. */
  copyIn(vcpu: number, va: number, bytes: number, to = 0): boolean {
    if (!addressOk(va)) return false;
    for (let done = 0; done < bytes; ) {
      const at = this.engine.translate(vcpu, va + done, Intent.read | KERNEL);
      if (at < 0) return false;
      const part = Math.min(bytes - done, 4096 - (at & 4095));
      const target = to + done;
      copy(this.mem, at, this.buffer, target, part);
      done += part;
    }
    return true;
  }

  /**
   * Copies buffer[from...] to the guest. Returns false if a byte cannot be written; the bytes before it are written.
   * The kernel's page tables are used, or with `mode` 0 those of the vCPU's present mode.
   */
  copyOut(vcpu: number, va: number, bytes: number, from = 0, mode = KERNEL): boolean {
    if (!addressOk(va)) return false;
    for (let done = 0; done < bytes; ) {
      const at = this.engine.translate(vcpu, va + done, Intent.write | mode);
      if (at < 0) return false;
      const part = Math.min(bytes - done, 4096 - (at & 4095));
      const source = from + done;
      copy(this.buffer, source, this.mem, at, part);
      done += part;
    }
    return true;
  }

  /** Writes text as a zero-padded field of `bytes` bytes at buffer[at]. The last byte is always zero. */
  putText(at: number, text: string, bytes: number): void {
    this.buffer.u8.fill(0, at, at + bytes);
    for (let i = 0; i < Math.min(text.length, bytes - 1); i++) this.buffer.setU8(at + i, text.charCodeAt(i));
  }
}

/** Copies a few bytes, by words where possible, because the ABI's structures consist of words. */
function copy(from: LinearMemory, at: number, into: LinearMemory, to: number, bytes: number): void {
  let i = 0;
  for (; i + 4 <= bytes; i += 4) into.setU32(to + i, from.getU32(at + i));
  for (; i < bytes; i++) into.u8[to + i] = from.u8[at + i];
}
