/**
 * The start-of-day page of a PV guest (`struct start_info` in `xen.h`), whose address is in rsi at entry.
 */
import { struct } from './struct.js';

export const StartInfo = struct('start_info', 1168, {
  magic: [0, 'char[32]'],
  nr_pages: [32, 'u64'],
  shared_info: [40, 'u64'],
  flags: [48, 'u32'],
  store_mfn: [56, 'u64'],
  store_evtchn: [64, 'u32'],
  console_domU_mfn: [72, 'u64', 'console.domU.mfn'],
  console_domU_evtchn: [80, 'u32', 'console.domU.evtchn'],
  console_dom0_info_off: [72, 'u32', 'console.dom0.info_off'],
  console_dom0_info_size: [76, 'u32', 'console.dom0.info_size'],
  pt_base: [88, 'u64'],
  nr_pt_frames: [96, 'u64'],
  mfn_list: [104, 'u64'],
  mod_start: [112, 'u64'],
  mod_len: [120, 'u64'],
  cmd_line: [128, 's8[1024]'],
  first_p2m_pfn: [1152, 'u64'],
  nr_p2m_frames: [1160, 'u64'],
});

/** `start_info.magic` of a 64-bit guest, zero-terminated. */
export const START_INFO_MAGIC = 'xen-3.0-x86_64';
export const MAX_GUEST_CMDLINE = 1024;

/** `start_info.flags`. */
export const SIF_PRIVILEGED = 1 << 0;
export const SIF_INITDOMAIN = 1 << 1;
export const SIF_MULTIBOOT_MOD = 1 << 2;
export const SIF_MOD_START_PFN = 1 << 3;
export const SIF_VIRT_P2M_4TOOLS = 1 << 4;
export const SIF_PM_MASK = 0xff00;
