// npm run soak -- xl [--write]: what stock xl 4.17 prints on a real Xen (soak/lib/xen-bed), verb by verb, held against
// test/xl/fixtures, which the tests of `stillpoint xl` compare ours with. What differs between two runs by nature (times,
// memory, numbers of ports and grants) is masked. --write captures the files anew.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fetchDebian, NoPackages } from '../scripts/lib/debian.js';
import { messageOf } from '../scripts/lib/errors.js';
import { ensureGuests } from '../scripts/lib/guests.js';
import { inRoot } from '../scripts/lib/root.js';
import { PLAIN, WEB } from '../test/xl/configs.js';
import { masked, parseTranscript, transcriptText, type XlAnswer } from '../test/xl/transcript.js';
import { type SoakRow, soaked } from './lib/soaked.js';
import { EmulatorFailed } from './lib/xen-bed/emulator-failures.js';
import { XenBed } from './lib/xen-bed/xen-bed.js';
import { XlGuest } from './lib/xen-bed/xl-guest.js';

const WRITE = process.argv.includes('--write');
const fileOf = (fixture: string): string => join(inRoot('test/xl/fixtures'), `${fixture}.txt`);
const ATTEMPTS = 3;
const STEP_S = 120;
const BOOT_S = 90;
const MIB = 2 ** 20;
/** A step: the file that its answer goes to, and the command; or something to wait for in between. */
type Step = readonly [fixture: string, command: string] | ((bed: XenBed) => Promise<void>);

const ready =
  (name: string) =>
  async (bed: XenBed): Promise<void> => {
    await new XlGuest(bed, name).until(/GUEST-READY/, BOOT_S);
  };

