/**
 * The block protocol (`io/blkif.h`). A guest's ring has the layout of the guest's own ABI, which it names in the
 * `protocol` node. In x86_32 a 64-bit integer is aligned to 4 bytes, so requests and responses are smaller.
 *
 * The id of a request is opaque: it is copied unchanged into the response.
 */
import { struct } from './struct.js';

export const BLKIF_OP_READ = 0;
export const BLKIF_OP_WRITE = 1;
export const BLKIF_OP_WRITE_BARRIER = 2;
export const BLKIF_OP_FLUSH_DISKCACHE = 3;
export const BLKIF_OP_RESERVED_1 = 4;
export const BLKIF_OP_DISCARD = 5;
export const BLKIF_OP_INDIRECT = 6;

export const BLKIF_MAX_SEGMENTS_PER_REQUEST = 11;
export const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8;
/** How many segments one page of an indirect request holds. */
export const BLKIF_SEGMENTS_PER_INDIRECT_PAGE = 512;
/** The unit of `sector_number`, `first_sect` and `last_sect` in bytes, whatever the disk's sector size is. */
export const BLKIF_SECTOR_SIZE = 512;

/** Sectors are counted within the granted page; the first and the last one are included. */
export const BlkifRequestSegment = struct('blkif_request_segment', 8, {
  gref: [0, 'u32'],
  first_sect: [4, 'u8'],
  last_sect: [5, 'u8'],
});

export const BlkifRequest = struct('blkif_request', 112, {
  operation: [0, 'u8'],
  nr_segments: [1, 'u8'],
  handle: [2, 'u16'],
  id: [8, 'u64'],
  sector_number: [16, 'u64'],
  seg: [24, 'struct blkif_request_segment[11]'],
});

export const BlkifRequestDiscard = struct('blkif_request_discard', 32, {
  operation: [0, 'u8'],
  flag: [1, 'u8'],
  handle: [2, 'u16'],
  id: [8, 'u64'],
  sector_number: [16, 'u64'],
  nr_sectors: [24, 'u64'],
});

/** `blkif_request_discard.flag`. */
export const BLKIF_DISCARD_SECURE = 1 << 0;

export const BlkifRequestIndirect = struct('blkif_request_indirect', 64, {
  operation: [0, 'u8'],
  indirect_op: [1, 'u8'],
  nr_segments: [2, 'u16'],
  id: [8, 'u64'],
  sector_number: [16, 'u64'],
  handle: [24, 'u16'],
  indirect_grefs: [28, 'u32[8]'],
});

export const BlkifResponse = struct('blkif_response', 16, {
  id: [0, 'u64'],
  operation: [8, 'u8'],
  status: [10, 's16'],
});

/** The layout in the x86_32 ABI. */
export const BlkifRequestX86_32 = struct('blkif_request', 108, {
  operation: [0, 'u8'],
  nr_segments: [1, 'u8'],
  handle: [2, 'u16'],
  id: [4, 'u64'],
  sector_number: [12, 'u64'],
  seg: [20, 'struct blkif_request_segment[11]'],
});

export const BlkifRequestDiscardX86_32 = struct('blkif_request_discard', 28, {
  operation: [0, 'u8'],
  flag: [1, 'u8'],
  handle: [2, 'u16'],
  id: [4, 'u64'],
  sector_number: [12, 'u64'],
  nr_sectors: [20, 'u64'],
});

export const BlkifRequestIndirectX86_32 = struct('blkif_request_indirect', 64, {
  operation: [0, 'u8'],
  indirect_op: [1, 'u8'],
  nr_segments: [2, 'u16'],
  id: [4, 'u64'],
  sector_number: [12, 'u64'],
  handle: [20, 'u16'],
  indirect_grefs: [24, 'u32[8]'],
});

export const BlkifResponseX86_32 = struct('blkif_response', 12, {
  id: [0, 'u64'],
  operation: [8, 'u8'],
  status: [10, 's16'],
});

/** Both layouts under one type. Which one is used follows from the front end's `protocol` node. */
export interface BlkifAbi {
  readonly request: { readonly [K in keyof typeof BlkifRequest]: (typeof BlkifRequest)[K] };
  readonly discard: { readonly [K in keyof typeof BlkifRequestDiscard]: (typeof BlkifRequestDiscard)[K] };
  readonly indirect: { readonly [K in keyof typeof BlkifRequestIndirect]: (typeof BlkifRequestIndirect)[K] };
  readonly response: { readonly [K in keyof typeof BlkifResponse]: (typeof BlkifResponse)[K] };
}
export const BLKIF_X86_64: BlkifAbi = {
  request: BlkifRequest,
  discard: BlkifRequestDiscard,
  indirect: BlkifRequestIndirect,
  response: BlkifResponse,
};
export const BLKIF_X86_32: BlkifAbi = {
  request: BlkifRequestX86_32,
  discard: BlkifRequestDiscardX86_32,
  indirect: BlkifRequestIndirectX86_32,
  response: BlkifResponseX86_32,
};

/** Values of the `protocol` node (`io/protocols.h`). */
export const XEN_IO_PROTO_ABI_X86_32 = 'x86_32-abi';
export const XEN_IO_PROTO_ABI_X86_64 = 'x86_64-abi';

/** `blkif_response.status`. */
export const BLKIF_RSP_EOPNOTSUPP = -2;
export const BLKIF_RSP_ERROR = -1;
export const BLKIF_RSP_OKAY = 0;

/** Bits of the `info` node. */
export const VDISK_CDROM = 1;
export const VDISK_REMOVABLE = 2;
export const VDISK_READONLY = 4;
