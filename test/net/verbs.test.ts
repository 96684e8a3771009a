import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { smallKernelElf } from '../../src/demo/small-kernel.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'stillpoint-netverbs-'));
const children: ChildProcess[] = [];
const MINUTE = 60_000;

/** Starts a program that keeps running. Resolves with what it printed, once that matches. */
function start(pattern: RegExp, ...args: string[]): Promise<RegExpExecArray> {
  const child = spawn(process.execPath, [MAIN, ...args]);
  children.push(child);
  let out = '';
  return new Promise((resolve, reject) => {
    const look = (d: Buffer): void => {
      out += d;
      const found = pattern.exec(out);
      if (found) resolve(found);
    };
    child.stdout.on('data', look);
    child.stderr.on('data', look);
    child.on('exit', (status) => reject(new Error(`status ${status}: ${out}`)));
  });
}
function verb(host: string, name: string, ...args: string[]) {
  const r = spawnSync(process.execPath, [MAIN, name, '--dir', join(dir, host), ...args], {
    encoding: 'utf8',
  });
  return { status: r.status, out: r.stdout, err: r.stderr };
}
const json = (host: string, name: string, ...args: string[]) =>
  JSON.parse(verb(host, name, '--json', ...args).out);
const ports: Record<string, string> = {};

async function host(name: string, networks: Record<string, string>): Promise<void> {
  mkdirSync(join(dir, name));
  writeFileSync(
    join(dir, `${name}.json`),
    JSON.stringify({ networks, firstDomid: 7077, kernels: { [dir]: dir } }),
  );
  const where = ['--dir', join(dir, name), '--config', join(dir, `${name}.json`)];
  const listen = ['--listen', '127.0.0.1:0', '--plain-loopback', '--i-know'];
  ports[name] = (await start(/port (\d+)/, 'host', '--name', name, ...listen, ...where))[1];
}

