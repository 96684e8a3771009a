/**
 * A host's key and certificate, and the hosts that it trusts. Certificates are self-signed and pinned: a host trusts
 * exact certificates that people have exchanged; no certificate authority and no name in a certificate counts.
 *
 * Files in DIR/identity: key.pem (0600), cert.pem, trusted/NAME.json.
 */
import { createHash, webcrypto, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type * as v from 'valibot';
import { readOrSetAside, removeDurable, writeDurable } from '../os/durable.js';
import { check } from '../protocol/check.js';
import { DAEMON_FILES } from '../protocol/daemon-files.js';
import { Failure } from '../protocol/failure.js';
import type { Right } from '../protocol/table.js';

export interface Trusted {
  readonly name: string;
  readonly certificate: string;
  /** SHA-256 of the certificate, hexadecimal. */
  readonly fingerprint: string;
  /** HOST:PORT of its daemon, "" if it has none. */
  readonly address: string;
  readonly allow: readonly Right[];
}

export interface Identity {
  readonly key: string;
  readonly certificate: string;
  readonly fingerprint: string;
}

/** What a file of trusted/ is declared to have, held against the type that is used here. */
const trustedFile: v.GenericSchema<unknown, Trusted> = DAEMON_FILES.trusted.shape;
const readTrusted = (value: unknown): Trusted => check(trustedFile, value, 'a trusted host');

const VALID_YEARS = 20;
const directory = (dir: string): string => join(dir, 'identity');

export const fingerprintOf = (der: Uint8Array): string => createHash('sha256').update(der).digest('hex');

/** Makes the key and certificate of a host. Fails if there is a key already. */
export async function initIdentity(dir: string): Promise<Identity> {
  const where = directory(dir);
  if (existsSync(join(where, 'key.pem'))) {
    throw new Failure('bad-state', `${where} has a key already; others trust it, so it is not replaced`);
  }
  mkdirSync(join(where, 'trusted'), { recursive: true, mode: 0o700 });
  // The library is loaded only here, since loading takes a tenth of a second for every other verb. Its dependency-
  // injection container needs reflect-metadata first.
  await import('reflect-metadata');
  const x509 = await import('@peculiar/x509');
  x509.cryptoProvider.set(webcrypto);
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const notBefore = new Date(Date.now() - 86_400_000);
  const notAfter = new Date(notBefore);
  notAfter.setUTCFullYear(notAfter.getUTCFullYear() + VALID_YEARS);
  // The subject says nothing about the host, since anybody who connects can read it. But it must be unique, since TLS
  // looks up trusted certificates by subject.
  const subject = Buffer.from(webcrypto.getRandomValues(new Uint8Array(15))).toString('hex');
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=stillpoint ${subject}`,
    serialNumber: Buffer.from(webcrypto.getRandomValues(new Uint8Array(15))).toString('hex'),
    notBefore,
    notAfter,
    signingAlgorithm: algorithm,
    keys,
    extensions: [new x509.BasicConstraintsExtension(true, 0, true)],
  });
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8.replace(/.{64}/g, '$&\n')}\n-----END PRIVATE KEY-----\n`;
  writeFileSync(join(where, 'key.pem'), key, { mode: 0o600 });
  writeFileSync(join(where, 'cert.pem'), `${certificate.toString('pem')}\n`, { mode: 0o644 });
  return loadIdentity(dir)!;
}

/** The host's identity, or undefined before `host init`. */
export function loadIdentity(dir: string): Identity | undefined {
  const where = directory(dir);
  if (!existsSync(join(where, 'key.pem'))) return undefined;
  const certificate = readFileSync(join(where, 'cert.pem'), 'utf8');
  return {
    key: readFileSync(join(where, 'key.pem'), 'utf8'),
    certificate,
    fingerprint: fingerprintOf(new X509Certificate(certificate).raw),
  };
}

const isHostName = (name: string): boolean => /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name);

/** Trusts `certificate` (PEM) under `name`, and replaces what was trusted under that name. */
export function trust(
  dir: string,
  name: string,
  certificate: string,
  address: string,
  allow: readonly Right[],
): Trusted {
  if (!isHostName(name)) throw new Failure('usage', `not a name for a host: ${name}`);
  let parsed: X509Certificate;
  try {
    parsed = new X509Certificate(certificate);
  } catch {
    throw new Failure('usage', 'a certificate in PEM form is expected (identity/cert.pem of the other host)');
  }
  mkdirSync(join(directory(dir), 'trusted'), { recursive: true, mode: 0o700 });
  const entry: Trusted = {
    name,
    certificate: parsed.toString(),
    fingerprint: fingerprintOf(parsed.raw),
    address,
    allow,
  };
  writeDurable(join(directory(dir), 'trusted', `${name}.json`), entry);
  return entry;
}

/**
 * The hosts that this host trusts. A file that cannot be read is set aside and reported to `damaged`: nobody is
 * trusted by it.
 */
export function loadTrusted(
  dir: string,
  damaged: (message: string) => void = (message) => process.stderr.write(`stillpoint: ${message}\n`),
): Trusted[] {
  const where = join(directory(dir), 'trusted');
  if (!existsSync(where)) return [];
  return readdirSync(where)
    .filter((file) => file.endsWith('.json'))
    .sort()
    .map((file) => readOrSetAside(join(where, file), readTrusted, damaged))
    .filter((entry) => entry !== undefined);
}

/** No longer trusts the host with this name. Fails if there is none. */
export function untrust(dir: string, name: string): void {
  const path = join(directory(dir), 'trusted', `${name}.json`);
  if (!isHostName(name) || !existsSync(path)) throw new Failure('usage', `no host ${name} is trusted here`);
  removeDurable(path);
}

/**
 * The hosts that a host trusts at this moment: for a daemon, which checks at each request. A file that cannot be
 * read makes nobody trusted.
 */
export class TrustedHosts {
  private seen = '';
  private hosts: readonly Trusted[] = [];

  /** `damaged` is called for files that cannot be read; they are set aside. */
  constructor(
    private readonly dir: string,
    private readonly damaged: (message: string) => void,
  ) {}

  all(): readonly Trusted[] {
    const where = join(directory(this.dir), 'trusted');
    let now: string;
    try {
      now = String(statSync(where, { bigint: true }).mtimeNs);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') this.hosts = [];
      // For any other error, such as having no descriptors left, the list stays as it was.
      return this.hosts;
    }
    if (now !== this.seen) this.read(where, now);
    return this.hosts;
  }

  /** The next call of `all` reads the files again. */
  forget(): void {
    this.seen = '';
  }

  private read(where: string, now: string): void {
    const hosts: Trusted[] = [];
    let whole = true;
    let names: string[];
    try {
      names = readdirSync(where);
    } catch {
      return;
    }
    for (const name of names.filter((file) => file.endsWith('.json')).sort()) {
      const path = join(where, name);
      try {
        const found = readOrSetAside(path, readTrusted, this.damaged);
        if (found !== undefined) hosts.push(found);
      } catch {
        // No descriptor was left: the file is read again at the next call.
        whole = false;
      }
    }
    if (!whole) return;
    this.hosts = hosts;
    this.seen = now;
  }
}
