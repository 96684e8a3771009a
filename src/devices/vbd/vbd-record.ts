/**
 * The saved state of a disk: what was agreed with the front end, its rings, and the requests that are not answered
 * yet.
 */
import { bool, int, list, optional, struct, u8, u16, u32 } from '../../records/fields.js';
import { recordType } from '../../records/record.js';

const identityField = struct({
  sectors: [int, 'size in sectors of 512 bytes'],
  sectorBytes: [u32, 'logical sector, bytes'],
  physicalSectorBytes: [u32, 'physical sector, bytes'],
  readOnly: [bool, 'no writes'],
  cdrom: [bool, 'a CD drive'],
  discard: [
    optional(struct({ granularity: [u32, 'bytes'], alignment: [u32, 'bytes'] })),
    'how discards were offered, if they were',
  ],
});

export const vbdRecord = recordType('VBD ', 1, 'a disk whose front end is connected', {
  disk: [identityField, 'what the guest was told of the disk'],
  persistent: [bool, 'persistent grants were agreed on'],
  kept: [list(u32), 'grants that stay mapped'],
  queues: [
    list(
      struct({
        refs: [list(u32), "grants of the ring's pages"],
        port: [u16, 'event channel'],
        reqCons: [u32, 'next request to be consumed'],
        rspProd: [u32, 'next response to be produced'],
      }),
    ),
    'rings',
  ],
  requests: [
    list(
      struct({
        queue: [u8, 'ring it came from'],
        idLow: [u32, 'id, low half'],
        idHigh: [u32, 'id, high half'],
        kind: [u8, 'what is to be done, BLKIF_OP_*'],
        step: [u8, 'steps done (flush, write, flush)'],
        sector: [int, 'first sector of 512 bytes'],
        sectors: [int, 'sectors, of a discard'],
        segments: [
          list(struct({ ref: [u32, 'grant'], first: [u8, 'first sector'], last: [u8, 'last sector'] })),
          'pages of the guest',
        ],
      }),
    ),
    'consumed and not answered, in their order; the last may be a barrier that waits for the others',
  ],
});
