/**
 * What xl 4.17 answered on a real Xen (`npm run soak -- xl` captured it) against what ours answers. Tables: the values of
 * each captured line, printed by ours, are that line again. Words and exit statuses: the same command, given to fake
 * guests of the same names. No captured answer is left out without a reason.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readGuestConfig } from '../../src/guest-process/device-requests.js';
import { BLOCK_HEAD, blockLine, NETWORK_HEAD, networkLine } from '../../src/xl/devices.js';
import { yajl } from '../../src/xl/format.js';
import {
  listText,
  UPTIME_HEAD,
  uptimeLine,
  VCPU_HEAD,
  VM_HEAD,
  vcpuLine,
  vmLine,
} from '../../src/xl/listing.js';
import { configJson, dom0Json } from '../../src/xl/long.js';
import { helpText } from '../../src/xl/program.js';
import { topHead, topLine } from '../../src/xl/top.js';
import { VERBS } from '../../src/xl/verbs.js';
import { testPort } from '../support/ports.js';
import { PLAIN, WEB } from './configs.js';
import { parseTranscript, transcriptText, type XlAnswer } from './transcript.js';
import { MACHINE, XlHost } from './xl-host.js';

const FOLDER = new URL('./fixtures/', import.meta.url);
const fixtures = new Map(
  readdirSync(FOLDER).map((file): [string, XlAnswer[]] => [
    file.replace('.txt', ''),
    parseTranscript(readFileSync(new URL(file, FOLDER), 'utf8')),
  ]),
);

const number = (text: string): number => Number(text.trim());
const columns = (line: string): string[] => line.trim().split(/\s+/);
const lines = (out: string): string[] => out.replace(/\n$/, '').split('\n');

function listRow(line: string) {
  const crashed = line[67] === 'c';
  return {
    name: line.slice(0, 40).trimEnd(),
    domid: number(line.slice(41, 46)),
    memoryMib: number(line.slice(47, 52)),
    vcpus: number(line.slice(53, 58)),
    state: crashed ? `----c${line[68]}` : line.slice(63, 69),
    seconds: number(line.slice(71, 79)),
    uuid: /[0-9a-f-]{36}/.exec(line)?.[0] ?? '',
  };
}
const list = (out: string, of: object = {}): string => listText(lines(out).slice(1).map(listRow), of);

const vcpus = (out: string): string =>
  [
    VCPU_HEAD,
    ...lines(out)
      .slice(1)
      .map((line) => {
        const [name, domid, id, cpu, state, s] = columns(line);
        const which = { 'r--': 'running', '-b-': 'blocked', '--p': 'offline', '---': 'runnable' } as const;
        const row = { id: number(id), state: which[state as '---'], seconds: number(s) };
        return vcpuLine(name, number(domid), row, number(cpu));
      }),
    '',
  ].join('\n');

const disks = (out: string): string =>
  [
    BLOCK_HEAD,
    ...lines(out)
      .slice(1)
      .map((line) => {
        const [devid, , domid, state, evtchn, ringRef, backend] = columns(line);
        const [of, ...numbers] = [domid, devid, state, evtchn, ringRef].map(number);
        const [id, at, port, ring] = numbers;
        return blockLine(of, { devid: id, state: at, evtchn: port, ringRef: ring, backend });
      }),
    '',
  ].join('\n');

const networks = (out: string): string =>
  [
    NETWORK_HEAD,
    ...lines(out)
      .slice(1)
      .map((line) => {
        const [devid, , mac, , state, evtchn, rings, backend] = columns(line);
        const [tx, rx] = rings.split('/').map(number);
        const [id, at, port] = [devid, state, evtchn].map(number);
        return networkLine({
          devid: id,
          mac,
          state: at,
          evtchn: port,
          txRingRef: tx,
          rxRingRef: rx,
          backend,
        });
      }),
    '',
  ].join('\n');

function uptimes(out: string): string {
  const total = (text: string): number =>
    text
      .trim()
      .split(':')
      .map(number)
      .reduce((sum, part) => sum * 60 + part, 0);
  const printed = lines(out).map((line) => {
    const short = /^ (\S+) up ([ \d:]+), (\S+) \((\d+)\)$/.exec(line);
    if (short !== null) {
      const [, clock, text, name, domid] = short;
      return uptimeLine({ name, domid: number(domid), uptimeSeconds: total(text) * 60 }, clock);
    }
    if (line.startsWith('Name')) return UPTIME_HEAD;
    const [name, domid, text] = columns(line);
    return uptimeLine({ name, domid: number(domid), uptimeSeconds: total(text) });
  });
  return `${printed.join('\n')}\n`;
}

/** Of xentop, with zeros for what disks have carried, which ours does not count. */
const uncounted = (out: string): string =>
  out.replace(/(?<=^.{110})[ \d]+$/gm, (tail) =>
    tail.replace(/\d+/g, (digits) => '0'.padStart(digits.length)),
  );
