/** All records that a stream can contain, in order, for the documentation (docs/stream.md). */

import { savedConfigRecord } from '../../src/control/images/saved-config.js';
import { consoleRecord } from '../../src/devices/console.js';
import { vbdRecord } from '../../src/devices/vbd/vbd-record.js';
import { vifRecord } from '../../src/devices/vif/record.js';
import { xenbusRecord } from '../../src/devices/xenbus.js';
import { clockRecord } from '../../src/engine/clock.js';
import { vcpuRecord } from '../../src/engine/vcpu-state.js';
import { runnerRecord } from '../../src/guest-process/pv-runner.js';
import { containerRecord, guestStateRecord } from '../../src/helper/guest.js';
import { outageRecord } from '../../src/helper/points/outage.js';
import { wallClockRecord } from '../../src/helper/points/wall-clock.js';
import { identityRecord } from '../../src/hypervisor/identity.js';
import {
  domainStateRecord,
  eventChannelsRecord,
  framesRecord,
  grantsRecord,
  machineRecord,
} from '../../src/hypervisor/saved-state.js';
import { vcpuContextRecord } from '../../src/hypervisor/vcpu/vcpu-context-record.js';
import {
  consoleLogRecord,
  MAX_BATCH_PAGES,
  MAX_CODE_STARTS,
  MAX_RECORD_BYTES,
  MAX_ZERO_FRAMES,
  STREAM_VERSIONS,
  streamRecords,
} from '../../src/migration/stream-records.js';

export const STREAM_PARTS = [
  {
    title: `The stream, version ${STREAM_VERSIONS[0]}`,
    words: [
      'Two daemons agree on the version before the first byte: the source offers those that it writes, the destination',
      'takes the best that it reads. A stream is STPT, DESC, then rounds of RNDS, PAGE and ZERO, then STAT and FINE. Pages',
      'that are all zero and were never sent are not in it. Every record but the first has a number; one that is missing,',
      'repeated or out of order is found where it happens. CODE is in streams of version 2 and 3, which go from daemon to',
      "daemon, after the first round; in version 3, DESC and STAT begin with CLOG, so that a guest's console moves with it.",
      'A file is of version 1, and CONF stands before it. Files of version 0.1 have no CONF.',
    ],
    records: [savedConfigRecord, ...streamRecords],
  },
  {
    title: 'In DESC: what the container is made from',
    words: ['In version 3 the record CLOG, then RUNR; in it GUES; in that IDEN.'],
    records: [consoleLogRecord, runnerRecord, containerRecord, identityRecord],
  },
  {
    title: 'In STAT: the guest without its memory',
    words: [
      "In version 3 the record CLOG, then GSTA. Its field `store` is in Xen's own format (docs/misc/xenstore-migration.md of Xen, version 2, with records",
      'of our own for what that leaves out).',
    ],
    records: [guestStateRecord],
  },
  {
    title: 'In GSTA.domain: hypervisor and machine',
    words: ['CLCK, MACH (in it one VCPU for each), DOMN, one VCTX for each vCPU, EVTC, GRNT, FRAM.'],
    records: [
      clockRecord,
      machineRecord,
      vcpuRecord,
      domainStateRecord,
      vcpuContextRecord,
      eventChannelsRecord,
      grantsRecord,
      framesRecord,
    ],
  },
  {
    title: 'In GSTA.points: migration points with a state of their own',
    words: ['By the names of the points (docs/migration-points.md).'],
    records: [wallClockRecord, outageRecord, consoleRecord],
  },
  {
    title: 'In GSTA.devices: disks and networks',
    words: ['Record XBUS; in it the record of the driver of each connected device.'],
    records: [xenbusRecord, vbdRecord, vifRecord],
  },
];

export const STREAM_LIMITS: readonly (readonly [string, string])[] = [
  ['bytes of a record', String(MAX_RECORD_BYTES)],
  ['pages in PAGE', String(MAX_BATCH_PAGES)],
  ['frames in ZERO', String(MAX_ZERO_FRAMES)],
  ['places in CODE', String(MAX_CODE_STARTS)],
];
