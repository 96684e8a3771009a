// What the appliance's first program does on a real Xen, with a small program in the place of the guest: it loads modules,
// mounts, passes on what dom0 asks for, and ends the domain with any reason.

import type { Appliance } from '../../../scripts/lib/appliance.js';
import { smallKernelElf } from '../../../src/demo/small-kernel.js';
import type { SoakRow } from '../soaked.js';
import { APPLIANCE_KERNEL, helperDomain } from './helper-domain.js';
import type { XenBed } from './xen-bed.js';

/** How long a helper may take in the emulator until its program runs, s. */
const BOOT_S = 180;
const MAC = '00:16:3e:77:00:02';
const DISK_BYTES = 1 << 20;

/** Says on the console what it finds, then ends as the kernel's command line says, or as dom0 asks. */
const PROGRAM = `
import fs from 'node:fs';
const read = (file) => fs.readFileSync(file, 'utf8').trim();
const end = (reason) => { fs.writeFileSync('/run/stillpoint/reason', reason); process.exit(0); };
process.on('SIGUSR2', () => end('0'));
process.on('SIGHUP', () => end('1'));
const found = {
  version: JSON.parse(read('/etc/stillpoint/version')),
  modules: read('/proc/modules').split('\\n').map((line) => line.split(' ')[0]),
  mounts: read('/proc/mounts').split('\\n').map((line) => line.split(' ').slice(1, 3).join(' ')),
  guest: fs.readdirSync('/guest'),
  bytes: Number(read('/sys/class/block/xvda/size')) * 512,
  mac: read('/sys/class/net/eth0/address'),
  leftModules: fs.readdirSync('/modules'),
};
fs.writeSync(1, '\\r\\nPROOF ' + JSON.stringify(found) + '\\r\\n');
const word = /proof=(\\w+)/.exec(read('/proc/cmdline'))?.[1];
if (word === 'crash') throw new Error('a program that fails');
if (word !== 'wait') end(word);
setInterval(() => {}, 1000);
`;

interface Found {
  readonly version: { readonly stillpoint: string; readonly kernel: string; readonly node: string };
  readonly modules: readonly string[];
  readonly mounts: readonly string[];
  readonly guest: readonly string[];
  readonly bytes: number;
  readonly mac: string;
  readonly leftModules: readonly string[];
}

interface Case {
  readonly name: string;
  readonly word: string;
  /** What dom0 asks for, by xl. */
  readonly ask?: string;
  readonly reason: number;
}
const CASES: readonly Case[] = [
  { name: 'poweroff', word: 'wait', ask: 'xl shutdown', reason: 0 },
  { name: 'reboot', word: 'wait', ask: 'xl reboot', reason: 1 },
  { name: 'crash', word: 'crash', reason: 3 },
  { name: 'own', word: '252', reason: 252 },
];

const sameWords = (a: readonly string[], b: readonly string[]): boolean =>
  [...a].sort().join() === [...b].sort().join();

function fits(found: Found, appliance: Appliance): boolean {
  const wanted = [
    'loop',
    'squashfs',
    'xen_privcmd',
    'xen_evtchn',
    'xen_blkfront',
    'xen_netfront',
    'macvtap',
    'tun',
  ];
  return (
    JSON.stringify(found.version) === JSON.stringify(appliance.version) &&
    wanted.every((name) => found.modules.includes(name)) &&
    ['/stillpoint squashfs', '/run tmpfs', '/tmp tmpfs', '/dev devtmpfs'].every((one) =>
      found.mounts.includes(one),
    ) &&
    sameWords(found.guest, ['guest.cfg', 'kernel']) &&
    found.bytes === DISK_BYTES &&
    found.mac === MAC &&
    found.leftModules.length === 0
  );
}

/** The domain's own words on its console, with those of a crash; and the reason that xl has seen. */
async function ended(
  bed: XenBed,
  { name, word, ask }: Case,
  config: string,
): Promise<{ console: string; reason: number }> {
  const words = config
    .replace(/^name = .*$/m, `name = "${name}"`)
    .replace(/^uuid = .*$/m, '')
    .replace('proof=', `proof=${word}`);
  await bed.put(Buffer.from(words), `/s/${name}.cfg`);
  await bed.must(`xl create /s/${name}.cfg`, 120);
  const console = `/var/log/xen/console/guest-${name}.log`;
  await bed.must(`until grep -q PROOF ${console} 2>/dev/null; do sleep 0.2; done`, BOOT_S);
  if (ask !== undefined) await bed.must(`${ask} ${name}`, 60);
  const log = `/var/log/xen/xl-${name}.log`;
  const line = await bed.must(`until grep 'reason code' ${log}; do sleep 0.2; done`, 120);
  return {
    console: await bed.must(`cat ${console}`, 60),
    reason: Number(/reason code (\d+)/.exec(line)?.[1]),
  };
}

/** The files that dom0 needs in /s for it. */
export async function proofFiles(appliance: Appliance): Promise<Record<string, string | Uint8Array>> {
  const { config, initrd } = await helperDomain(appliance, {
    name: 'proof',
    guest: `kernel = "small"
memory = 16
disk = ["/s/proof.img,raw,xvda,w"]
vif = ["mac=${MAC},bridge=xenbr0"]
on_poweroff = "destroy"
on_reboot = "destroy"
`,
    // It is in the helper, and never runs.
    guestFiles: { small: smallKernelElf() },
    kernelWords: 'mitigations=off proof=',
    files: [
      { path: 'proof.mjs', data: PROGRAM },
      { path: 'etc/stillpoint/program', data: '/stillpoint/bin/node\n/proof.mjs\n' },
    ],
  });
  return {
    'proof.cfg': Buffer.from(config),
    'proof.initrd': initrd,
    [APPLIANCE_KERNEL]: appliance.vmlinux,
    'proof.img': Buffer.alloc(DISK_BYTES),
  };
}

export async function proveAppliance(bed: XenBed, appliance: Appliance): Promise<SoakRow[]> {
  const config = (await bed.get('/s/proof.cfg')).toString();
  const rows: SoakRow[] = [];
  const noted = (property: string, holds: boolean) =>
    void rows.push({ property: `a helper domain ${property}`, cases: 1, failures: holds ? 0 : 1 });
  for (const one of CASES) {
    const { console, reason } = await ended(bed, one, config);
    const found: Found = JSON.parse(/PROOF (.*)/.exec(console)?.[1] ?? '{}');
    if (one === CASES[0]) noted('has modules, mounts, disk, vif and guest files', fits(found, appliance));
    noted(`ends with reason ${one.reason}`, reason === one.reason);
    if (one.name === 'crash')
      noted('says on its console why it has crashed', console.includes('a program that fails'));
    await bed.run(`xl destroy ${one.name}`, 60);
  }
  return rows;
}
