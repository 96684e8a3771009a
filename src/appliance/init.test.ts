import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ENVIRONMENT, initElf, MODULES, PROGRAM, REASON, SYSCTLS } from './init.js';

// The real program as PID 1 of a namespace of its own, in a root of its own with Node as the program that it starts.
// There is no Xen: how it ends is seen by PID 1's status, and for power-off and reboot by the signals that reboot(2)
// becomes in a namespace.
const namespaces = spawnSync('unshare', ['-mpnf', 'true']).status === 0 && process.getuid?.() === 0;
const root = mkdtempSync(join(tmpdir(), 'stillpoint-init-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const POWERED_OFF = 128 + 2;
const REBOOTED = 128 + 1;

const shared: string[] = [];
if (namespaces) {
  for (const folder of ['usr', 'lib', 'lib64'])
    if (lstatSync(`/${folder}`).isSymbolicLink()) symlinkSync(readlinkSync(`/${folder}`), join(root, folder));
    else {
      mkdirSync(join(root, folder));
      shared.push(folder);
    }
  for (const folder of ['etc/stillpoint', 'sbin']) mkdirSync(join(root, folder), { recursive: true });
  for (const folder of ['proc', 'sys', 'dev', 'run', 'tmp']) mkdirSync(join(root, folder));
  writeFileSync(join(root, 'init'), initElf());
  chmodSync(join(root, 'init'), 0o755);
  for (const name of ['poweroff', 'reboot']) symlinkSync('../init', join(root, 'sbin', name));
  copyFileSync(process.execPath, join(root, 'node'));
  writeFileSync(join(root, PROGRAM), '/node\n/program.mjs\nan argument\n');
  writeFileSync(join(root, ENVIRONMENT), 'HOME=/\n\nA=b c\n');
  writeFileSync(join(root, MODULES), '/no-module.ko\n/no-other.ko number=1 word\n');
  writeFileSync(join(root, SYSCTLS), '/proc/sys/net/ipv4/ip_forward 1\n/proc/sys/no/such 1\nno blank\n');
}

/** Boots with this program; gives PID 1's status, and what the program printed. */
function boot(program: string): { status: number; out: string } {
  writeFileSync(
    join(root, 'program.mjs'),
    `import fs from 'node:fs';
    import { spawnSync } from 'node:child_process';
    const end = (reason) => { fs.writeFileSync('${REASON}', reason); process.exit(0); };
    ${program}`,
  );
  const mounts = shared.map((folder) => `mount --rbind /${folder} ${root}/${folder}`);
  const script = [...mounts, `exec chroot ${root} /init`].join(' && ');
  const outer = `unshare -mpnf sh -c '${script}'; echo "status $?"`;
  const { stdout } = spawnSync('sh', ['-c', outer], { encoding: 'utf8', timeout: 120_000 });
  return { status: Number(/status (\d+)\n$/.exec(stdout)?.[1]), out: stdout };
}

test.runIf(namespaces)('mounts, sysctls, lo, arguments and environment are there before the program', () => {
  const { status, out } = boot(`
    const read = (file) => fs.readFileSync(file, 'utf8').trim();
    console.log(JSON.stringify([process.argv.slice(2), process.env, Number(read('/sys/class/net/lo/flags')) & 1,
      read('/proc/sys/net/ipv4/ip_forward'), read('/proc/mounts').split('\\n').map((l) => l.split(' ')[1])]));
    end('0\\n');`);
  const [args, environment, up, forward, mounted] = JSON.parse(out.split('\n')[0]);
  expect(args).toEqual(['an argument']);
  expect(environment).toEqual({ HOME: '/', A: 'b c' });
  expect([up, forward]).toEqual([1, '1']);
  expect(mounted).toEqual(expect.arrayContaining(['/proc', '/sys', '/dev', '/run', '/tmp']));
  expect(status).toBe(POWERED_OFF);
});

test.runIf(namespaces)('the domain ends with the reason that the program left', () => {
  expect(boot(`end('1')`).status).toBe(REBOOTED);
  expect(boot(`end('252')`).status).toBe(252);
});

test.runIf(namespaces)('without a readable reason, or with a status or a signal, it ends as crashed', () => {
  const CRASHED = 3;
  for (const reason of ['', '256', '1x', '-1', '00001'])
    expect(boot(`end('${reason}')`).status).toBe(CRASHED);
  expect(boot('').status).toBe(CRASHED);
  expect(boot(`fs.writeFileSync('${REASON}', '0'); process.exit(5)`).status).toBe(CRASHED);
  expect(boot(`process.kill(process.pid, 'SIGKILL')`).status).toBe(CRASHED);
});

test.runIf(namespaces)('a request of dom0 waits until the program catches it', () => {
  // The program catches the signal only after PID 1 has had it for some rounds.
  const late = (name: string, signal: string, reason: string) => `
    if (spawnSync('/sbin/${name}').status !== 0) process.exit(1);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
    process.on('${signal}', () => end('${reason}'));
    setInterval(() => {}, 1000);`;
  expect(boot(late('poweroff', 'SIGUSR2', '7')).status).toBe(7);
  expect(boot(late('reboot', 'SIGHUP', '8')).status).toBe(8);
});

test.runIf(namespaces)(
  'what the program leaves behind is reaped, and much standard error does not stop it',
  () => {
    expect(
      boot(`
    spawnSync('/bin/sh', ['-c', '(sleep 0.1; kill -0 $$) & exit 0']);
    for (let i = 0; i < 100; i++) fs.writeSync(2, 'x'.repeat(4095) + '\\n');
    const grown = () => fs.readdirSync('/proc').filter((name) => /^\\d+$/.test(name)).filter((pid) => {
      try { return / Z /.test(fs.readFileSync('/proc/' + pid + '/stat', 'utf8')); } catch { return false; }
    });
    setTimeout(() => end(grown().length === 0 ? '9' : '10'), 400);`).status,
    ).toBe(9);
  },
);
