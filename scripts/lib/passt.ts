// passt from Debian: access to this machine's network for a guest, without root. Its gateway is our loopback.
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fetchDebian, NoPackages } from './debian.js';
import { messageOf } from './errors.js';

export const GUEST_ADDRESS = '10.0.2.15';
export const GATEWAY = '10.0.2.2';

/**
 * For the guest's shell: sets a small receive window. passt of Debian 12 answers each duplicate acknowledgement with
 * the whole window again; with a large window and a guest that is slower than passt, a lost packet costs minutes.
 */
export const SMALL_WINDOW = 'echo 4096 16384 16384 >/proc/sys/net/ipv4/tcp_rmem';

export class Passt {
  private constructor(
    readonly socket: string,
    readonly stop: () => void,
  ) {}

  /** Throws NoPackages where it is not available or does not run. */
  static async start(): Promise<Passt> {
    const root = await fetchDebian(['passt']);
    // Started by root it becomes nobody, and makes its socket as that user.
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
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (d) => {
        output = `${output}${d}`.slice(-4000);
      });
    let failed = false;
    child.once('error', (error) => {
      failed = true;
      output += messageOf(error);
    });
    const stop = () => {
      child.kill();
      rmSync(directory, { recursive: true, force: true });
    };
    for (let i = 0; i < 200 && !existsSync(socket); i++) {
      if (child.exitCode !== null || failed) {
        stop();
        throw new NoPackages(`passt does not run here: ${output}`);
      }
      await new Promise((done) => setTimeout(done, 50));
    }
    return new Passt(socket, stop);
  }
}
