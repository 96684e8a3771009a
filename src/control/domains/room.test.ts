import { describe, expect, it } from 'vitest';
import { mustHaveRoom } from './room.js';

const GIB = 1 << 20;
const NO_LIMITS = { memoryMib: 0, guests: 0, guestMemoryMib: 0, guestVcpus: 0, overcommit: false };
const guest = (memoryKib: number, vcpus = 1) => ({ memoryKib, vcpus });
const MEMORY = { totalKib: 16 * GIB, availableKib: 12 * GIB };

describe('the room of a host', () => {
  it.each([
    ['a guest that fits', guest(4 * GIB), [guest(8 * GIB)], {}, false, undefined],
    [
      'more than all guests may have',
      guest(4 * GIB),
      [guest(12 * GIB)],
      {},
      false,
      /15564 MiB together .* have 12288 MiB; this one wants 4096 MiB/,
    ],
    ['the same, of who wants it', guest(4 * GIB), [guest(12 * GIB)], {}, true, undefined],
    [
      'the same, where the host allows it',
      guest(4 * GIB),
      [guest(12 * GIB)],
      { overcommit: true },
      false,
      undefined,
    ],
    ['more than is available now', guest(13 * GIB), [], {}, false, /has 12288 MiB of memory available/],
    [
      'more than the configuration gives',
      guest(GIB),
      [guest(GIB)],
      { memoryMib: 2047 },
      false,
      /may have 2047 MiB together/,
    ],
    ['one domain too many', guest(1), [guest(1), guest(1)], { guests: 2 }, true, /may have 2 domains/],
    ['too large a guest', guest(GIB + 1), [], { guestMemoryMib: 1024 }, true, /wants 1025 MiB/],
    ['too many vCPUs', guest(1, 3), [], { guestVcpus: 2 }, true, /a guest may have 2 vCPUs here/],
  ] as const)('%s', (_, wanted, others, limits, overcommit, words) => {
    const ask = () => mustHaveRoom(wanted, others, { ...NO_LIMITS, ...limits }, MEMORY, overcommit);
    if (words === undefined) ask();
    else
      expect(ask).toThrow(
        expect.objectContaining({ code: 'no-room', message: expect.stringMatching(words) }),
      );
  });
});
