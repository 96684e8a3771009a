/** The verbs that make, end and move domains. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { DomainRow, Watch } from '../client/index.js';
import { readGuestConfig } from '../guest-process/device-requests.js';
import { yajl } from './format.js';
import { configJson } from './long.js';
import { DOM0_NAME } from './machine.js';
import {
  ERROR_DOMAIN_NOTFOUND,
  ERROR_FAIL,
  ERROR_INVAL,
  FAILED,
  type Session,
  USAGE,
  XlEnd,
} from './session.js';
import type { XlCall } from './verb.js';

/** A configuration file, with assignments as lines after its own. */
interface ConfigFile {
  readonly file: string;
  readonly text: string;
}

/** The words that are no assignments name the file: at most one. Undefined if there are more. */
function configWords(
  rest: readonly string[],
  option: string | undefined,
): { readonly file: string | undefined; readonly assignments: readonly string[] } | undefined {
  const assignments = rest.filter((word) => word.includes('='));
  const files = [...(option === undefined ? [] : [option]), ...rest.filter((word) => !word.includes('='))];
  return files.length > 1 ? undefined : { file: files[0], assignments };
}

const systemWords = (error: unknown): string => {
  const words: Readonly<Record<string, string>> = {
    ENOENT: 'No such file or directory',
    EACCES: 'Permission denied',
    EISDIR: 'Is a directory',
  };
  const { code = '', message } = error as NodeJS.ErrnoException;
  return words[code] ?? message;
};

/** Throws XlEnd with `status`. */
function readConfigFile(file: string, assignments: readonly string[], status: number): ConfigFile {
  try {
    const text = file === '/dev/null' ? '' : readFileSync(file, 'utf8');
    return { file, text: `${[text, ...assignments].join('\n')}\n` };
  } catch (error) {
    throw new XlEnd(status, `Failed to read config file: ${file}: ${systemWords(error)}`);
  }
}

export async function create(call: XlCall): Promise<number> {
  const { session, rest, has, value, dryRun } = call;
  const words = configWords(rest, value('f'));
  if (words === undefined) {
    call.help('create');
    return USAGE;
  }
  const { file, assignments } = words;
  if (file === undefined) throw new XlEnd(-ERROR_INVAL, 'Config file not specified and none in save file');
  const { text } = readConfigFile(file, assignments, -ERROR_FAIL);
  if (!has('q')) session.say(`Parsing config from ${file}`);
  const directory = resolve('.');
  if (dryRun || has('d')) {
    const shown = dryConfig(text, file, directory);
    if (!dryRun) session.around.err(shown);
    else {
      session.around.out(shown);
      return 0;
    }
  }
  const paused = has('p');
  const made = await session.by(
    (client) => client.request('create', { config: text, file, directory, paused }),
    '',
    -ERROR_FAIL,
    (why) => (why.startsWith(`${file}:`) ? unreadable(why) : undefined),
  );
  for (const warning of made.warnings ?? []) session.say(`WARNING: ${warning}`);
  if (has('c')) await session.around.console(made.uuid);
  if (has('F')) await untilGone(session, made);
  return 0;
}

/** As xl ends where its file cannot be read. */
const unreadable = (why: string): XlEnd =>
  new XlEnd(FAILED, `${why}\nFailed to parse config: Invalid argument`);

function dryConfig(text: string, file: string, directory: string): string {
  try {
    return `${yajl(configJson(readGuestConfig(text, file, directory), false))}\n`;
  } catch (error) {
    throw unreadable((error as Error).message);
  }
}

async function untilGone(session: Session, { name, uuid }: Pick<DomainRow, 'name' | 'uuid'>): Promise<void> {
  const client = await session.client();
  await client.request('gone', { guest: name, uuid }).catch(() => null);
}

export async function destroy({ session, rest, has }: XlCall): Promise<number> {
  const { domid } = await session.find(rest[0]);
  if (domid === 0 && !has('f'))
    throw new XlEnd(
      FAILED,
      'Not destroying domain 0; use -f to force.\nThis can only be done when using a disaggregated hardware domain and toolstack.\n',
    );
  const failed = `destroy failed (rc=${ERROR_FAIL})`;
  if (domid === 0) throw new XlEnd(FAILED, failed);
  const { name, uuid } = await session.guest(
    rest[0],
    `libxl: error: Domain ${domid}:there is no such domain\ndestroy failed (rc=${ERROR_DOMAIN_NOTFOUND})`,
  );
  await session.by((client) => client.request('destroy', { guest: name, uuid }), failed);
  return 0;
}

