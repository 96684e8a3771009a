/** What the helper's kernel says of its Xen and its processor: /sys/hypervisor, and what it knows of the TSC. */
import { readFileSync } from 'node:fs';
import type { XenPlaces } from './places.js';

export interface XenFacts {
  /** As `xl info` prints it: "4.17.5". */
  readonly xenVersion: string;
  readonly cpuModel: string;
  readonly tscKhz: number;
  /** All of it for people, by name. */
  readonly all: Readonly<Record<string, string>>;
}

const MAX_VALUE = 256;

export function readFacts({ sys, proc }: XenPlaces): XenFacts {
  const read = (path: string): string => {
    try {
      return readFileSync(path, 'latin1').trim().slice(0, MAX_VALUE);
    } catch {
      return '';
    }
  };
  const hypervisor = (name: string): string => read(`${sys}/hypervisor/${name}`);
  // Not cut: /proc/cpuinfo is read for three of its lines.
  let cpuinfo = '';
  try {
    cpuinfo = readFileSync(`${proc}/cpuinfo`, 'latin1');
  } catch {
    // Then nothing is known of the processor.
  }
  const cpu = (name: string): string => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(cpuinfo)?.[1] ?? '';
  const flags = new Set(cpu('flags').split(' '));
  const { major, minor, extra } = {
    major: hypervisor('version/major'),
    minor: hypervisor('version/minor'),
    extra: hypervisor('version/extra'),
  };
  const xenVersion = major === '' ? 'unknown' : `${major}.${minor}${extra}`;
  const cpuModel = cpu('model name') || 'unknown';
  const tscKhz = Math.round(Number(cpu('cpu MHz')) * 1000) || 0;
  const tscFlags = ['constant_tsc', 'nonstop_tsc', 'tsc_known_freq', 'tsc_reliable', 'rdtscp'];
  return {
    xenVersion,
    cpuModel,
    tscKhz,
    all: {
      'Xen version': xenVersion,
      capabilities: hypervisor('properties/capabilities'),
      features: hypervisor('properties/features'),
      'compile date': hypervisor('compilation/compile_date'),
      uuid: hypervisor('uuid'),
      'guest type': hypervisor('guest_type'),
      'clock source': read(`${sys}/devices/system/clocksource/clocksource0/current_clocksource`),
      TSC: [`${tscKhz} kHz`, ...tscFlags.filter((flag) => flags.has(flag))].join(', '),
      processor: cpuModel,
    },
  };
}
