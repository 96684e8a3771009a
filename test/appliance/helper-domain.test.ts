import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ROOT } from '../../scripts/lib/root.js';
import type { PublishedPlace, PublishedPoint, PublishedState } from '../../src/appliance/published.js';
import { readShown } from '../../src/appliance/shown.js';
import { shownTable } from '../../src/cli/table.js';
import { smallKernelElf } from '../../src/demo/small-kernel.js';
import { FakeXen, PLACE_A, PLACE_B, UUID } from '../support/fake-xen.js';
import { programKernel } from '../support/program-kernel.js';

const DISK = { kind: 'vbd', devid: 51712 } as const;
const SECOND = { kind: 'vbd', devid: 51728 } as const;
const NETWORK = { kind: 'vif', devid: 0, mac: '00:16:3e:01:02:03' } as const;
const WAIT = { timeout: 25_000, interval: 20 };

let directory: string;
let xen: FakeXen;
let child: ChildProcess;
let output: string;
let messages: string;
let status: Promise<number | null>;
const at = (name: string): string => join(directory, name);

/** A block device of the helper's own, which is a file here. */
function blockDevice(name: string, devid: number): void {
  mkdirSync(at(`xen/sys/bus/xen/devices/vbd-${devid}/block/${name}`), { recursive: true });
  mkdirSync(at(`xen/sys/class/block/${name}`), { recursive: true });
  writeFileSync(at(`xen/sys/class/block/${name}/ro`), '0\n');
  writeFileSync(at(`xen/dev/${name}`), Buffer.alloc(1 << 20));
}

async function run(kernel: Uint8Array, more = ''): Promise<void> {
  writeFileSync(at('kernel'), kernel);
  writeFileSync(
    at('guest.cfg'),
    `name = "inner"\nuuid = "${UUID}"\nmemory = 8\nkernel = "${at('kernel')}"\nextra = "interval_ms=10"\n` +
      `disk = ["${at('xen/dev/xvda')},raw,xvda,w"]\nvif = ["mac=${NETWORK.mac},bridge=outer"]\n${more}`,
  );
  const networks = { outer: 'none' };
  const places = { guest: at('guest.cfg'), reason: at('run/reason'), host: xen.places, networks };
  writeFileSync(at('places.json'), JSON.stringify(places));
  child = spawn(process.execPath, [join(ROOT, 'dist/appliance/main.js'), at('places.json')]);
  output = '';
  messages = '';
  child.stdout!.on('data', (bytes: Buffer) => (output += bytes.toString('latin1')));
  child.stderr!.on('data', (bytes: Buffer) => (messages += bytes.toString('latin1')));
  status = new Promise((resolve) => child.once('exit', resolve));
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sp-helper-'));
  mkdirSync(at('xen'));
  xen = await FakeXen.start(at('xen'), [DISK, NETWORK]);
  blockDevice('xvda', DISK.devid);
});
afterEach(async () => {
  child.kill('SIGKILL');
  await status;
  await xen.stop();
  rmSync(directory, { recursive: true, force: true });
});

const published = <T>(name: string): T => JSON.parse(xen.host.read(`data/stillpoint/${name}`) ?? '{}') as T;
const state = (): PublishedState => published('state');
const hosts = (): PublishedPlace[] => published('hosts');
function points(): PublishedPoint[] {
  const home = `/local/domain/${xen.host.place.domid}/data/stillpoint/points`;
  if (!xen.host.dom0.exists(home)) return [];
  return xen.host.dom0.list(home).map((name) => published(`points/${name}`));
}
const point = (name: string): PublishedPoint | undefined => points().find((row) => row.name === name);

