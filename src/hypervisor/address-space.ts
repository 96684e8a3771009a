/**
 * How the frames of a container are divided: first the guest's RAM from PFN 0 on, then the frames that belong to Xen.
 * The division stays the same for the whole life of a guest, on every host.
 */
import { FrameMap } from '../engine/engine.js';
import { GRANT_FRAMES } from './grants/grant-table.js';
import { m2pFrames } from './mmu/m2p.js';

/** How many frames libxl allows a domain beyond its configured memory: 1 MiB. */
export const SLACK_FRAMES = 256;

export interface FrameLayout {
  /** Frames that the guest may own, including the slack. */
  readonly guest: number;
  /** Frame indexes. */
  readonly sharedInfo: number;
  readonly grants: number;
  readonly m2p: number;
  readonly m2pTables: number;
  /** All frames of the container. */
  readonly total: number;
}

/**
 * The layout for a guest of at most `maxFrames` frames of memory. `wholeM2p` adds the frames that are needed to show
 * the machine-to-physical table from machine frame 0 on. `grantFrames` is how many frames its table of grants may have.
 */
export function frameLayout(maxFrames: number, wholeM2p: boolean, grantFrames = GRANT_FRAMES): FrameLayout {
  const guest = maxFrames + SLACK_FRAMES;
  const sharedInfo = guest;
  const grants = sharedInfo + 1;
  const m2p = grants + grantFrames;
  let total = m2p;
  for (;;) {
    const { data, tables } = m2pFrames(FrameMap.whole(total), wholeM2p);
    if (m2p + data + tables <= total) return { guest, sharedInfo, grants, m2p, m2pTables: m2p + data, total };
    total = m2p + data + tables;
  }
}