export const shutdown = (call: XlCall): Promise<number> => shutdownOrReboot(call, 'shutdown');
export const reboot = (call: XlCall): Promise<number> => shutdownOrReboot(call, 'reboot');

/** How long a guest may take to acknowledge the request, s: libxl's. */
const ACKNOWLEDGE_S = 60;

async function shutdownOrReboot(call: XlCall, kind: 'shutdown' | 'reboot'): Promise<number> {
  const { session, rest, has, count } = call;
  if (rest.length === 0 && !has('a')) throw new XlEnd(FAILED, 'You must specify -a or a domain id.\n');
  const guests = has('a') ? await running(session) : [await ofName(session, rest[0], kind)];
  // Subscribed before they are asked, so that no end is missed.
  const watch = has('w') ? await (await session.client()).watch() : undefined;
  for (const { domid, name, uuid } of guests) {
    session.say(asked(kind, domid));
    await session.by(
      (client) => client.request(kind, { guest: name, uuid, timeoutS: ACKNOWLEDGE_S }),
      (rc) => `${kind} failed (rc=${rc})`,
    );
  }
  if (watch !== undefined) {
    session.say(`Waiting for ${guests.length} domains`);
    await deathsOf(session, watch, new Set(guests.map(({ domid }) => domid)), count('w') > 1);
  }
  return 0;
}

const asked = (kind: 'shutdown' | 'reboot', domid: number): string =>
  `${kind === 'reboot' ? 'Rebooting' : 'Shutting down'} domain ${domid}`;

/** Xen's SHUTDOWN_* of how a domain has ended. */
const REASONS: Readonly<Record<string, number>> = { poweroff: 0, reboot: 1, crash: 3 };

/** Resolves when these domains have shut down; with `destroyed`, when they are gone. Each is said. */
async function deathsOf(
  session: Session,
  { events }: Watch,
  waiting: Set<number>,
  destroyed: boolean,
): Promise<void> {
  if (waiting.size === 0) return;
  for await (const { domid, change, reason = '' } of events) {
    if (!waiting.has(domid)) continue;
    if (change === 'gone') session.say(`Domain ${domid} has been destroyed`);
    else if (change !== 'ended') continue;
    else {
      session.say(`Domain ${domid} has been shut down, reason code ${REASONS[reason] ?? 0}`);
      if (destroyed) {
        session.say(`Domain ${domid} continue waiting for death`);
        continue;
      }
    }
    waiting.delete(domid);
    if (waiting.size === 0) return;
  }
}

/** Without those that have ended: they cannot answer. */
const running = async (session: Session): Promise<DomainRow[]> =>
  (await session.guests()).filter(({ state }) => !/[sc]/.test(state));

async function ofName(session: Session, called: string, kind: 'shutdown' | 'reboot'): Promise<DomainRow> {
  const { domid, row } = await session.find(called);
  if (row !== undefined) return row;
  const what =
    domid === 0 ? `${DOM0_NAME} is this machine, which xl does not end` : 'there is no such domain';
  throw new XlEnd(
    FAILED,
    `${asked(kind, domid)}\nlibxl: error: Domain ${domid}:${what}\n${kind} failed (rc=${ERROR_FAIL})`,
  );
}

export async function console({ session, rest, value }: XlCall): Promise<number> {
  const type = value('t');
  if (type !== undefined && !['pv', 'serial', 'vuart'].includes(type))
    throw new XlEnd(FAILED, 'console type supported are: pv, serial, vuart');
  const { uuid } = await session.guest(rest[0], 'Unable to attach console');
  if ((type !== undefined && type !== 'pv') || Number(value('n') ?? 0) !== 0)
    throw new XlEnd(FAILED, 'libxl: error: a guest has one console, pv 0\nUnable to attach console');
  await session.around.console(uuid);
  return 0;
}

export async function pause({ session, rest }: XlCall): Promise<number> {
  const { name, uuid } = await session.guest(rest[0]);
  await session.by((client) => client.request('pause', { guest: name, uuid }), '');
  return 0;
}
export async function unpause({ session, rest }: XlCall): Promise<number> {
  const { name, uuid } = await session.guest(rest[0]);
  await session.by((client) => client.request('unpause', { guest: name, uuid }), '');
  return 0;
}

export async function rename({ session, rest }: XlCall): Promise<number> {
  const failed = `Can't rename domain '${rest[0]}'.`;
  const { name, uuid } = await session.guest(rest[0], failed);
  await session.by((client) => client.request('rename', { guest: name, uuid, name: rest[1] }), failed);
  return 0;
}

