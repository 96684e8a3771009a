/**
 * The records of the migration stream in the order in which they occur. Their layouts are the tables in this file.
 *
 * Invariant: every record except the preamble has a sequence number, so a missing, repeated or misplaced record is
 * detected where it occurs. Every record has a checksum, so a changed one is detected too.
 */
import { bytes, int, list, text, u16, u32 } from '../records/fields.js';
import { recordType } from '../records/record.js';

/**
 * The versions of the stream that this program reads and writes, best first. Version 2 may have CODE records, version 3
 * also a CLOG record before the guest's own in DESC and in STAT.
 */
export const STREAM_VERSIONS: readonly number[] = [3, 2, 1];
/** The first version with CLOG records. */
export const CONSOLE_VERSION = 3;
/** The version that is written if nobody has said what the reader knows. */
export const PLAIN_VERSION = 1;

export const PAGE_BYTES = 4096;
/** The maximum number of pages in a batch: 1 MiB of data. */
export const MAX_BATCH_PAGES = 256;
/** The maximum number of frames in a record of zero pages. */
export const MAX_ZERO_FRAMES = 65_536;
/**
 * The largest record that is accepted, in bytes (a description or a state). Larger ones are not written by this
 * program.
 */
export const MAX_RECORD_BYTES = 64 << 20;

export const preambleRecord = recordType('STPT', 1, 'preamble: the first record of every stream and file', {
  version: [u16, 'version of the stream'],
  pageBytes: [u32, 'size of a page: 4096'],
  frames: [u32, 'machine frames of the guest'],
  uuid: [text, 'uuid of the guest'],
  name: [text, 'name of the guest'],
  writer: [text, 'program and version that wrote it; for people'],
});

export const descriptionRecord = recordType('DESC', 1, 'what an empty container is made from', {
  sequence: [u32, 'number of this record; the preamble is 0'],
  records: [bytes, 'records of the guest, as its describe() gave them'],
});

export const pagesRecord = recordType('PAGE', 1, 'a batch of pages; a later one replaces an earlier one', {
  sequence: [u32, 'number of this record'],
  frames: [list(u32), `machine frame numbers, counted from the guest's first; at most ${MAX_BATCH_PAGES}`],
  data: [bytes, 'their contents, 4096 bytes each, in the same order'],
});

export const zeroRecord = recordType('ZERO', 1, 'pages that were sent before and are all zero now', {
  sequence: [u32, 'number of this record'],
  frames: [list(u32), `machine frame numbers; at most ${MAX_ZERO_FRAMES}`],
});

/** The maximum number of places of code in a record. */
export const MAX_CODE_STARTS = 32_768;

export const codeRecord = recordType(
  'CODE',
  1,
  'code that the guest runs often; the reader may prepare or ignore it',
  {
    sequence: [u32, 'number of this record'],
    starts: [
      list(u32),
      `bytes from the guest's first machine frame to where it begins, the most run first; at most ${MAX_CODE_STARTS}`,
    ],
  },
);

export const roundRecord = recordType('RNDS', 1, 'a round of page copying begins', {
  sequence: [u32, 'number of this record'],
  round: [u32, 'number of the round, from 1; 0 is the last one, sent while the guest is stopped'],
  pages: [u32, 'pages that are examined in it'],
});

/** The maximum number of a disk's bytes in a record. */
export const MAX_BLOCKS_BYTES = 1 << 20;

export const diskRecord = recordType('DISK', 1, 'a disk that moves with the guest; it is all zero at first', {
  sequence: [u32, 'number of this record'],
  devid: [u32, 'number of the virtual disk'],
  bytes: [int, 'its size'],
});

export const blocksRecord = recordType('BLKS', 1, 'contents of a disk; later ones replace earlier ones', {
  sequence: [u32, 'number of this record'],
  devid: [u32, 'number of the virtual disk'],
  at: [int, 'first byte, counted from the start of the disk'],
  data: [bytes, `the contents; at most ${MAX_BLOCKS_BYTES} bytes`],
});

export const holeRecord = recordType('HOLE', 1, 'a part of a disk that is all zero now', {
  sequence: [u32, 'number of this record'],
  devid: [u32, 'number of the virtual disk'],
  at: [int, 'first byte, counted from the start of the disk'],
  bytes: [u32, `how many; at most ${MAX_BLOCKS_BYTES}`],
});

/** The maximum length of what a guest has printed in a record, bytes; of more, the last are sent. */
export const MAX_CONSOLE_LOG = 8 << 20;

/** It stands before the guest's own records in DESC and in STAT. */
export const consoleLogRecord = recordType('CLOG', 1, 'what the guest has printed on its console', {
  output: [
    bytes,
    `in DESC what it had printed before, in STAT what since then; at most ${MAX_CONSOLE_LOG} bytes`,
  ],
});

export const stateRecord = recordType('STAT', 1, 'everything of the guest that is not RAM', {
  sequence: [u32, 'number of this record'],
  records: [bytes, 'records of the guest, as its saveState() gave them'],
});

export const endRecord = recordType('FINE', 1, 'the stream is complete; nothing may follow', {
  sequence: [u32, 'number of this record'],
  pages: [int, 'pages sent, counting each time'],
});

/** In the order in which they occur in a stream. The documentation has the same order. */
export const streamRecords = [
  preambleRecord,
  descriptionRecord,
  diskRecord,
  blocksRecord,
  holeRecord,
  roundRecord,
  pagesRecord,
  zeroRecord,
  codeRecord,
  stateRecord,
  endRecord,
] as const;
