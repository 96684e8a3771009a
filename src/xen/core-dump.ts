/**
 * A domain's core as `xl dump-core` writes it: an ELF file without program headers, whose sections have the names below.
 * Source: Xen, docs/misc/dump-core-format.txt, xen/include/public/elfnote.h.
 */
import { struct } from './struct.js';

/** Types of the notes in `.note.Xen`, whose name is "Xen". */
export const XEN_ELFNOTE_DUMPCORE_NONE = 0x2000000;
export const XEN_ELFNOTE_DUMPCORE_HEADER = 0x2000001;
export const XEN_ELFNOTE_DUMPCORE_XEN_VERSION = 0x2000002;
export const XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION = 0x2000003;

/** `xch_magic` of a paravirtualised domain. */
export const XC_CORE_MAGIC = 0xf00febed;
/** Major version 0 in the upper half, minor version 1 in the lower. */
export const XEN_DUMPCORE_FORMAT_VERSION = 1;

/** The head of each note: the name is four bytes long. */
export const CoreNote = struct('elfnote', 16, {
  namesz: [0, 'u32'],
  descsz: [4, 'u32'],
  type: [8, 'u32'],
  name: [12, 'char[4]'],
});
export const CoreHeaderNote = struct('xen_dumpcore_elfnote_header_desc', 32, {
  xch_magic: [0, 'u64'],
  xch_nr_vcpus: [8, 'u64'],
  xch_nr_pages: [16, 'u64'],
  xch_page_size: [24, 'u64'],
});
export const CoreVersionNote = struct('xen_dumpcore_elfnote_xen_version_desc', 1280, {
  major_version: [0, 'u64'],
  minor_version: [8, 'u64'],
  extra_version: [16, 'char[16]'],
  compile_info: [32, 'struct xen_compile_info'],
  capabilities: [176, 'char[1024]'],
  changeset: [1200, 'char[64]'],
  platform_parameters: [1264, 'struct xen_platform_parameters'],
  pagesize: [1272, 'u64'],
});
/** One entry of `.xen_p2m`; all ones for none. */
export const CoreP2m = struct('xen_dumpcore_p2m', 16, {
  pfn: [0, 'u64'],
  gmfn: [8, 'u64'],
});
