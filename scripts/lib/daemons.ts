// Daemons on this machine and their guests, for benches and soaks: starts daemons, sends requests, and uses guests'
// consoles.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { writeCpio } from '../../src/appliance/cpio.js';
import { diskWriterElf } from '../../src/demo/disk-writer.js';
import { memoryWriterElf } from '../../src/demo/memory-writer.js';
import { observerElf } from '../../src/demo/observer.js';
import { CONTROL, type Control } from '../../src/protocol/control.js';
import { type AnswerOf, type AskedOf, ask as askOver } from '../../src/protocol/table.js';
import { askDaemon, rawDaemon } from './raw-daemon.js';
import { inRoot } from './root.js';

export const cli = inRoot('dist/cli/main.js');

const cache = inRoot('.cache');

export interface DaemonHost {
  readonly name: string;
  readonly dir: string;
  readonly child: ChildProcess;
  /** The TCP port on loopback at which it receives migrating guests. */
  readonly port: number;
}

/** Starts a daemon that listens on loopback; its files and its configuration are in `dir`. */
export async function startDaemon(dir: string, name: string, config: object): Promise<DaemonHost> {
  const home = join(dir, name);
  mkdirSync(home);
  // Migrating guests have their files here.
  const folders = { [dir]: dir, [cache]: cache };
  writeFileSync(`${home}.json`, JSON.stringify({ images: folders, kernels: folders, ...config }));
  const args = ['host', '--name', name, '--listen', '127.0.0.1:0', '--plain-loopback', '--i-know', '--json'];
  const child = spawn(process.execPath, [cli, ...args, '--dir', home, '--config', `${home}.json`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const line = await new Promise<string>((done) => child.stdout.once('data', (d) => done(String(d))));
  child.stdout.resume();
  return { name, dir: home, child, port: (JSON.parse(line) as { port: number }).port };
}

/** Sends one request of the control protocol to the daemon of `host`; docs/protocol.md lists the requests. */
export const ask = <M extends keyof Control & string>(
  host: Pick<DaemonHost, 'dir'>,
  method: M,
  params: AskedOf<Control, M>,
): Promise<AnswerOf<Control, M>> => askDaemon(host.dir, method, params);

/** Types at a guest's console and waits for `pattern` in its latest and its further output. Returns that output. */
export async function typed(
  host: Pick<DaemonHost, 'dir'>,
  guest: string,
  keys: string,
  pattern: Pick<RegExp, 'test'>,
  seconds: number,
): Promise<string> {
  let text = '';
  const rpc = await rawDaemon(host.dir, (method, params) => {
    if (method === 'console') text += Buffer.from(String(params['data']), 'base64').toString('latin1');
  });
  const { latest } = await askOver(rpc, CONTROL, 'console', { guest });
  text = Buffer.from(latest, 'base64').toString('latin1') + text;
  if (keys) await askOver(rpc, CONTROL, 'type', { guest, data: Buffer.from(keys).toString('base64') });
  for (const end = Date.now() + seconds * 1000; !pattern.test(text); ) {
    if (/Out of memory/.test(text)) throw new Error(`the guest has too little memory: ${text.slice(-300)}`);
    if (Date.now() > end) throw new Error(`${pattern} did not come: ${text.slice(-500)}`);
    await new Promise((done) => setTimeout(done, 20));
  }
  rpc.close();
  return text;
}

/**
 * Returns the ramdisk in `initramfs` with three more programs: the observer, bin/writer, which writes memory without
 * end, and bin/diskwriter, which writes a disk.
 */
export const ramdiskWithPrograms = (initramfs: string): Uint8Array =>
  gzipSync(
    Buffer.concat([
      gunzipSync(readFileSync(initramfs)),
      writeCpio([
        { path: 'bin/observer', mode: 0o755, data: observerElf() },
        { path: 'bin/writer', mode: 0o755, data: memoryWriterElf() },
        { path: 'bin/diskwriter', mode: 0o755, data: diskWriterElf() },
      ]),
    ]),
    { level: 1 },
  );
