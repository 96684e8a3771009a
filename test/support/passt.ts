/** passt of Debian's: a way into this machine's network for a guest, without root. Its gateway is our loopback. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fetchDebian, NoPackages } from '../../scripts/lib/debian.mjs';

export const GUEST_ADDRESS = '10.0.2.15';
export const GATEWAY = '10.0.2.2';

export class Passt {
  private output = '';
  private constructor(
    readonly socket: string,
    private readonly directory: string,
    private readonly child: ChildProcess,
  ) {}

  /** Throws NoPackages where it cannot be had. */
  static async start(): Promise<Passt> {
    const root = await fetchDebian(['passt']);
    // Started by root, it becomes nobody, and makes its socket as such.
    const directory = mkdtempSync(join(tmpdir(), 'passt-'));
    chmodSync(directory, 0o777);
    const socket = join(directory, 'socket');
    const addresses = [
      '-4',
      '-a',
      GUEST_ADDRESS,
      '-n',
      '24',
      '-g',
      GATEWAY,
      '--no-dhcp-dns',
      '--no-dhcp-search',
    ];
    const child = spawn(
      join(root, 'usr/bin/passt'),
      ['-f', '-e', '--socket', socket, '-m', '1500', ...addresses],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    const passt = new Passt(socket, directory, child);
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (d) => {
        passt.output = `${passt.output}${d}`.slice(-4000);
      });
    let trouble = '';
    child.once('error', (error) => {
      trouble = error.message;
    });
    for (let i = 0; i < 200 && !existsSync(socket); i++) {
      if (child.exitCode !== null || trouble !== '')
        throw new NoPackages(`passt does not run here: ${trouble}${passt.output}`);
      await new Promise((done) => setTimeout(done, 50));
    }
    return passt;
  }

  stop(): void {
    this.child.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
