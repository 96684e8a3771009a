/**
 * Addresses of links, as users write them:
 *
 *     switch:unix:PATH  switch:HOST:PORT   our switch (`stillpoint switch`): frames keep their offloads
 *     stream:unix:PATH  stream:HOST:PORT   a listener of QEMU's `-netdev stream`, or passt's socket
 *     passt:PATH                           the same as stream:unix:PATH
 *     dgram:HOST:PORT/HOST:PORT            UDP, our address and theirs, as QEMU's `-netdev dgram`
 *     tap:NAME                             a tap device; it is made if it does not exist
 *     bridge:NAME                          a tap device that is made for the vif and added to that bridge
 *     none                                 no cable
 */

/** The name of the network of those vifs that name no bridge. */
export const DEFAULT_NETWORK = 'default';

export type SocketAddress = { readonly path: string } | { readonly host: string; readonly port: number };

export type LinkAddress =
  | { readonly kind: 'switch' | 'stream'; readonly to: SocketAddress }
  | { readonly kind: 'dgram'; readonly local: Endpoint; readonly remote: Endpoint }
  | { readonly kind: 'tap' | 'bridge'; readonly name: string }
  | { readonly kind: 'none' };

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** The address cannot be parsed. The message says what is expected. */
class LinkAddressError extends Error {}

/** The size of sun_path without its terminating zero byte. */
const MAX_UNIX_PATH = 107;
/** A name of at most IFNAMSIZ characters, without the terminating zero byte. */
const INTERFACE = /^[^\s/:]{1,15}$/;

function endpoint(text: string, what: string): Endpoint {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port < 1 || port > 65_535) throw new LinkAddressError(`${what}: "${text}" is not HOST:PORT`);
  return { host: match[1] ?? match[2], port };
}

/** Parses "unix:PATH" or "HOST:PORT". Throws LinkAddressError. */
export function parseSocketAddress(text: string, what: string): SocketAddress {
  if (!text.startsWith('unix:')) return endpoint(text, what);
  const path = text.slice(5);
  if (path === '' || Buffer.byteLength(path) > MAX_UNIX_PATH)
    throw new LinkAddressError(`${what}: a path of 1 to ${MAX_UNIX_PATH} bytes is expected after unix:`);
  return { path };
}

/** Parses a link's address. Throws LinkAddressError. */
export function parseLinkAddress(text: string): LinkAddress {
  const what = `network link "${text}"`;
  const colon = text.indexOf(':');
  const kind = colon < 0 ? text : text.slice(0, colon);
  const rest = colon < 0 ? '' : text.slice(colon + 1);
  switch (kind) {
    case 'switch':
    case 'stream':
      return { kind, to: parseSocketAddress(rest, what) };
    case 'passt':
      return { kind: 'stream', to: parseSocketAddress(`unix:${rest}`, what) };
    case 'dgram': {
      const [local, remote, tooMuch] = rest.split('/');
      if (remote === undefined || tooMuch !== undefined)
        throw new LinkAddressError(`${what}: dgram:HOST:PORT/HOST:PORT is expected`);
      return { kind, local: endpoint(local, what), remote: endpoint(remote, what) };
    }
    case 'tap':
    case 'bridge':
      if (!INTERFACE.test(rest))
        throw new LinkAddressError(`${what}: "${rest}" is not a valid interface name`);
      return { kind, name: rest };
    case 'none':
      if (colon < 0) return { kind };
  }
  throw new LinkAddressError(`${what}: switch:, stream:, passt:, dgram:, tap:, bridge: or none is expected`);
}

export const formatSocketAddress = (to: SocketAddress): string =>
  'path' in to ? `unix:${to.path}` : `${to.host.includes(':') ? `[${to.host}]` : to.host}:${to.port}`;