const tops = (out: string): string =>
  lines(out)
    .map((line) => {
      if (line.includes('NAME')) return `${topHead(10)}\n`;
      const [name, state, ...numbers] = columns(line);
      const [cpuS, cpuPercent, memoryKib, memoryPercent, maxKib, maxPercent, count, nets, , , vbds] =
        numbers.map(number);
      const row = { name, state, cpuS, cpuPercent, memoryKib, memoryPercent, maxKib, maxPercent };
      return `${topLine({ ...row, vcpus: count, networks: nets, disks: vbds }, 10, false)}\n`;
    })
    .join('');

const made = (text: string) => readGuestConfig(text, 'x.cfg', '/s');
const web = { domid: 2, config: configJson(made(WEB), true) };
/** A guest whose file names no vCPUs has one, and ours says so. */
const plain = (uuid: string): object => {
  const { b_info, c_info, ...rest } = configJson({ ...made(PLAIN), name: 'other', uuid }, true);
  const { max_vcpus: _, avail_vcpus: __, ...b } = b_info;
  return { domid: 3, config: { c_info, b_info: b, ...rest } };
};
const otherUuid = (out: string): string =>
  /"other",[^"]*"domid": \d+,[^"]*"uuid": "([^"]+)"/.exec(out)?.[1] ?? '';
const dom0 = dom0Json({ ...MACHINE, totalBytes: 786_432 * 1024 });
const figures = (text: string): string => text.replaceAll('786431', '786432');

/** Answers that are tables: printed by ours from the captured values. */
const TABLES: Readonly<Record<string, (out: string) => string>> = {
  'xl list': list,
  'xl li': list,
  'xl list web': list,
  'xl list -v': (out) => list(out, { verbose: true }),
  'xl list -Z': (out) => list(out, { context: true }),
  'xl list -c': (out) => list(out, { cpupool: true }),
  'xl list -n': (out) => list(out, { numa: true }),
  'xl list -l web': () => `${yajl([web])}\n\n`,
  'xl list -l': (out) => `${yajl([dom0, web, plain(otherUuid(out))])}\n\n`,
  'xl list --long other': (out) => `${yajl([plain(otherUuid(out))])}\n\n`,
  'xl create -n /s/web.cfg': () => `${yajl(configJson(made(WEB), false))}\n`,
  'xl vm-list': (out) =>
    [
      VM_HEAD,
      ...lines(out)
        .slice(1)
        .map(columns)
        .map(([uuid, domid, name]) => vmLine({ uuid, domid: number(domid), name })),
      '',
    ].join('\n'),
  'xl vcpu-list': vcpus,
  'xl vcpu-list web': vcpus,
  'xl vcpu-list web second': vcpus,
  'xl vcpu-list 4711': vcpus,
  'xl block-list web': disks,
  'xl block-list web second': disks,
  'xl network-list web': networks,
  'xl network-list web second': networks,
  'xl uptime': uptimes,
  'xl uptime web': uptimes,
  'xl uptime -s': uptimes,
  'xl uptime -s web': uptimes,
  'xentop -b -i 2 -d 1': tops,
};

/** Answers that ours cannot or need not have, and why; what ours does instead is in docs/xl.md. */
const OTHERWISE: readonly (readonly [RegExp, string])[] = [
  [/^xl info$|^xl info (xen|-n)$/, 'its fields are compared below'],
  [/^xl help \| awk/, 'its verbs are compared below'],
  [/^xl list --bogus$/, 'a NUL byte stands for the option'],
  [/^xentop .* -n -x -v$/, 'nobody counts that'],
  [/^xl (un)?pause 4711$/, 'the exit status is 0 for an error'],
  [/^xl (mem-set web 1|mem-max web 2|vcpu-set (-i )?web [14]$)/, 'fake guests are smaller: linux.test.ts'],
  [/^xl (block|network)-attach web .*(xvdc,w|bridge=xenbr0)$/, 'needs files or a bridge of dom0'],
  [
    /^xl (block-detach (-f )?web xvd[bc]|network-detach web 00:16:3e:77:00:22)$/,
    'goes with what was attached',
  ],
  [
    /^xl (block-attach web .*nonsense|network-attach web mac=nonsense)/,
    'what is wrong is in words of our own',
  ],
  [/^xl create .*(bad|nokernel|web|plain)\.cfg/, 'the configurations are for a real kernel: xl.test.ts'],
  [/^xl (button-press|dmesg)/, 'there is no such verb; messages are those of the guests'],
  [/^xl sysrq web help$/, 'its help is in words of our own: xl.test.ts'],
  [/^xl config-update( web \/s\/web.cfg .*)?$/, 'the help and the file are others: xl.test.ts'],
  [
    /^xl (save (-c )?web \/s\/web2?\.save|restore -p|restore \/s\/more|unpause web)/,
    'the files are others: xl.test.ts',
  ],
  [
    /^xl migrate -s .*(web|shim)|^xl migrate .*-s false|^xl list shim$/,
    'stock Xen cannot migrate these guests',
  ],
  [/^xl (shutdown second|reboot -w web|destroy second)$/, 'fake guests answer at once: xl.test.ts'],
];

