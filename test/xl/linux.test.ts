/** `xl`, by a link of that name, on Debian's kernel: what the kernel does when it is asked, and how it is shown. */
import { spawnSync } from 'node:child_process';
import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inRoot } from '../../scripts/lib/root.js';
import { connect } from '../../src/client/index.js';
import { thisMachine } from '../../src/xl/machine.js';
import { runXl } from '../../src/xl/program.js';
import { guestFiles } from '../e2e/moving-guests.js';
import { TwoHosts, until } from '../migration/hosts.js';
import { testPort } from '../support/ports.js';

const TIMEOUT_MS = 300_000;
const MIB = 2 ** 20;

describe.skipIf(guestFiles === undefined)('xl and a real Linux', () => {
  let hosts: TwoHosts;
  let link: string;
  beforeAll(async () => {
    hosts = await TwoHosts.open(testPort(17_940), { runner: undefined });
    link = join(hosts.root, 'xl');
    symlinkSync(inRoot('dist/cli/main.js'), link);
  });
  afterAll(() => hosts?.close());

  async function xl(...args: string[]): Promise<string> {
    let [out, err] = ['', ''];
    const status = await runXl(args, {
      out: (text) => {
        out += text;
      },
      err: (text) => {
        err += text;
      },
      connect: () => connect({ directory: hosts.a.dir }),
      console: async () => undefined,
      machine: thisMachine(),
    });
    expect(status, err).toBe(0);
    return out;
  }
  /** The columns ID, Mem, VCPUs and State of `xl list`. */
  const columns = async (): Promise<string[]> =>
    (await xl('list', 'web')).split('\n')[1].split(/\s+/).slice(1, 5);
  const becomes = async (what: string, column: number, value: string) => {
    await until(what, async () => {
      const [{ memoryMib, vcpus }] = await hosts.a.list();
      return String(column === 1 ? memoryMib : vcpus) === value || undefined;
    });
    expect((await columns())[column]).toBe(value);
  };

  it('processors, memory, keys and NMIs reach its kernel; devices are shown with the numbers that it chose', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const { vmlinux, initramfs } = guestFiles!;
    const disk = join(hosts.root, 'disk.img');
    writeFileSync(disk, Buffer.alloc(MIB));
    const file = join(hosts.root, 'web.cfg');
    const lines = [
      'name = "web"',
      `kernel = "${vmlinux}"`,
      `ramdisk = "${initramfs}"`,
      'extra = "console=hvc0 rdinit=/init sysrq_always_enabled"',
      'memory = 160',
      'maxmem = 192',
      'vcpus = 2',
      `disk = ["${disk},raw,xvda,w"]`,
      'on_crash = "preserve"',
    ];
    writeFileSync(file, `${lines.join('\n')}\n`);
    const { status, stderr } = spawnSync(process.execPath, [link, 'cr', file], {
      encoding: 'utf8',
      env: { ...process.env, STILLPOINT_DIR: hosts.a.dir },
    });
    expect(status, stderr).toBe(0);
    await hosts.a.consoleOf('web', '', /guest# /);
    expect((await columns()).slice(1, 3)).toEqual(['160', '2']);
    await xl('vcpu-set', 'web', '1');
    await becomes('a vCPU is taken away', 2, '1');
    expect(await xl('vcpu-list', 'web')).toMatch(/^web +\d+ +1 +- +--p +\d+\.\d {2}all \/ all$/m);
    await xl('vcpu-set', 'web', '2');
    // Linux leaves it to a program to use a processor that it was given, and takes a moment until it has it.
    const use = 'until echo 1 >/sys/devices/system/cpu/cpu1/online; do sleep 0.1; done\n';
    await hosts.a.consoleOf('web', use, /guest# .*guest# /s);
    await becomes('a vCPU is given back', 2, '2');
    await xl('mem-set', 'web', '150');
    await becomes('memory is taken away', 1, '150');
    await xl('sysrq', 'web', 'h');
    await hosts.a.consoleOf('web', '', /sysrq: HELP/);
    await xl('trigger', 'web', 'nmi');
    await hosts.a.consoleOf('web', '', /NMI received for unknown reason/);
    expect(await xl('block-list', 'web')).toMatch(
      /\n51712 0 {3}\d+ +4 {5}\d+ +\d+ +\/local\/domain\/0\/backend\/vbd\/\d+\/51712 *\n$/,
    );
    await xl('sysrq', 'web', 'c');
    await until('it has crashed', async () => (await hosts.a.list())[0].state[4] === 'c' || undefined);
    expect((await columns())[3]).toBe('---sc-');
    expect(await xl('list', '-v', 'web')).toMatch(/ {8}3 {16}-\n$/);
    await xl('destroy', 'web');
  });
});