describe("the networks of a daemon's guest", () => {
  const socket = `unix:${join(dir, 'net.sock')}`;
  beforeAll(async () => {
    chmodSync(dir, 0o755);
    await start(/listening on unix/, 'switch', '--listen', socket, '--mode', '666');
    await host('A', { default: `switch:${socket}`, cellar: 'none' });
    await host('B', { default: `stream:${socket}` });
    writeFileSync(join(dir, 'kernel'), smallKernelElf());
    writeFileSync(
      join(dir, 'g.cfg'),
      `name = "g"\nkernel = "${join(dir, 'kernel')}"\nmemory = 16\nvif = [ 'mac=00:16:3e:00:00:07,rate=10Mb/s' ]\n`,
    );
    expect(verb('A', 'create', join(dir, 'g.cfg')).err).toBe('');
  }, 3 * MINUTE);
  afterAll(() => {
    for (const name of ['A', 'B']) verb(name, 'destroy', 'g');
    for (const child of children) {
      child.removeAllListeners('exit');
      child.kill();
    }
    rmSync(dir, { recursive: true, force: true });
  });

  test(
    'are listed, plugged in and unplugged as with xl',
    () => {
      const mine = {
        devid: 0,
        mac: '00:16:3e:00:00:07',
        bridge: '',
        state: 1,
        evtchn: -1,
        txRingRef: -1,
        rxRingRef: -1,
      };
      expect(json('A', 'network-list', 'g')).toEqual([
        { ...mine, backend: expect.stringMatching(/backend\/vif\/\d+\/0$/), link: `switch:${socket}, up` },
      ]);
      const second = ['bridge=cellar', 'mac=00:16:3e:00:00:08', 'script=vif-nat'];
      expect(json('A', 'network-attach', 'g', ...second)).toEqual({
        devid: 1,
        mac: '00:16:3e:00:00:08',
        warnings: [expect.stringMatching(/^vif '.*': script=vif-nat does not run here: .* passt:PATH/)],
      });
      expect(verb('A', 'network-list', 'g').out).toMatch(
        /^Idx BE Mac Addr\. .*\n0 +0 +00:16:3e:00:00:07 .*\n1 +0 +00:16:3e:00:00:08 +1 +1 +-1 +-1\/-1 .*none/,
      );
      for (const [args, message] of [
        [['mac=00:16:3e:00:00:08'], /has a vif with the address 00:16:3e:00:00:08/],
        [['devid=1'], /has a vif 1/],
        [['type=ioemu'], /type "ioemu" is for HVM guests/],
        [['bridge=nowhere'], /no network or bridge "nowhere"/],
      ] as const) {
        const r = verb('A', 'network-attach', 'g', ...args);
        expect([r.status === 0, r.err]).toEqual([false, expect.stringMatching(message)]);
      }
      expect(json('A', 'network-detach', 'g', '00:16:3E:00:00:08')).toEqual({ devid: 1 });
      expect(verb('A', 'network-detach', 'g', '1').err).toMatch(/has no vif 1/);
      expect(json('A', 'network-list', 'g').length).toBe(1);
    },
    3 * MINUTE,
  );

  test.skipIf(spawnSync('xenstore-ls', ['--help']).error !== undefined)(
    "are in the host's xenstore as libxl writes them: xenstore-ls shows them, and nothing of a removed one",
    () => {
      const ls = (): string =>
        execFileSync('xenstore-ls', ['-fp'], {
          encoding: 'utf8',
          env: { ...process.env, XENSTORED_PATH: join(dir, 'A', 'xenstore.sock') },
        });
      expect(verb('A', 'network-attach', 'g', 'bridge=cellar', 'mac=00:16:3e:00:00:09').status).toBe(0);
      const tree = ls();
      const domid = /\/local\/domain\/(\d+)\/name = "g"/.exec(tree)?.[1];
      const lines = (path: string): string[] =>
        tree
          .split('\n')
          .filter((line) => line.startsWith(`${path}/`))
          .map((line) => line.slice(path.length + 1).replaceAll(`${domid}`, 'D'));
      const back = [
        'script = "/etc/xen/scripts/vif-bridge"',
        'mac = "00:16:3e:00:00:07"',
        'bridge = "xenbr0"',
        'rate = "62500,50000"',
        'handle = "0"',
        'type = "vif"',
        'mtu = "1500"',
      ];
      const of = (perms: string, ...nodes: string[]) => nodes.map((node) => `${node}   (${perms})`);
      const front = 'frontend = "/local/domain/D/device/vif/0"';
      const common = ['frontend-id = "D"', 'online = "1"', 'state = "1"'];
      expect(lines(`/local/domain/0/backend/vif/${domid}/0`)).toEqual(of('n0,rD', front, ...common, ...back));
      const where = 'backend = "/local/domain/0/backend/vif/D/0"';
      expect(lines(`/local/domain/${domid}/device/vif/0`)).toEqual(
        of('nD,r0', where, 'backend-id = "0"', 'state = "1"', 'handle = "0"', back[1], back[6]),
      );
      expect(lines(`/libxl/${domid}/device/vif/0`)).toEqual(of('n0', front, where, ...common, ...back));
      expect(lines(`/libxl/${domid}/device/vif/1`)).toContain('bridge = "cellar"   (n0)');
      expect(verb('A', 'network-detach', 'g', '1').status).toBe(0);
      expect(ls()).not.toContain('/vif/1');
    },
    3 * MINUTE,
  );

  test(
    'are connected to those of the next host; a move to a host without them is refused, and the guest goes on',
    () => {
      expect(verb('A', 'network-attach', 'g', 'bridge=cellar').status).toBe(0);
      const refused = verb('A', 'migrate', 'g', `127.0.0.1:${ports.B}`);
      expect(refused.status).toBe(7);
      expect(refused.err).toMatch(/no network or bridge "cellar"/);
      expect(json('A', 'network-list', 'g').length).toBe(2);
      expect(verb('A', 'network-detach', 'g', '1').status).toBe(0);
      expect(verb('A', 'migrate', 'g', `127.0.0.1:${ports.B}`).status).toBe(0);
      expect(json('B', 'network-list', 'g')).toMatchObject([{ devid: 0, link: `stream:${socket}, up` }]);
      expect(json('B', 'points', 'g').map((p: { name: string }) => p.name)).toContain('vif 0: mac');
    },
    3 * MINUTE,
  );
});
