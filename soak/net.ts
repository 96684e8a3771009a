// npm run soak -- net [MOVES [VCPUS]]: Debian's guest (two vCPUs, so two queues) moves between two hosts (100 times)
// while it downloads on one TCP connection and pings. What arrived must be right, the connection the same, and at most
// a few pings lost or late.
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureGuests } from '../scripts/lib/guests.js';
import { GATEWAY, GUEST_ADDRESS, Passt, SMALL_WINDOW } from '../scripts/lib/passt.js';
import { openSingleHost } from '../src/host/standalone/single-host.js';
import { openLink } from '../src/net/links/open-link.js';
import { SwitchServer } from '../src/net/links/switch-server.js';
import { networkConfig } from '../test/support/devices.js';
import { LinuxGuest } from '../test/support/linux-guest.js';
import { NetPeer } from '../test/support/net-peer.js';
import { soaked } from './lib/soaked.js';

const moves = Number(process.argv[2] ?? 100);
const vcpus = Number(process.argv[3] ?? 2);
const files = await ensureGuests();
const passt = await Passt.start();
const directory = mkdtempSync(join(tmpdir(), 'stillpoint-soak-'));
const path = join(directory, 's');
const quiet = () => {};
const fabric = new SwitchServer(quiet);
await fabric.listen({ path }, 0o600);
await fabric.uplink((client) => openLink({ kind: 'stream', to: { path: passt.socket } }, client, quiet));
const peer = await NetPeer.connect(path, '02:00:00:00:00:77', '10.0.2.77');

// The server sends as long as the guest moves; then it ends the body.
const hash = createHash('sha256');
let over = false;
let bytes = 0;
let connections = 0;
const server = http.createServer((_, response) => {
  connections++; // a second request would be a second connection of the guest's
  let n = 0;
  const sendNext = () => {
    if (over) return void response.end();
    // It sends slowly: what is buffered between us and the guest has to arrive before the end.
    const chunk = Buffer.alloc(2048);
    for (let j = 0; j < chunk.length; j += 4) chunk.writeUInt32LE(Math.imul(++n, 0x9e3779b1) >>> 0, j);
    hash.update(chunk);
    bytes += chunk.length;
    const next = () => setTimeout(sendNext, 50);
    if (response.write(chunk)) next();
    else response.once('drain', next);
  };
  sendNext();
});
server.listen(0, '127.0.0.1');
await new Promise((done) => server.once('listening', done));

// Two hosts whose links have different features.
const networks = [{ default: `switch:unix:${path}` }, { default: `stream:unix:${path}` }];
const hosts = networks.map((n, i) => openSingleHost('AB'[i], { networks: n, log: quiet }));
const guest = await LinuxGuest.boot('soak', files, hosts[0], {
  vcpus,
  devices: [networkConfig('')],
});
await guest.until(/guest# /, 900);
await guest.command(
  `ifconfig eth0 ${GUEST_ADDRESS} up; route add default gw ${GATEWAY}; arp -s 10.0.2.77 02:00:00:00:00:77; ${SMALL_WINDOW}; stty -echo`,
  300,
);
const url = `http://${GATEWAY}:${(server.address() as AddressInfo).port}/`;
const from = guest.text.length;
guest.type(
  `ping -i 0.2 10.0.2.77 >/tmp/ping & P=$!; wget -q -O - ${url} | sha256sum; kill -INT $P; sleep 1; tail -n 3 /tmp/ping; echo "do""ne"\n`,
);
const begin = performance.now();
const stops: number[] = [];
for (let i = 1; i <= moves; i++) {
  await new Promise((done) => setTimeout(done, 300));
  const before = performance.now();
  await guest.moveTo(hosts[i % 2]);
  stops.push(performance.now() - before);
  if (i % 10 === 0)
    console.log(
      `${i} moves, ${((performance.now() - begin) / 1000).toFixed(0)} s, ${(bytes / 1e6).toFixed(1)} MB sent`,
    );
}
over = true;
const [, out] = await guest.until(/([\s\S]*)^done/m, 600, from);
const sum = hash.digest('hex');
const [, sent, received] = /(\d+) packets transmitted, (\d+) packets received/.exec(out)?.map(Number) ?? [];
const doubled = [...peer.echoes.values()].filter((n) => n > 1).length;
const right = out.includes(sum) && connections === 1;
console.log(
  `${moves} moves: ${(bytes / 1e6).toFixed(1)} MB ${out.includes(sum) ? 'right' : 'WRONG'}, ${connections} connection(s), ` +
    `pings ${sent} sent, ${received} answered, ${doubled} doubled; guest stopped for ${Math.max(...stops).toFixed(0)} ms at most`,
);
await guest.end();
passt.stop();
rmSync(directory, { recursive: true, force: true });
soaked([
  {
    property: 'one TCP connection carries every byte right through all moves',
    cases: moves,
    failures: right ? 0 : 1,
  },
  {
    property: 'a ping is answered',
    cases: sent,
    failures: Math.max(0, sent - received - Math.ceil(moves / 10)),
  },
  { property: 'no packet is doubled', cases: peer.echoes.size, failures: doubled },
]);