const host = new XlHost(testPort(17_960));
/** Names of fake guests, which are there for all commands. */
beforeAll(async () => {
  await host.open();
  host.file('more.img', 'more');
  for (const name of ['web', 'other'])
    await host.a.ask('create', { config: `name = "${name}"\n`, file: 'x.cfg', directory: host.root });
});
afterAll(() => host.close());

/** Words without figures, lines of libxl's log, and of a help all but its first line. */
const words = (text: string): string =>
  text
    .replace(/^(libxl|xc): .*\n\n?/gm, '')
    .replace(/^(Usage: xl .*\n)[\s\S]*/, '$1')
    .replace(/\n+$/, '\n')
    .replace(/ *\d+/g, ' 0');

describe('what xl answers on a real Xen', () => {
  for (const [fixture, answers] of fixtures) {
    it(`${fixture}: tables have the same bytes`, () => {
      for (const { command, out } of answers) {
        const table = TABLES[command];
        if (table === undefined) continue;
        const whole = command.startsWith('xentop') ? uncounted : figures;
        expect(whole(table(out)), command).toBe(whole(out));
      }
    });

    it(`${fixture}: words and exit statuses are the same`, async () => {
      for (const { command, status, out, err } of answers) {
        if (Object.hasOwn(TABLES, command) || OTHERWISE.some(([pattern]) => pattern.test(command))) continue;
        const given = command.replace(/^xl ?| \| head -n 1$/g, '').replaceAll('/s/', `${host.root}/`);
        const ours = await host.xl(given);
        const places = (text: string): string => words(text.replaceAll(`${host.root}/`, '/s/'));
        const found = { command, status: ours.status, out: places(ours.out), err: places(ours.err) };
        expect(found).toEqual({ command, status, out: words(out), err: words(err) });
      }
    });
  }

  it('info has the same fields in the same order, and selects them alike', async () => {
    const [info, one, several, none, whole] = fixtures.get('info')!;
    const names = (out: string): string[] => lines(out).map((line) => line.split(':')[0]);
    expect(names((await host.xl('info')).out)).toEqual(names(info.out));
    expect((await host.xl('info -n')).out.replace(/ *\d+/g, ' 0')).toContain(
      /cpu_topology[\s\S]*distances\n.*\n/.exec(whole.out)![0].replace(/ *\d+/g, ' 0'),
    );
    expect((await host.xl('info nr_cpus')).out).toBe(one.out);
    expect(lines((await host.xl('info xen')).out)).toHaveLength(lines(several.out).length);
    expect((await host.xl('info absent_field')).out).toBe(none.out);
  });

  it('has no verb of ours under another name', () => {
    const real = lines(fixtures.get('help')![0].out);
    expect(VERBS.map(({ name }) => name).filter((name) => !real.includes(name))).toEqual([]);
    for (const { name } of VERBS)
      expect(helpText(name)).toMatch(new RegExp(`^Usage: xl \\[-\\w+\\] ${name} ?`));
  });
});

it('each reason for which an answer is not compared is one of an answer', () => {
  const commands = [...fixtures.values()].flat().map(({ command }) => command);
  for (const [pattern] of OTHERWISE)
    expect(
      commands.some((one) => pattern.test(one)),
      String(pattern),
    ).toBe(true);
});

it('a transcript is read as it was written, also where a line does not end', () => {
  for (const answers of fixtures.values()) expect(parseTranscript(transcriptText(answers))).toEqual(answers);
  const odd = [
    { command: 'a', status: 1, out: 'x\n\n$ y', err: '' },
    { command: 'b', status: 0, out: '', err: '\n' },
  ];
  expect(parseTranscript(transcriptText(odd))).toEqual(odd);
});
