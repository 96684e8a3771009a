/** Debian's kernel boots to its shell under each Node that is supported: each has another WebAssembly compiler. */
import { execFileSync } from 'node:child_process';
import { afterEach, describe, expect, test } from 'vitest';
import { ensureGuests, type Guests } from '../../scripts/fetch-guests.mjs';
import { ensureNode, NODE_VERSIONS } from '../../scripts/lib/node-versions.mjs';
import { orSkipped } from '../support/debian.js';
import { Session } from '../support/session.js';

const guests: Guests | undefined = await orSkipped('other versions of Node', ensureGuests());
/** The one that runs this boots guests in all the other tests. */
const others = NODE_VERSIONS.filter(
  (version) => `v${version}`.split('.')[0] !== process.version.split('.')[0],
);

let session: Session | undefined;
afterEach(() => session?.kill());

describe.skipIf(!guests)('Debian Linux', () => {
  test.each(others)('boots, computes and powers off under Node %s', { timeout: 300_000 }, async (version) => {
    const node = await orSkipped(`Node ${version}`, ensureNode(version));
    if (node === undefined) return;
    expect(execFileSync(node, ['--version'], { encoding: 'utf8' })).toBe(`v${version}\n`);
    const files = ['--kernel', guests!.vmlinux, '--ramdisk', guests!.initramfs, '--memory', '128'];
    session = new Session([...files, '--extra', 'console=hvc0 rdinit=/init quiet'], node);
    await session.expect(/guest# /);
    const sum = await session.command('seq 1 20000 | sha256sum');
    expect(sum).toBe('f6351f5ead9a700e34275480b3856ea738122a7c57bdeb744a631251c069587a  -\n');
    session.type('poweroff -f\n');
    expect(await session.ended).toBe(0);
    expect(session.errors).not.toMatch(/crash|fatal|warning/i);
  });
});
