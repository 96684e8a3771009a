/** Reads an xl.cfg into what the daemon and the runner need. Errors name file and line. */

import { randomUUID } from 'node:crypto';
import path from 'node:path';
import type { EndAction, GuestConfig } from './guest-runner.js';

type Value = string | number | readonly Value[];

const ACTIONS: Record<string, EndAction> = { destroy: 'destroy', restart: 'restart', preserve: 'preserve' };
const KEYS = new Set([
  'name',
  'uuid',
  'type',
  'builder',
  'kernel',
  'ramdisk',
  'extra',
  'root',
  'cmdline',
  'memory',
  'maxmem',
  'vcpus',
  'on_poweroff',
  'on_reboot',
  'on_crash',
]);

/** Tokens of xl.cfg: names, numbers, strings in either quotes, and = [ ] , with comments and line ends apart. */
function parse(source: string, file: string): Map<string, { value: Value; line: number }> {
  const settings = new Map<string, { value: Value; line: number }>();
  let at = 0;
  let line = 1;
  const fail = (message: string): never => {
    throw new Error(`${file}:${line}: ${message}`);
  };
  const skip = (newlines: boolean): void => {
    for (;;) {
      const c = source[at];
      if (c === '#') while (at < source.length && source[at] !== '\n') at++;
      else if (c === ' ' || c === '\t' || c === '\r' || (c === '\\' && source[at + 1] === '\n')) {
        if (c === '\\') {
          at++;
          line++;
        }
        at++;
      } else if (newlines && (c === '\n' || c === ';')) {
        if (c === '\n') line++;
        at++;
      } else return;
    }
  };
  const take = (pattern: RegExp): string | undefined => {
    const sticky = new RegExp(pattern.source, 'y');
    sticky.lastIndex = at;
    const m = sticky.exec(source);
    if (m === null) return undefined;
    at += m[0].length;
    return m[0];
  };
  const value = (): Value => {
    const quote = source[at];
    if (quote === '"' || quote === "'") {
      const end = source.indexOf(quote, at + 1);
      const content = end < 0 ? '' : source.slice(at + 1, end);
      if (end < 0 || content.includes('\n')) return fail('the string does not end on its line');
      at = end + 1;
      return content;
    }
    if (quote === '[') {
      at++;
      const list: Value[] = [];
      for (;;) {
        skip(true);
        if (source[at] === ']') {
          at++;
          return list;
        }
        list.push(value());
        skip(true);
        if (source[at] === ',') at++;
        else if (source[at] !== ']') return fail('`,` or `]` expected in a list');
      }
    }
    const number = take(/0x[0-9a-fA-F]+|[0-9]+/);
    if (number === undefined) return fail('a string, a number or a list expected');
    return /^0[0-7]+$/.test(number) ? Number.parseInt(number, 8) : Number(number);
  };
  for (;;) {
    skip(true);
    if (at >= source.length) return settings;
    const name =
      take(/[A-Za-z_][A-Za-z0-9_.]*/) ?? fail(`a setting expected, found ${JSON.stringify(source[at])}`);
    const begun = line;
    skip(false);
    if (source[at] !== '=') fail(`\`=\` expected after ${name}`);
    at++;
    skip(false);
    settings.set(name, { value: value(), line: begun });
    skip(false);
    if (at < source.length && source[at] !== '\n' && source[at] !== ';')
      fail(`end of line expected after ${name}`);
  }
}

/** The typed configuration of a PV guest. Throws with file and line. */
export function readGuestConfig(source: string, file: string, directory: string): GuestConfig {
  const settings = parse(source, file);
  for (const [key, { line }] of settings) {
    if (!KEYS.has(key)) throw new Error(`${file}:${line}: ${key} is not supported`);
  }
  const text = (key: string, otherwise?: string): string => {
    const found = settings.get(key);
    if (found === undefined) {
      if (otherwise !== undefined) return otherwise;
      throw new Error(`${file}: ${key} is missing`);
    }
    if (typeof found.value !== 'string') throw new Error(`${file}:${found.line}: ${key} must be a string`);
    return found.value;
  };
  const number = (key: string, otherwise: number, low: number, high: number): number => {
    const found = settings.get(key);
    if (found === undefined) return otherwise;
    const n = typeof found.value === 'string' ? Number(found.value) : found.value;
    if (typeof n !== 'number' || !Number.isInteger(n) || n < low || n > high)
      throw new Error(`${file}:${found.line}: ${key} must be a whole number from ${low} to ${high}`);
    return n;
  };
  const action = (key: string, otherwise: EndAction): EndAction => {
    const given = text(key, otherwise);
    const known = ACTIONS[given];
    if (known === undefined)
      throw new Error(
        `${file}:${settings.get(key)?.line}: ${key} = "${given}" is not supported (destroy, restart, preserve are)`,
      );
    return known;
  };
  const type = text('type', text('builder', 'pv'));
  if (type !== 'pv' && type !== 'generic' && type !== 'linux')
    throw new Error(
      `${file}:${(settings.get('type') ?? settings.get('builder'))?.line}: type = "${type}" is not supported (pv is)`,
    );
  const place = (key: string): string => {
    const given = text(key, '');
    return given === '' ? '' : path.resolve(directory, given);
  };
  text('kernel');
  const memory = number('memory', 128, 4, 3000);
  const maxmem = number('maxmem', memory, memory, 3000);
  if (maxmem !== memory)
    throw new Error(`${file}:${settings.get('maxmem')?.line}: maxmem above memory is not supported`);
  const root = text('root', '');
  const cmdline = settings.has('cmdline')
    ? text('cmdline')
    : [root === '' ? '' : `root=${root}`, text('extra', '')].filter((part) => part !== '').join(' ');
  return {
    name: text('name'),
    uuid: text('uuid', randomUUID()),
    vcpus: number('vcpus', 1, 1, 8),
    memoryKib: memory * 1024,
    maxMemoryKib: maxmem * 1024,
    kernel: place('kernel'),
    ramdisk: place('ramdisk'),
    cmdline,
    onPoweroff: action('on_poweroff', 'destroy'),
    onReboot: action('on_reboot', 'restart'),
    onCrash: action('on_crash', 'destroy'),
    more: {},
  };
}
