/**
 * The table of hypercalls of a 64-bit PV guest, and the multicall, which contains several of them. A number that is
 * not in the table gives -ENOSYS.
 * Source: table in xen/include/hypercall-defs.c; pv_hypercall of arch/x86/pv/hypercall.c; common/multicall.c.
 */
import { EFAULT, EINVAL, ENOSYS, EOPNOTSUPP } from '../../xen/errno.js';
import * as H from '../../xen/hypercalls.js';
import type { LinearMemory } from '../../xen/memory.js';
import { FLAT_KERNEL_CS64, FLAT_KERNEL_SS64 } from '../../xen/paging.js';
import { eventChannelOp, eventChannelOpCompat } from '../events/event-channel-op.js';
import { grantTableOp } from '../grants/grant-table-op.js';
import { addressOk } from '../mmu/guest-memory.js';
import { memoryOp } from '../mmu/memory-op.js';
import { mmuUpdate, updateVaMapping, updateVaMappingOtherdomain } from '../mmu/mmu-update.js';
import { mmuextOp } from '../mmu/mmuext-op.js';
import type { DomainState } from '../state.js';
import { callbackOp, nmiOp, setCallbacks, setTrapTable, stackSwitch } from '../vcpu/callbacks.js';
import { getDebugregOp, setDebugregOp } from '../vcpu/debug-registers.js';
import { setGdt, updateDescriptor } from '../vcpu/descriptors.js';
import { R11, RAX, RCX } from '../vcpu/registers.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';
import { vcpuOp } from '../vcpu/vcpu-op.js';
import { HypercallArgs } from './args.js';
import { iret } from './iret.js';
import {
  consoleIo,
  dmOp,
  domctl,
  fpuTaskswitch,
  hvmOp,
  notPermitted,
  pagingDomctlCont,
  physdevOp,
  physdevOpCompat,
  platformOp,
  setSegmentBase,
  sysctl,
  vmAssist,
  xenoprofOp,
} from './processor-ops.js';
import { schedOp, schedOpCompat, setTimerOp } from './sched-op.js';
import { xenVersion } from './xen-version.js';

/** The value for RAX. It is a bigint where a number would be rounded, which only happens with nonsensical arguments. */
type Handler = (d: DomainState) => number | bigint;

const HANDLERS: readonly (readonly [number, Handler])[] = [
  [H.__HYPERVISOR_set_trap_table, setTrapTable],
  [H.__HYPERVISOR_mmu_update, mmuUpdate],
  [H.__HYPERVISOR_set_gdt, setGdt],
  [H.__HYPERVISOR_stack_switch, stackSwitch],
  [H.__HYPERVISOR_set_callbacks, setCallbacks],
  [H.__HYPERVISOR_fpu_taskswitch, fpuTaskswitch],
  [H.__HYPERVISOR_sched_op_compat, schedOpCompat],
  [H.__HYPERVISOR_platform_op, platformOp],
  [H.__HYPERVISOR_set_debugreg, setDebugregOp],
  [H.__HYPERVISOR_get_debugreg, getDebugregOp],
  [H.__HYPERVISOR_update_descriptor, updateDescriptor],
  [H.__HYPERVISOR_memory_op, memoryOp],
  [H.__HYPERVISOR_multicall, multicall],
  [H.__HYPERVISOR_update_va_mapping, updateVaMapping],
  [H.__HYPERVISOR_set_timer_op, setTimerOp],
  [H.__HYPERVISOR_xen_version, xenVersion],
  [H.__HYPERVISOR_console_io, consoleIo],
  [H.__HYPERVISOR_grant_table_op, grantTableOp],
  [H.__HYPERVISOR_vm_assist, vmAssist],
  [H.__HYPERVISOR_update_va_mapping_otherdomain, updateVaMappingOtherdomain],
  [H.__HYPERVISOR_vcpu_op, vcpuOp],
  [H.__HYPERVISOR_set_segment_base, setSegmentBase],
  [H.__HYPERVISOR_mmuext_op, mmuextOp],
  [H.__HYPERVISOR_nmi_op, nmiOp],
  [H.__HYPERVISOR_sched_op, schedOp],
  [H.__HYPERVISOR_callback_op, callbackOp],
  [H.__HYPERVISOR_event_channel_op, eventChannelOp],
  [H.__HYPERVISOR_physdev_op, physdevOp],
  [H.__HYPERVISOR_xenoprof_op, xenoprofOp],
  [H.__HYPERVISOR_hvm_op, hvmOp],
  [H.__HYPERVISOR_dm_op, dmOp],
  [H.__HYPERVISOR_sysctl, sysctl],
  [H.__HYPERVISOR_domctl, domctl],
  [H.__HYPERVISOR_hypfs_op, notPermitted],
  [H.__HYPERVISOR_event_channel_op_compat, eventChannelOpCompat],
  [H.__HYPERVISOR_physdev_op_compat, physdevOpCompat],
  [H.__HYPERVISOR_kexec_op, notPermitted],
  [H.__HYPERVISOR_xenpmu_op, () => -EOPNOTSUPP],
  [H.__HYPERVISOR_mca, notPermitted],
  [H.__HYPERVISOR_arch_1, pagingDomctlCont],
];

