/**
 * The guest process: argv is the URL of the runner module; the working directory is the guest's own.
 * It serves one daemon at a time on the unix socket that it was given, and lives on when the daemon goes.
 */
import net from 'node:net';
import { logLine } from '../os/log-output.js';
import { GUEST, TO_GUEST } from '../protocol/guest-process.js';
import { Rpc } from '../protocol/rpc.js';
import { dispatcher, listener } from '../protocol/table.js';
import { loadRunner } from './entry-points.js';
import { recordExit } from './exit-record.js';
import { GuestService } from './guest-service.js';

/** A socket that listens where the daemon can find it, and nobody else. */
const LISTENING_FD = 5;
/** A guest process that no daemon ever speaks to is a leftover. */
const LONELY_MS = 60_000;

// Programs that it starts keep their things here: it can write nowhere else.
process.env.TMPDIR = '.';

const crashed = (error: unknown): void => {
  const details = error instanceof Error ? (error.stack ?? error.message) : String(error);
  logLine(`guest process failed: ${details}`);
  recordExit({ reason: 'crash', details: `guest process failed: ${details}` });
  process.exit(1);
};
process.on('uncaughtException', crashed);
process.on('unhandledRejection', crashed);
for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});

const module = await loadRunner(process.argv[2]);
const service = new GuestService(module, (status) => process.exit(status));
const lonely = setTimeout(() => {
  const details = `no daemon spoke to this process within ${LONELY_MS / 1000} s`;
  logLine(details);
  recordExit({ reason: 'discarded', details });
  process.exit(1);
}, LONELY_MS);

const server = net.createServer((socket) => {
  clearTimeout(lonely);
  const rpc: Rpc = new Rpc(socket, {
    request: dispatcher(GUEST, service.handlers),
    notice: listener(TO_GUEST, { storeChanged: (node) => service.storeChanged(node) }),
    closed: () => service.detachDaemon(rpc),
  });
  service.attachDaemon(rpc);
});
// A connection that cannot be taken, for want of descriptors for instance, ends no guest.
server.on('error', (error) => logLine(`a connection could not be taken: ${error.message}`));
server.listen({ fd: LISTENING_FD });
