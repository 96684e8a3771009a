// The demo's network: our switch with passt behind it, and a server whose download lasts as long as the guest migrates.
// The guest sends the checksum of what it received as the path of a second request.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { GATEWAY, GUEST_ADDRESS, Passt, SMALL_WINDOW } from './passt.js';

/**
 * This is slow enough for a guest on a busy machine: what is buffered between us and the guest has to arrive before the
 * end.
 */
const CHUNK_BYTES = 2048;
const EVERY_MS = 100;
const LAST_WORD_MS = 300_000;

export type DemoNetwork = Awaited<ReturnType<typeof startNetwork>>;

/** Starts the network; `stop` ends all of it. Throws NoPackages where passt is not available. */
export async function startNetwork(cli: string, socket: string) {
  const passt = await Passt.start();
  const fabric = spawn(
    process.execPath,
    // Ports that come and go are not reported: viewers of the demo have no use for that.
    [
      cli,
      'switch',
      '--quiet',
      '--listen',
      `unix:${socket}`,
      '--mode',
      '666',
      '--uplink',
      `passt:${passt.socket}`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await new Promise<void>((done, failed) => {
    fabric.stdout.once('data', () => done());
    fabric.once('exit', (code) => failed(new Error(`the switch ended with status ${code}`)));
  });
  const hash = createHash('sha256');
  let over = false;
  let sum = '';
  let got: () => void = () => {};
  const figures = { bytes: 0, downloads: 0, heard: false, right: false };
  const server = createServer((request, response) => {
    if (request.url?.startsWith('/sum/')) {
      sum = request.url.slice(5);
      response.end();
      got();
      return;
    }
    figures.downloads++;
    let n = 0;
    const sendNext = () => {
      if (over) return void response.end();
      const chunk = Buffer.alloc(CHUNK_BYTES);
      for (let i = 0; i < chunk.length; i += 4) chunk.writeUInt32LE(Math.imul(++n, 0x9e3779b1) >>> 0, i);
      hash.update(chunk);
      figures.bytes += chunk.length;
      const next = () => setTimeout(sendNext, EVERY_MS);
      if (response.write(chunk)) next();
      else response.once('drain', next);
    };
    sendNext();
  });
  server.listen(0, '127.0.0.1');
  await new Promise<void>((done) => server.once('listening', () => done()));
  const url = `http://${GATEWAY}:${(server.address() as AddressInfo).port}`;
  return {
    networks: { default: `switch:unix:${socket}` },
    figures,
    /** The command for the guest's shell. */
    command:
      `ifconfig eth0 ${GUEST_ADDRESS} up; route add default gw ${GATEWAY}; ${SMALL_WINDOW}\n` +
      `(S=$(wget -q -O - ${url}/file | sha256sum); wget -q -O /dev/null ${url}/sum/\${S%% *}) &\n`,
    /** Ends the download and waits for the guest's report on it. */
    async finish() {
      const heard = new Promise<void>((done) => {
        got = done;
      });
      over = true;
      await Promise.race([heard, new Promise((done) => setTimeout(done, LAST_WORD_MS))]);
      figures.heard = sum !== '';
      figures.right = figures.downloads === 1 && sum === hash.digest('hex');
      return figures;
    },
    stop() {
      fabric.removeAllListeners('exit');
      fabric.kill();
      passt.stop();
    },
  };
}