describe('a helper domain', () => {
  it('is moved to other hosts while its guest sees no difference, and shows what has changed', async () => {
    await run(smallKernelElf());
    await vi.waitFor(() => expect(output, messages).toMatch(/OBS n=/), WAIT);
    await vi.waitFor(() => expect(state().state).toBe('running'), WAIT);
    expect(state()).toMatchObject({ guest: 'inner', uuid: UUID, domid: 5, moves: 0, clock: 'elapse' });
    for (const place of [PLACE_B, PLACE_A]) {
      const { moves } = state();
      await xen.migrate(place, [DISK, NETWORK]);
      await vi.waitFor(() => expect(state()).toMatchObject({ domid: place.domid, moves: moves + 1 }), WAIT);
      await vi.waitFor(() => expect(hosts().length).toBe(moves + 2), WAIT);
    }
    expect(hosts().map(({ domid }) => domid)).toEqual([5, 9, 5]);
    // One inner value, and one outer value for each place. The rows are written one after the other.
    const outer = (name: string): readonly string[] | undefined => point(name)?.outer;
    const own = (): unknown[] | undefined =>
      outer("vbd 51712: the helper's own")?.map((value) =>
        /ring-ref (\d+), event-channel (\d+)/.exec(value)?.slice(1).join(),
      );
    await vi.waitFor(() => expect(own()).toEqual(['8,15', '771,22', '8,15']), WAIT);
    expect(points().length).toBeGreaterThan(35);
    expect(point('domain id')).toMatchObject({ inner: '1', outer: ['5', '9', '5'] });
    expect(outer('event channel: store')).toEqual(['1', '3', '1']);
    expect(published<Record<string, string>>('facts')['Xen version']).toBe('4.17.5');
    child.stdin!.write('v');
    await vi.waitFor(() => expect(output).toMatch(/OBS VERDICT .*back=0 diff=0/), WAIT);
    expect(messages).toContain('moved: the domain is 9 now');
    expect(state().availableKib).toBe(9000);
    expect(messages.match(/memory is short: Linux in the helper has 9000 KiB left/g)?.length).toBe(1);
    const log = (): string => xen.host.read('data/stillpoint/log') ?? '';
    await vi.waitFor(() => expect(log()).toContain('moved: the domain is 5 now'), WAIT);

    const shown = await readShown('helper', xen.dom0Socket);
    expect(shown.places.map(({ domid }) => domid)).toEqual([5, 9, 5]);
    const lines = shownTable(shown);
    expect(lines[0]).toMatch(/^Point +The guest sees +As domain 5 +As domain 9 +As domain 5$/);
    expect(lines.find((line) => line.startsWith('domain id'))).toMatch(/^domain id +1 +5 +9 +5$/);
    await expect(readShown('another', xen.dom0Socket)).rejects.toThrow('no domain "another"');
    await expect(readShown('0', xen.dom0Socket)).rejects.toThrow('not a helper domain');

    // dom0 gives the helper a disk and takes it again: so does the guest get and lose it.
    blockDevice('xvdb', SECOND.devid);
    xen.host.addDevice(SECOND);
    await vi.waitFor(() => expect(messages).toContain('vbd 51728: the guest has it'), WAIT);
    await vi.waitFor(() => expect(point('vbd 51728: link')?.inner).toBeDefined(), WAIT);
    xen.host.setState(SECOND, 5);
    await vi.waitFor(() => expect(messages).toContain('vbd 51728: dom0 takes it away'), WAIT);

    await vi.waitFor(() => expect(point('vbd 51728: link')).toBeUndefined(), WAIT);

    // A request of dom0 stands in the guest's own store; this kernel takes none.
    child.kill('SIGUSR2');
    await vi.waitFor(() => expect(messages).toContain('dom0 asks for poweroff'), WAIT);
    child.stdin!.write('q');
    expect(await status, messages).toBe(0);
    expect(readFileSync(at('run/reason'), 'latin1')).toBe('0\n');
    expect(state()).toMatchObject({ state: 'poweroff', reason: 0 });
  });

  it.each([
    [1, 'reboot'],
    [3, 'crash'],
    [4, 'crash'],
    [200, 'crash'],
    // Only the helper's kernel may ask for the domain to be saved.
    [2, 'crash', 3],
  ])('ends as its guest does, with reason %i', async (code, kind, reason = code) => {
    const kernel = programKernel(`
      mov dword [rsp-16], ${code}
      lea rsi, [rsp-16]
      mov edi, 2
      mov eax, 29
      syscall
    again:
      jmp again
    `);
    await run(kernel, 'clock = "freeze"\n');
    expect(await status, messages).toBe(0);
    expect(readFileSync(at('run/reason'), 'latin1')).toBe(`${reason}\n`);
    expect(state()).toMatchObject({ state: kind, reason, clock: 'freeze' });
  });

  it('that cannot run its guest says why, and leaves no reason', async () => {
    await run(Buffer.from('no kernel'));
    expect(await status, messages).toBe(1);
    expect(messages).toMatch(/stillpoint: kernel .*kernel: /);
    expect(() => readFileSync(at('run/reason'))).toThrow('ENOENT');
  });
});
