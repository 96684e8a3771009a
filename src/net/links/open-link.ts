/** Opens the link that an address names. */
import type { LinkClaim } from '../framing.js';
import type { LinkClient, NetLink } from '../link.js';
import type { LinkAddress } from './address.js';
import { DatagramLink } from './datagram-link.js';
import { NoLink } from './no-link.js';
import { StreamLink } from './stream-link.js';

/**
 * Opens a link. `claim` tells a switch of ours which interface is behind it. Rejects with a message for the user if
 * the link is not available now.
 */
export async function openLink(
  address: LinkAddress,
  client: LinkClient,
  log: (line: string) => void,
  claim?: LinkClaim,
): Promise<NetLink> {
  switch (address.kind) {
    case 'none':
      return new NoLink();
    case 'switch':
    case 'stream':
      return StreamLink.connect(address.to, address.kind === 'switch', client, log, claim);
    case 'dgram':
      return DatagramLink.open(address.local, address.remote, client, log);
    case 'tap':
    case 'bridge': {
      // This is loaded only when it is needed, because it needs a package that may be missing.
      const { openTap } = await import('./tap-link.js');
      return openTap(address, client);
    }
  }
}
