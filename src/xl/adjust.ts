/** `xl vcpu-set`, `mem-set`, `mem-max`, `sysrq`, `trigger`. */
import { sizeKib } from './format.js';
import { ERROR_FAIL, FAILED, type Session, XlEnd } from './session.js';
import type { XlCall } from './verb.js';

export async function vcpuSet({ session, rest, has }: XlCall): Promise<number> {
  const { domid, name, uuid, row } = await session.guest(rest[0]);
  const digits = /^\s*\+?\d+/.exec(rest[1]);
  const wanted = digits === null ? Number.NaN : Number(digits[0]);
  if (!(wanted <= 2 ** 31 - 1)) throw new XlEnd(FAILED, 'Error: Invalid argument.');
  const { cpus } = session.around.machine;
  if (!has('i') && wanted > row.vcpus && wanted > cpus)
    throw new XlEnd(
      FAILED,
      `You are overcommmitting! You have ${cpus} physical CPUs and want ${wanted} vCPUs! Aborting, use --ignore-host to continue`,
    );
  await session.by(
    (client) => client.request('vcpuSet', { guest: name, uuid, online: wanted }),
    `libxl_set_vcpuonline failed domid=${domid} max_vcpus=${wanted}, rc: ${ERROR_FAIL}`,
  );
  return 0;
}

/** The size in KiB, of a domain that is named first. */
async function sized(session: Session, [called, size]: readonly string[]) {
  const { domid, name, uuid } = await session.guest(called);
  const kib = sizeKib(size);
  if (kib === undefined) throw new XlEnd(FAILED, `invalid memory size: ${size}`);
  return { domid, guest: { guest: name, uuid }, kib };
}

export async function memSet({ session, rest }: XlCall): Promise<number> {
  const { domid, guest, kib } = await sized(session, rest);
  await session.by(
    (client) => client.request('memSet', { ...guest, targetKib: kib }),
    `cannot set domid ${domid} dynamic max memory to : ${rest[1]}`,
  );
  return 0;
}

export async function memMax({ session, rest }: XlCall): Promise<number> {
  const { domid, guest, kib } = await sized(session, rest);
  await session.by(
    (client) => client.request('memMax', { ...guest, maxKib: kib }),
    `cannot set domid ${domid} static max memory to : ${rest[1]}`,
  );
  return 0;
}

export async function sysrq({ session, rest, help }: XlCall): Promise<number> {
  const { name, uuid } = await session.guest(rest[0]);
  const key = rest[1];
  if (key.length > 1) {
    session.say('Invalid sysrq.\n');
    help('sysrq');
    return FAILED;
  }
  await session.by((client) => client.request('sysrq', { guest: name, uuid, key }), '');
  return 0;
}

const TRIGGERS = ['power', 'sleep', 'nmi', 'init', 'reset', 's3resume'];

export async function trigger({ session, rest }: XlCall): Promise<number> {
  const { domid, name, uuid } = await session.guest(rest[0]);
  const kind = rest[1].toLowerCase();
  if (!TRIGGERS.includes(kind)) throw new XlEnd(FAILED, `Invalid trigger "${rest[1]}"`);
  const digits = rest[2] === undefined ? null : /^\s*\d+/.exec(rest[2]);
  if (rest[2] !== undefined && digits === null) session.say('Invalid vcpuid, using default vcpuid=0.\n');
  const vcpu = digits === null ? 0 : Number(digits[0]);
  // As with xl, the status does not say whether it was sent.
  if (kind !== 'nmi') {
    const why = /^(power|sleep)$/.test(kind) ? 'Invalid argument' : 'Function not implemented';
    session.say(`libxl: error: Domain ${domid}:Send trigger '${kind}' failed: ${why}`);
  } else
    await session
      .by((client) => client.request('trigger', { guest: name, uuid, vcpu }), '')
      .catch((error: Error) => session.say(error.message));
  return 0;
}