export async function save(call: XlCall): Promise<number> {
  const { session, rest, has } = call;
  if (rest.length > 3) {
    call.help('save');
    return FAILED;
  }
  const { name, uuid } = await session.guest(rest[0]);
  if (rest[2] !== undefined)
    session.say(`WARNING: ${rest[2]} is not used: the guest's own configuration is saved with it`);
  const path = resolve(rest[1]);
  const keep = has('c') || has('p');
  await session.by(
    (client) => client.request('save', { guest: name, uuid, path, keep }),
    'Failed to save domain, resuming domain',
    FAILED,
    (why) =>
      /^(ENOENT|EACCES|EISDIR|EROFS)/.test(why)
        ? new XlEnd(FAILED, `Failed to open temp file ${rest[1]} for writing`)
        : undefined,
  );
  if (has('p')) await session.by((client) => client.request('pause', { guest: name, uuid }), '');
  return 0;
}

export async function restore(call: XlCall): Promise<number> {
  const { session, rest, has } = call;
  if (rest.length < 1 || rest.length > 2) {
    call.help('restore');
    return FAILED;
  }
  if (rest.length === 2)
    session.say(`WARNING: ${rest[0]} is not used: the file has the guest's own configuration`);
  const file = rest[rest.length - 1];
  try {
    closeSync(openSync(file, 'r'));
  } catch (error) {
    throw new XlEnd(FAILED, `Can't open restore file: ${systemWords(error)}`);
  }
  const made = await session.by(
    (client) => client.request('restore', { path: resolve(file), paused: has('p') }),
    '',
  );
  if (has('c')) await session.around.console(made.uuid);
  if (has('F')) await untilGone(session, made);
  return 0;
}

/** Where `--live` and what else old tools had is taken, and has no effect. */
export async function migrate({ session, rest, has, value }: XlCall): Promise<number> {
  const [called, host] = rest;
  const { name, uuid } = await session.guest(called);
  if (value('C') !== undefined)
    session.say(`WARNING: ${value('C')} is not used: the guest's own configuration goes with it`);
  if (value('s') !== undefined)
    session.say('WARNING: -s is not used: hosts reach each other by their own keys (docs/hosts.md)');
  const failed = 'Migration failed, resuming at sender.';
  if (has('p')) await session.by((client) => client.request('pause', { guest: name, uuid }), failed);
  try {
    await session.by(async (client) => {
      const move = await client.migrate(uuid, host);
      return move.done;
    }, failed);
  } catch (error) {
    // Only the arrived guest was to stay paused.
    if (has('p')) await (await session.client()).request('unpause', { guest: name, uuid }).catch(() => null);
    throw error;
  }
  session.say('migration sender: Target has acknowledged transfer.');
  session.say('migration sender: Giving target permission to start.');
  session.say('migration sender: Target reports successful startup.');
  session.say('Migration successful.');
  return 0;
}

export async function dumpCore({ session, rest }: XlCall): Promise<number> {
  const { name, uuid } = await session.guest(rest[0]);
  await session.by(
    (client) => client.request('dumpCore', { guest: name, uuid, path: resolve(rest[1]) }),
    (rc) => `core dump failed (rc=${rc})`,
  );
  return 0;
}

export async function configUpdate(call: XlCall): Promise<number> {
  const { session, rest, value, has, dryRun } = call;
  if (rest.length === 0) {
    call.help('config-update');
    throw new XlEnd(FAILED, 'xl config-update requires a domain argument');
  }
  session.say(
    'WARNING: xl now has better capability to manage domain configuration, avoid using this command when possible',
  );
  const { domid, name, uuid } = await session.guest(rest[0]);
  const words = configWords(rest.slice(1), value('f'));
  if (words === undefined) {
    call.help('create');
    return USAGE;
  }
  if (words.file === undefined) throw new XlEnd(FAILED, 'Config file not specified');
  // The status of ERROR_FAIL, as the shell sees it.
  const { file, text } = readConfigFile(words.file, words.assignments, 256 + ERROR_FAIL);
  const directory = resolve('.');
  if (has('d') || dryRun) session.around.out(dryConfig(text, file, directory));
  if (dryRun) return 0;
  session.say(`setting dom${domid} configuration`);
  const { warnings } = await session.by(
    (client) => client.request('configUpdate', { guest: name, uuid, config: text, file, directory }),
    'failed to update configuration',
    FAILED,
    (why) => (why.startsWith(`${file}:`) ? unreadable(why) : undefined),
  );
  for (const warning of warnings ?? []) session.say(`WARNING: ${warning}`);
  return 0;
}