const STEPS: readonly Step[] = [
  // The words of its help are Xen's own; the names of the verbs are what others rely on.
  ['help', "xl help | awk 'NR > 4 { print $1 }'"],
  ['help', 'xl help list | head -n 1'],
  ['help', 'xl help create | head -n 1'],
  ['help', 'xl help frobnicate'],
  ['help', 'xl shutdown -h | head -n 1'],
  ['help', 'xl frobnicate'],
  ['help', 'xl re web'],
  ['help', 'xl -x list'],
  ['help', 'xl -N pause web'],
  ['help', 'xl pause'],
  ['help', 'xl rename web'],
  ['help', 'xl pause -q web'],
  ['info', 'xl info'],
  ['info', 'xl info nr_cpus'],
  ['info', 'xl info xen'],
  ['info', 'xl info absent_field'],
  ['info', 'xl info -n'],
  ['list', 'xl list'],
  ['create', 'xl create -n /s/web.cfg'],
  ['create', 'xl create /s/absent.cfg'],
  ['create', 'xl create'],
  ['create', 'xl create /s/bad.cfg'],
  ['create', 'xl create /s/nokernel.cfg'],
  ['create', 'xl create /s/web.cfg'],
  ['create', 'xl create -p /s/plain.cfg \'name="other"\''],
  ['create', 'xl create /s/web.cfg'],
  ready('web'),
  ['list', 'xl list'],
  ['list', 'xl li'],
  ['list', 'xl list web'],
  ['list', 'xl list absent'],
  ['list', 'xl list 4711'],
  ['list', 'xl list web other'],
  ['list', 'xl list -x'],
  ['list', 'xl list --bogus'],
  ['list', 'xl list -v'],
  ['list', 'xl list -Z'],
  ['list', 'xl list -c'],
  ['list', 'xl list -n'],
  ['list', 'xl list -l web'],
  ['list', 'xl list -l'],
  ['list', 'xl list --long other'],
  ['list', 'xl vm-list'],
  ['names', 'xl domid web'],
  ['names', 'xl domid absent'],
  ['names', 'xl domid 1'],
  ['names', 'xl domid'],
  ['names', 'xl domname 1'],
  ['names', 'xl domname 0'],
  ['names', 'xl domname 4711'],
  ['names', 'xl domname web'],
  ['names', 'xl rename other second'],
  ['names', 'xl rename second web'],
  ['names', 'xl rename absent third'],
  ['vcpu', 'xl vcpu-list'],
  ['vcpu', 'xl vcpu-list web'],
  ['vcpu', 'xl vcpu-list web second'],
  ['vcpu', 'xl vcpu-list absent'],
  ['vcpu', 'xl vcpu-list 4711'],
  ['vcpu', 'xl vcpu-set web 1'],
  ['vcpu', 'xl vcpu-set web 3'],
  ['vcpu', 'xl vcpu-set -i web 4'],
  ['vcpu', 'xl vcpu-set -i web 9'],
  ['vcpu', 'xl vcpu-set web many'],
  ['memory', 'xl mem-set web 120'],
  ['memory', 'xl mem-set web 122880k'],
  ['memory', 'xl mem-set web 512'],
  ['memory', 'xl mem-set web much'],
  ['memory', 'xl mem-max web 200'],
  ['memory', 'xl mem-max web 64'],
  ['memory', 'xl mem-max web much'],
  ['pause', 'xl pause web'],
  ['pause', 'xl list web'],
  ['pause', 'xl unpause web'],
  ['pause', 'xl pause absent'],
  ['pause', 'xl pause 4711'],
  ['pause', 'xl unpause 4711'],
  ['uptime', 'xl uptime'],
  ['uptime', 'xl uptime web'],
  ['uptime', 'xl uptime -s'],
  ['uptime', 'xl uptime -s web'],
  ['uptime', 'xl uptime absent'],
  ['block', 'xl block-list web'],
  ['block', 'xl block-list absent'],
  ['block', 'xl block-attach web /s/more.img,raw,xvdc,w'],
  ['block', 'xl block-attach web phy:/dev/absent xvdd w'],
  ['block', 'xl block-attach absent /s/more.img,raw,xvdc,w'],
  ['block', 'xl block-attach web /s/more.img,raw,xvdc,w'],
  ['block', 'xl block-attach web /s/more.img,nonsense=1'],
  ['block', 'xl block-list web'],
  ['block', 'xl block-list web second'],
  ['block', 'xl block-detach web xvdc'],
  ['block', 'xl block-detach web xvdz'],
  ['block', 'xl block-detach -f web xvdb'],
  ['network', 'xl network-list web'],
  ['network', 'xl network-list web second'],
  ['network', 'xl network-list absent'],
  ['network', 'xl network-attach web mac=00:16:3e:77:00:22 bridge=xenbr0'],
  ['network', 'xl network-attach web mac=nonsense'],
  ['network', 'xl network-list web'],
  ['network', 'xl network-detach web 00:16:3e:77:00:22'],
  ['network', 'xl network-detach web 7'],
  ['network', 'xl network-detach web 00:16:3e:77:00:99'],
  ['cd', 'xl cd-insert web xvdd /s/more.img'],
  ['cd', 'xl cd-insert web xvdd /s/absent.iso'],
  ['cd', 'xl cd-eject web xvdd'],
  ['signals', 'xl sysrq web h'],
  ['signals', 'xl sysrq web help'],
  ['signals', 'xl trigger web nmi'],
  ['signals', 'xl trigger web nmi x'],
  ['signals', 'xl trigger web reset'],
  ['signals', 'xl trigger web power'],
  ['signals', 'xl trigger web nonsense'],
  ['signals', 'xl button-press web power'],
  ['config-update', 'xl config-update'],
  ['config-update', 'xl config-update web'],
  ['config-update', 'xl config-update web /s/absent.cfg'],
  ['config-update', 'xl config-update web /s/web.cfg memory=64'],
  ['config-update', 'xl config-update absent /s/web.cfg'],
  ['top', '/s/xentop -b -i 2 -d 1'],
  ['top', '/s/xentop -b -i 1 -f -n -x -v'],
  ['console', 'xl console absent'],
  ['console', 'xl console -t nonsense web'],
  ['console', 'xl console'],
  ['dmesg', 'xl dmesg | head -n 5'],
  ['save', 'xl save web /s/web.save'],
  ['save', 'xl list'],
  ['save', 'xl save web /s/web.save'],
  ['save', 'xl restore /s/absent.save'],
  ['save', 'xl restore /s/more.img'],
  ['save', 'xl restore'],
  ['save', 'xl restore -p /s/web.save'],
  ['save', 'xl list'],
  ['save', 'xl unpause web'],
  ['save', 'xl save -c web /s/web2.save'],
  ['save', 'xl save web /s/absent/web.save'],
  ['save', 'xl list web'],
  ['migrate', 'xl migrate -s /sbin/counting-ssh absent localhost'],
  ['migrate', 'xl migrate -s /sbin/counting-ssh web localhost'],
  ['migrate', 'xl migrate shim'],
  ['shutdown', 'xl reboot -w web'],
  ['shutdown', 'xl shutdown'],
  ['shutdown', 'xl shutdown absent'],
  ['shutdown', 'xl shutdown second'],
  ['shutdown', 'xl destroy second'],
  ['shutdown', 'xl destroy absent'],
  ['shutdown', 'xl destroy 4711'],
  ['shutdown', 'xl shutdown 4711'],
  ['shutdown', 'xl destroy 0'],
  ['dump-core', 'xl dump-core absent /s/core'],
];

