/** Runs verbs of `stillpoint xl` in this process, on a host of the tests' own platform, and collects what they print. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from '../../src/client/index.js';
import type { Machine } from '../../src/xl/machine.js';
import { runXl } from '../../src/xl/program.js';
import { FakeHost, openBoth } from '../control/fake-host.js';
import type { XlAnswer } from './transcript.js';

export const MACHINE: Machine = {
  host: 'bed',
  release: '6.1.0-53-amd64',
  version: '#1 SMP PREEMPT_DYNAMIC Debian 6.1.164-1 (2026-03-09)',
  machine: 'x86_64',
  cpus: 2,
  totalBytes: 3071 * 2 ** 20,
  freeBytes: 1000 * 2 ** 20,
  uptimeS: 93_784,
  busyS: [12.5, 3],
  now: new Date(2026, 2, 4, 5, 6, 7),
};

export class XlHost {
  readonly root = mkdtempSync(join(tmpdir(), 'stillpoint-xl-'));
  readonly a: FakeHost;
  readonly b: FakeHost;
  /** The guests whose console was shown. */
  readonly consoles: string[] = [];

  constructor(firstPort: number) {
    this.a = new FakeHost(this.root, 'A', { firstDomid: 2 }, firstPort);
    this.b = new FakeHost(this.root, 'B', { firstDomid: 400 }, firstPort);
  }

  open(): Promise<void> {
    return openBoth(this.a, this.b);
  }
  async close(): Promise<void> {
    for (const host of [this.a, this.b]) await host.close();
    rmSync(this.root, { recursive: true, force: true });
  }

  file(name: string, text: string): string {
    const file = join(this.root, name);
    writeFileSync(file, text);
    return file;
  }

  /** `words`: as in a shell, without quotes; or one by one. */
  async xl(words: string | readonly string[]): Promise<XlAnswer> {
    const args = typeof words === 'string' ? words.split(' ').filter(Boolean) : words;
    const answer = { command: ['xl', ...args].join(' '), out: '', err: '' };
    const status = await runXl(args, {
      out: (text) => {
        answer.out += text;
      },
      err: (text) => {
        answer.err += text;
      },
      connect: () => connect({ directory: this.a.dir }),
      console: async (uuid) => void this.consoles.push(uuid),
      machine: MACHINE,
    });
    return { ...answer, status };
  }
}
