/**
 * The I/O ports of a guest that owns none: reads give all ones and writes are dropped, except for two latches that
 * can be read back, the index of the CMOS clock and the address of PCI configuration space. There is no clock, PIT or
 * configuration data.
 * Source: guest_io_read, guest_io_write of xen/arch/x86/pv/emul-priv-op.c; rtc_guest_read of arch/x86/time.c;
 * pv_pit_handler of arch/x86/emul-i8254.c (all ones for a domain without an emulated PIT).
 */
import { Intent } from '../../engine/engine.js';
import type { MemoryState } from '../mmu/mmu-state.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';

/** What can be read back of what a guest wrote to its ports. */
export interface IoPortState {
  /** Index of the CMOS register selected at port 0x70. */
  cmosIndex: number;
  /** Address latch of PCI configuration space, port 0xcf8. */
  pciCf8: number;
}

const RTC_INDEX = 0x70;
const PCI_ADDRESS = 0xcf8;
const READ_KERNEL = Intent.read | Intent.asKernel;

/** Whether the guest allows its present code to use the port, through IOPL or its I/O bitmap. */
export function ioAllowed(
  d: MemoryState,
  v: VcpuContext,
  port: number,
  bytes: number,
  ioplOk: boolean,
): boolean {
  if (ioplOk) return true;
  if (port + bytes > v.iobmpLimit) return false;
  let bits = 0;
  for (let i = 0; i < 2; i++) {
    const at = d.engine.translate(v.id, v.iobmp + (port >>> 3) + i, READ_KERNEL);
    bits |= (at < 0 ? 0xff : d.mem.u8[at]) << (8 * i);
  }
  return (bits & (((1 << bytes) - 1) << (port & 7))) === 0;
}

/** Reads `bytes` bytes from a port, as an unsigned number. */
export function readPort(d: IoPortState, port: number, bytes: number): number {
  if (port === PCI_ADDRESS && bytes === 4) return d.pciCf8;
  let value = 0;
  for (let i = 0; i < bytes; i++) {
    const at = port + i;
    const byte = at === RTC_INDEX ? d.cmosIndex : 0xff;
    value += byte * 2 ** (8 * i);
  }
  return value;
}

export function writePort(d: IoPortState, port: number, bytes: number, value: number): void {
  if (port === PCI_ADDRESS && bytes === 4) d.pciCf8 = value >>> 0;
  else {
    for (let i = 0; i < bytes; i++) if (port + i === RTC_INDEX) d.cmosIndex = (value >>> (8 * i)) & 0xff;
  }
}
