/** Reads out of a guest that has stopped with SHUTDOWN_HAND_OVER what its boot loader has put into its memory. */
import { Intent } from '../engine/engine.js';
import { type HandedOver, takeApart } from '../guest/boot-loader.js';
import { KernelError } from '../guest/kernel-error.js';
import type { Domain } from '../hypervisor/domain.js';
import { addressOk } from '../hypervisor/mmu/guest-memory.js';
import { MAX_GUEST_CMDLINE, StartInfo } from '../xen/start-info.js';

/** The small program that GRUB starts leaves the address of start_info here. */
const R15 = 15;
const PAGE = 4096;

/** A copy of what lies at a virtual address of the guest's. Throws KernelError. */
function read(domain: Domain, vcpu: number, va: number, bytes: number): Uint8Array {
  const { engine } = domain;
  const out = new Uint8Array(bytes);
  for (let done = 0; done < bytes; ) {
    const from = va + done;
    const at = addressOk(from) ? engine.translate(vcpu, from, Intent.read | Intent.asKernel) : -1;
    if (at < 0)
      throw new KernelError(
        `what the boot loader has loaded cannot be read at address 0x${from.toString(16)}`,
      );
    const part = Math.min(bytes - done, PAGE - (at & (PAGE - 1)));
    out.set(engine.ram.mem.u8.subarray(at, at + part), done);
    done += part;
  }
  return out;
}

/** The kernel, the initial RAM disk and the command line. Throws KernelError: the guest may have anything there. */
export function handedOver(domain: Domain): HandedOver & { readonly cmdline: string } {
  const v = domain.state.vcpus[0];
  const start = v.cpu.reg(R15);
  const info = read(domain, v.id, start, StartInfo.cmd_line + MAX_GUEST_CMDLINE);
  const view = new DataView(info.buffer);
  const at = Number(view.getBigInt64(StartInfo.mod_start, true));
  const length = Number(view.getBigUint64(StartInfo.mod_len, true));
  if (!(length > 0 && length <= domain.engine.ram.frames * PAGE))
    throw new KernelError('the boot loader has loaded no kernel');
  const text = info.subarray(StartInfo.cmd_line);
  const end = text.indexOf(0);
  const cmdline = new TextDecoder().decode(text.subarray(0, end < 0 ? text.length : end)).trim();
  return { ...takeApart(read(domain, v.id, at, length)), cmdline };
}
