/**
 * Debian's kernel with its own blkfront in this process, moved from host to host: its whole state, with other links. It
 * is from dist/, because a file link's threads are separate modules.
 */

import { readFileSync } from 'node:fs';
import { ensureGuests } from '../../scripts/lib/guests.js';
import { inRoot } from '../../scripts/lib/root.js';
import { wasmEngine } from '../../src/engine/engines.js';
import type { GuestLoop } from '../../src/guest-process/event-loop.js';
import type { Guest } from '../../src/helper/guest.js';
import type { E2fsprogs } from './e2fsprogs.js';

const dist = (path: string): string => inRoot(`dist/${path}`);
const { Guest: Guests } = (await import(
  dist('helper/guest.js')
)) as typeof import('../../src/helper/guest.js');
const { openSingleHost } = (await import(
  dist('host/standalone/single-host.js')
)) as typeof import('../../src/host/standalone/single-host.js');
const { guestLoop } = (await import(
  dist('guest-process/guest-loop.js')
)) as typeof import('../../src/guest-process/guest-loop.js');
const { vbdConfig } = (await import(
  dist('helper/kinds/vbd.js')
)) as typeof import('../../src/helper/kinds/vbd.js');
const { parseDisk } = (await import(
  dist('guest/disk-spec.js')
)) as typeof import('../../src/guest/disk-spec.js');

export const diskConfig = (spec: string) =>
  vbdConfig(
    parseDisk(spec, (message) => {
      throw new Error(message);
    }),
  );

export class LinuxGuest {
  output = '';
  moves = 0;
  readonly log: string[] = [];
  private loop: GuestLoop | undefined;
  ended: string | undefined;

  private constructor(public guest: Guest) {}

  private static around(now: () => LinuxGuest | undefined) {
    return {
      engine: wasmEngine(),
      console: (bytes: Uint8Array) => {
        const it = now();
        if (it !== undefined) it.output += Buffer.from(bytes).toString('latin1');
        return true;
      },
      log: (line: string) => now()?.log.push(line),
      wake: () => now()?.loop?.kick(),
    };
  }

  /** Boots the guest to a shell. */
  static async boot(tools: E2fsprogs, disks: readonly string[], vcpus = 1): Promise<LinuxGuest> {
    const guests = await ensureGuests();
    let made: LinuxGuest | undefined;
    const guest = await Guests.powerOn(
      {
        name: 'disk-test',
        uuid: new Uint8Array(16).fill(9),
        memoryMib: 128,
        vcpus,
        image: {
          kernel: readFileSync(guests.vmlinuz),
          ramdisk: Buffer.concat([readFileSync(guests.initramfs), tools.archive()]),
          cmdline: 'console=hvc0 quiet stillpoint.modules=xen-blkfront,ext4',
        },
        kernelName: 'vmlinuz',
        ramdiskName: 'initramfs',
        devices: disks.map(diskConfig),
      },
      openSingleHost('A'),
      LinuxGuest.around(() => made),
    );
    made = new LinuxGuest(guest);
    await guest.attach();
    made.run(guest);
    await made.says('guest# ');
    return made;
  }

  private run(guest: Guest): void {
    this.guest = guest;
    this.loop = guestLoop(
      guest,
      (end) => {
        this.ended = end.kind;
      },
      (error) => {
        this.ended = String(error);
      },
    );
    guest.start();
    this.loop.start();
  }

  /**
   * Stops the guest between two instructions and continues it on another host, as another object made from its saved
   * state.
   */
  async move(): Promise<void> {
    this.loop?.stop();
    const from = this.guest;
    await from.pause();
    const record = from.saveState();
    const to = await Guests.empty(
      from.describe(),
      openSingleHost(this.moves % 2 === 0 ? 'B' : 'A'),
      LinuxGuest.around(() => this),
    );
    to.ram.set(from.ram);
    to.restoreState(record);
    await from.release();
    await to.attach();
    await from.detach();
    this.moves++;
    this.run(to);
  }

  /** Resolves with what follows the beginning of `pattern`'s match in the output from `from` on. */
  async says(pattern: string | RegExp, from = 0, timeoutS = 240): Promise<RegExpExecArray> {
    const wanted = typeof pattern === 'string' ? new RegExp(pattern.replace(/[[\]#$().]/g, '\\$&')) : pattern;
    const deadline = performance.now() + timeoutS * 1000;
    for (;;) {
      const found = wanted.exec(this.output.slice(from));
      if (found !== null) return found;
      if (this.ended !== undefined || performance.now() > deadline)
        throw new Error(
          `the guest ${this.ended ?? 'did not say'} ${wanted}:\n${this.output.slice(-3000)}\n${this.log.join('\n')}`,
        );
      await new Promise((done) => setTimeout(done, 20));
    }
  }

  type(text: string): void {
    this.guest.console.type(Buffer.from(text));
    this.loop?.kick();
  }

  private commands = 0;
  /** Runs a shell command in the guest. Returns its output. Throws if the command fails. */
  async sh(command: string): Promise<string> {
    const n = ++this.commands;
    const from = this.output.length;
    // The echo of the typed command must not match as the answer.
    this.type(`echo '${'<'}'${n}; ${command}; echo "${'>'}"$?'.'${n}\n`);
    const [, out, status] = await this.says(new RegExp(`\r?\n<${n}\r?\n([^]*?)>(\\d+)\\.${n}\r?\n`), from);
    if (status !== '0') throw new Error(`${command}: status ${status}\n${out}`);
    return out.replaceAll('\r', '');
  }

  async plug(spec: string): Promise<void> {
    await this.guest.plug(diskConfig(spec));
    this.loop?.kick();
  }
  async unplug(devid: number, timeoutMs: number): Promise<boolean> {
    const device = this.guest.devices.find('vbd', devid);
    if (device === undefined) throw new Error(`no disk ${devid}`);
    const gone = this.guest.devices.unplug(device, AbortSignal.timeout(timeoutMs));
    this.loop?.kick();
    return gone;
  }

  async stop(): Promise<void> {
    this.loop?.stop();
    await this.guest.detach();
  }
}
