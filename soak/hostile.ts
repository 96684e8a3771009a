// npm run soak -- hostile [ROUNDS]: a guest's process that was taken over tries every way out that docs/security.md
// names, under a daemon that runs as root and under one that does not. Then it does what takes longer than tests may:
// it makes as many processes, names and bytes as it can, and floods its log. Nothing may get out, and the daemon must
// serve all others.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { GOES_ON, probed, REFUSED } from '../test/control/probed.js';
import { until } from '../test/migration/hosts.js';
import { type SoakCount, soaked } from './lib/soaked.js';

const rounds = Number(process.argv[2] ?? 3);

const NOBODY = 65_534;
/** Users for the daemon: our own, and, if that is root, an unprivileged one. */
const users = process.getuid?.() === 0 ? [undefined, NOBODY] : [undefined];
const expected: Readonly<Record<string, string | number | boolean>> = { ...REFUSED, ...GOES_ON };
const rows: SoakCount[] = [];
const row = (property: string) => {
  const one: SoakCount = { property, cases: 0, failures: 0 };
  rows.push(one);
  return (name: string, held: boolean): void => {
    one.cases++;
    if (held) return;
    one.failures++;
    console.log(`${property}: ${name}: does not hold`);
  };
};

const ways = row('a taken-over process gets out by no way, as root and not');
for (let round = 0; round < rounds; round++) {
  for (const user of users) {
    const host = await probed(user);
    for (const [way, answer] of Object.entries(expected))
      ways(`${way} (user ${user}): ${host.found[way]}`, host.found[way] === answer);
    await host.clean();
  }
}

/** The processes in the session of this process. */
function session(pid: number): number {
  return readdirSync('/proc').filter((name) => {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return Number(fields[3]) === pid && fields[0] !== 'Z';
    } catch {
      return false;
    }
  }).length;
}
const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

// A limit on processes is effective only where a guest has its own user; otherwise this would fill the machine.
if (process.getuid?.() === 0) {
  const forks = row('a taken-over process makes no more processes than it may, and none outlives it');
  const host = await probed(undefined, 'forks');
  const pid = await host.pid();
  let most = 0;
  for (let i = 0; i < 20; i++) {
    await wait(500);
    most = Math.max(most, session(pid));
  }
  forks(`${most} processes`, most > 2 && most <= 200);
  await host.clean();
  await wait(500);
  forks(`${session(pid)} are left`, session(pid) === 0);
}
for (const evil of ['names', 'bytes']) {
  const full = row(`a taken-over process that makes ${evil} without end is ended, and the daemon says why`);
  for (const user of users) {
    const host = await probed(user, evil);
    await until('its end', async () => !(await host.lives()) || undefined, 120).catch(() => {});
    full(`user ${user}: alive`, !(await host.lives()));
    full(`user ${user}: nothing said`, /fills its directory/.test(host.log()));
    await host.clean();
  }
}
{
  const log = row("a taken-over process's log stays short");
  for (const user of users) {
    const host = await probed(user, 'log');
    let after = 0;
    for (let i = 0; i < 24; i++) {
      await wait(1000);
      after = statSync(join(host.dir, 'logs', '1.log')).size;
    }
    log(`user ${user}: ${after} bytes`, after < 8 << 20);
    log(`user ${user}: it lives`, await host.lives());
    await host.clean();
  }
}
soaked(rows);