const TABLE_SIZE = 64;
const table: Handler[] = Array.from({ length: TABLE_SIZE }, () => () => -ENOSYS);
for (const [nr, handler] of HANDLERS) table[nr] = handler;

/** Executes a hypercall that the guest's kernel made with `syscall`. */
export function hypercall(d: DomainState, v: VcpuContext): void {
  const { cpu } = v;
  const nr = cpu.regLo(RAX);
  const known = nr < TABLE_SIZE && cpu.regHi(RAX) === 0;
  cpu.setReg(RCX, cpu.rip);
  cpu.setReg(R11, cpu.rflags);
  if (known && nr === H.__HYPERVISOR_iret) {
    iret(d);
    return;
  }
  cpu.cs = FLAT_KERNEL_CS64;
  cpu.ss = FLAT_KERNEL_SS64;
  let result: number | bigint = -ENOSYS;
  if (known) {
    d.args.fromRegisters(cpu);
    d.steps = 0;
    result = table[nr](d);
    if (d.preempted) {
      goOnLater(d, v);
      return;
    }
  }
  if (typeof result === 'number') cpu.setReg(RAX, result);
  else cpu.setRegBig(RAX, result);
}

function putResult(mem: LinearMemory, at: number, result: number | bigint): void {
  // 32-bit halves by hand: negative results and counts alike.
  if (typeof result === 'number') mem.setU64(at, result);
  else mem.setBig(at, result);
}

/** Makes `syscall` execute again, with arguments that say how far the call has come. */
function goOnLater(d: DomainState, v: VcpuContext): void {
  d.preempted = false;
  d.args.toRegisters(v.cpu);
  v.cpu.rip -= SYSCALL_BYTES;
  d.reschedule = true;
  // With the instruction clock, work that executes no instructions has to take virtual time too.
  if (d.clock.deterministic) d.clock.advanceTo(d.clock.now() + PREEMPTED_NS);
}

const SYSCALL_BYTES = 2;
/** The virtual time of one part of a long hypercall, in ns. */
const PREEMPTED_NS = 100_000;

const inner = new HypercallArgs();

/** HYPERVISOR_multicall(list, count): each call's result is written into its own entry. */
function multicall(d: DomainState): number {
  const outer = d.args;
  if (outer === inner) return -EINVAL;
  const s = H.MulticallEntry;
  const { guest } = d;
  const vcpu = d.current.id;
  const list = outer.long(0);
  const count = outer.lo[1];
  if (!addressOk(list)) return -EFAULT;
  d.args = inner;
  let rc = 0;
  for (let i = 0; i < count && rc === 0; i++) {
    if (i > 0 && d.stepPreempts()) d.preempted = true;
    else if (d.shutdown !== undefined) break;
    if (d.preempted) {
      outer.setLong(0, list + i * s.sizeof);
      outer.setLong(1, count - i);
      break;
    }
    const at = list + i * s.sizeof;
    // Nearly every entry lies within one page. Such an entry is read directly, once.
    let mem: LinearMemory;
    let from: number;
    if ((at & 4095) <= 4096 - s.sizeof) {
      mem = d.mem;
      from = guest.readable(vcpu, at);
    } else {
      mem = guest.buffer;
      from = guest.copyIn(vcpu, at, s.sizeof) ? 0 : -1;
    }
    if (from < 0) {
      rc = -EFAULT;
      break;
    }
    const nr = mem.getU32(from + s.op);
    const known = nr < TABLE_SIZE && mem.getU32(from + s.op + 4) === 0;
    if (known && nr === H.__HYPERVISOR_iret) {
      // This is the last call, whatever follows. Its result is the RAX with which it returns. Xen holds that in an
      // `int` on the way, and stores it if the mode to which it returns can write there.
      iret(d);
      const { cpu } = d.current;
      guest.buffer.setU32(0, cpu.regLo(RAX));
      guest.buffer.setU32(4, cpu.regHi(RAX));
      guest.copyOut(vcpu, at + s.result, 8, 0, 0);
      rc = cpu.regLo(RAX) | 0;
      break;
    }
    inner.fromMemory(mem, from + s.args);
    const result = known ? table[nr](d) : -ENOSYS;
    if (d.preempted) {
      inner.toMemory(guest.buffer, s.args);
      if (!guest.copyOut(vcpu, at + s.args, 48, s.args)) rc = -EFAULT;
      outer.setLong(0, at);
      outer.setLong(1, count - i);
      break;
    }
    putResult(guest.buffer, 0, result);
    if (!guest.copyOut(vcpu, at + s.result, 8)) rc = -EFAULT;
  }
  d.args = outer;
  return rc;
}