/** Of the help after wrong arguments, the first line is kept; lines of libxl's log name places in its source. */
const kept = (text: string): string =>
  text
    .replace(/^(Usage: xl .*\n)[\s\S]*/, '$1')
    .replace(/^(xc: |libxl: (warning|info)).*\n/gm, '')
    .replace(/^(libxl: error: )\w+[.]c:\d+:\w+: /gm, '$1');

const wrapped = (command: string): string =>
  `{ ${command}; } >/tmp/out 2>/tmp/err </dev/null; echo $?; wc -c </tmp/out; cat /tmp/out /tmp/err`;

async function ask(bed: XenBed, command: string): Promise<XlAnswer> {
  const { output } = await bed.run(wrapped(command), STEP_S);
  const [status, length] = output.toString('latin1').split('\n', 2);
  const rest = output.subarray(status.length + length.length + 2).toString('utf8');
  const out = Number(length);
  return { command, status: Number(status), out: kept(rest.slice(0, out)), err: kept(rest.slice(out)) };
}

/** xentop is no part of the bed, as only this needs it. */
async function xentop(): Promise<Record<string, string>> {
  const root = await fetchDebian(['xen-utils-4.17', 'libncurses6', 'libtinfo6', 'libxenmisc4.17'], {
    suite: 'bookworm',
  });
  const places = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'].map((at) => join(root, at));
  const library = (name: string): Record<string, string> => {
    const found = places.map((at) => join(at, name)).find(existsSync);
    return found === undefined ? {} : { [name]: found };
  };
  return {
    'xentop.bin': join(root, 'usr/lib/xen-4.17/bin/xentop'),
    ...library('libncurses.so.6'),
    ...library('libtinfo.so.6'),
    ...library('libxenstat.so.4.17'),
  };
}

async function capture(): Promise<Map<string, XlAnswer[]>> {
  const { vmlinux, initramfs } = await ensureGuests();
  const files: Record<string, string | Uint8Array> = {
    vmlinux,
    initramfs,
    'web.cfg': Buffer.from(WEB),
    'plain.cfg': Buffer.from(PLAIN),
    'bad.cfg': Buffer.from('name = "bad"\nmemory = = 5\n'),
    'nokernel.cfg': Buffer.from('name = "nokernel"\nkernel = "/s/absent"\nmemory = 64\n'),
    'disk.img': Buffer.alloc(16 * MIB),
    'disk2.img': Buffer.alloc(MIB),
    'more.img': Buffer.alloc(MIB, 'more'),
    ...(await xentop()),
    xentop: Buffer.from('#!/bin/sh\nchmod +x /s/xentop.bin\nLD_LIBRARY_PATH=/s exec /s/xentop.bin "$@"\n'),
  };
  const answers = new Map<string, XlAnswer[]>();
  await XenBed.with({ files }, async (bed) => {
    await bed.must('chmod +x /s/xentop', 30);
    for (const step of STEPS) {
      if (typeof step === 'function') {
        // The commands after it answer otherwise then, and that is seen.
        await step(bed).catch((error) => console.log(messageOf(error)));
        continue;
      }
      const [fixture, command] = step;
      const answer = await ask(bed, command);
      const name = answer.command.replaceAll('/s/xentop', 'xentop');
      const all = [...(answers.get(fixture) ?? []), { ...answer, command: name }];
      answers.set(fixture, all);
      if (WRITE) writeFileSync(fileOf(fixture), transcriptText(all));
    }
  });
  return answers;
}

async function captured(): Promise<Map<string, XlAnswer[]>> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await capture();
    } catch (error) {
      if (!(error instanceof EmulatorFailed) || attempt === ATTEMPTS) throw error;
      console.log(`attempt ${attempt} of ${ATTEMPTS}: ${error.message}`);
    }
  }
}

const rows: SoakRow[] = [];
try {
  for (const [fixture, answers] of await captured()) {
    const known = parseTranscript(readFileSync(fileOf(fixture), 'utf8'));
    const differ = answers.filter(
      (answer, i) => known[i] === undefined || masked(known[i]) !== masked(answer),
    );
    for (const { command } of differ) console.log(`${fixture}: "${command}" answers differently now`);
    rows.push({
      property: `xl ${fixture} answers as recorded`,
      cases: answers.length,
      failures: differ.length,
    });
  }
} catch (error) {
  if (!(error instanceof NoPackages)) console.log(messageOf(error));
  else console.log(`no real Xen here: ${messageOf(error)}`);
  rows.push({ property: 'xl answers as recorded', cases: 1, failures: 1 });
}
soaked(rows);
