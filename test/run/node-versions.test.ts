/**
 * Tests a daemon's guest under each supported Node: each has another WebAssembly compiler, and uses a different share
 * of the private memory that a guest's process may have.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, test } from 'vitest';
import { ensureGuests, type Guests } from '../../scripts/lib/guests.js';
import { ensureNode, NODE_VERSIONS } from '../../scripts/lib/node-versions.js';
import { orSkipped } from '../support/debian.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const guests: Guests | undefined = await orSkipped('other versions of Node', ensureGuests());
/** All other tests boot guests with the Node that runs this file. */
const others = NODE_VERSIONS.filter(
  (version) => `v${version}`.split('.')[0] !== process.version.split('.')[0],
);

let end: () => Promise<void> = async () => {};
afterEach(() => end());

describe.skipIf(!guests)('Debian Linux', () => {
  test.each(others)(
    'boots, computes, reads its disk and powers off under Node %s',
    {
      timeout: 300_000,
    },
    async (version) => {
      const node = await orSkipped(`Node ${version}`, ensureNode(version));
      if (node === undefined) return;
      expect(execFileSync(node, ['--version'], { encoding: 'utf8' })).toBe(`v${version}\n`);
      const root = mkdtempSync(join(tmpdir(), 'stillpoint-node-'));
      chmodSync(root, 0o755);
      const dir = join(root, 'host');
      const children: ChildProcess[] = [];
      const stillpoint = (...args: string[]) => {
        const child = spawn(node, [MAIN, ...args, '--dir', dir], { stdio: ['pipe', 'pipe', 'inherit'] });
        children.push(child);
        return child;
      };
      end = async () => {
        await promisify(execFile)(node, [MAIN, 'destroy', '--dir', dir, 'g']).catch(() => {});
        for (const child of children) child.kill();
        rmSync(root, { recursive: true, force: true });
      };
      await new Promise((done) => stillpoint('host').stdout.once('data', done));
      writeFileSync(join(root, 'disk.img'), '');
      truncateSync(join(root, 'disk.img'), 8 << 20);
      writeFileSync(
        join(root, 'g.cfg'),
        `name = "g"\nkernel = "${guests!.vmlinux}"\nramdisk = "${guests!.initramfs}"\nmemory = 128\n` +
          `extra = "console=hvc0 rdinit=/init quiet"\ndisk = ["${join(root, 'disk.img')},raw,xvda,w"]\n`,
      );
      const shell = stillpoint('create', '-c', join(root, 'g.cfg'));
      let said = '';
      const ended = new Promise((done) => shell.once('close', done));
      await new Promise<void>((done, failed) => {
        shell.stdout.on('data', (bytes) => {
          const before = said;
          said += bytes;
          if (/guest# /.test(said) && !/guest# /.test(before))
            shell.stdin.write('seq 1 20000 | sha256sum; sha256sum </dev/xvda; echo E""ND\n');
          if (/\nEND\r/.test(said)) done();
        });
        void ended.then(() => failed(new Error(`the console ended: ${said.slice(-2000)}`)));
      });
      expect(said).toContain('f6351f5ead9a700e34275480b3856ea738122a7c57bdeb744a631251c069587a  -');
      expect(said).toContain('2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74  -');
      shell.stdin.write('poweroff -f\n');
      await ended;
      const left = await promisify(execFile)(node, [MAIN, 'list', '--json', '--dir', dir]);
      expect(JSON.parse(left.stdout)).toEqual([]);
    },
  );
});
