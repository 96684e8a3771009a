/**
 * Addresses of NBD servers, in the syntax of the NBD project: nbd://HOST[:PORT]/EXPORT, nbds:// (TLS),
 * nbd+unix:///EXPORT?socket=PATH, nbds+unix://. Parameters: tls-certificates=DIR (a folder with ca-cert.pem, and with
 * client-cert.pem and client-key.pem if the server asks for them). Our own parameters: lost=wait (the default),
 * lost=fail or lost=SECONDS says how long requests wait for a lost server; answer=SECONDS (default 10) says how long
 * a server may take for a connection, and then for the handshake. Source: doc/uri.md of the NBD project; libnbd for
 * tls-certificates.
 */
import { existsSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import type { NbdOptions } from './nbd-link.js';

const DEFAULT_PORT = 10_809;
const ANSWER_S = 10;
const MOST_ANSWER_S = 3600;

export const isNbd = (target: string): boolean => /^nbds?(\+unix)?:\/\//.test(target);

/**
 * The class URL parses hosts and ports only for schemes that it knows, hence the replacement. Throws if the address
 * is malformed.
 */
const asUrl = (target: string): URL =>
  new URL(target.replace(/^nbds?(\+unix)?:/, 'http:').replace(/^http:\/\/\//, 'http://unix/'));

/** This host's own files that an address names: sockets and certificates. */
export function nbdPaths(target: string): string[] {
  try {
    const { searchParams } = asUrl(target);
    return [...searchParams.getAll('socket'), ...searchParams.getAll('tls-certificates')];
  } catch {
    return [];
  }
}

/** Parses an address. Throws with a message for the user. */
export function parseNbd(
  target: string,
): Pick<NbdOptions, 'exportName' | 'lostS' | 'answerMs' | 'connect' | 'secure'> {
  const fail = (why: string): never => {
    throw new Error(`disk ${target}: ${why}`);
  };
  let url: URL;
  try {
    url = asUrl(target);
  } catch {
    return fail('the address cannot be read');
  }
  const scheme = target.slice(0, target.indexOf(':'));
  const unix = scheme.endsWith('+unix');
  const { searchParams: query } = url;
  for (const key of query.keys())
    if (!['socket', 'tls-certificates', 'lost', 'answer'].includes(key)) fail(`parameter ${key} is unknown`);
  const socket = query.get('socket');
  if (unix && !socket) fail('socket= is missing');
  if (!unix && socket) fail('socket= is for nbd+unix');
  const lost = query.get('lost') ?? 'wait';
  const lostS = lost === 'wait' ? Number.POSITIVE_INFINITY : lost === 'fail' ? 0 : Number(lost);
  if (!(lostS >= 0)) fail(`lost=${lost} is neither wait, fail nor a number of seconds`);
  const answerS = Number(query.get('answer') ?? ANSWER_S);
  if (!(answerS > 0 && answerS <= MOST_ANSWER_S))
    fail(`answer=${query.get('answer')} is not a number of seconds up to ${MOST_ANSWER_S}`);
  const certificates = query.get('tls-certificates') ?? undefined;
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return {
    exportName: decodeURIComponent(url.pathname.slice(1)),
    lostS,
    answerMs: answerS * 1000,
    connect: () =>
      connect(
        unix ? { path: socket as string } : { host, port: url.port === '' ? DEFAULT_PORT : Number(url.port) },
      ),
    secure: scheme.startsWith('nbds') ? (stream) => secure(stream, host, certificates) : undefined,
  };
}

/** Connects. If the caller no longer wants the connection when it is there, the caller closes it. */
function connect(to: net.NetConnectOpts): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(to);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.setNoDelay(true);
      resolve(socket);
    });
  });
}

function secure(stream: Duplex, host: string, directory: string | undefined): Promise<Duplex> {
  const file = (name: string): Buffer | undefined => {
    const path = directory === undefined ? undefined : join(directory, name);
    return path !== undefined && existsSync(path) ? readFileSync(path) : undefined;
  };
  return new Promise((resolve, reject) => {
    const secured = tls.connect({
      socket: stream as net.Socket,
      ...(net.isIP(host) ? {} : { servername: host }),
      ca: file('ca-cert.pem'),
      cert: file('client-cert.pem'),
      key: file('client-key.pem'),
    });
    secured.once('error', (error) => reject(new Error(`TLS: ${error.message}`)));
    secured.once('secureConnect', () => resolve(secured));
  });
}
