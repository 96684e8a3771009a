/**
 * The guest process. Its argument is the URL of the runner module; its working directory is the guest's own. It
 * serves one daemon at a time on the unix socket that it inherited, and continues to run when the daemon goes.
 */
import net from 'node:net';
import { logLine } from '../os/log-output.js';
import { GUEST, TO_GUEST } from '../protocol/guest-process.js';
import { Rpc } from '../protocol/rpc.js';
import { dispatcher, listener } from '../protocol/table.js';
import { loadRunner } from './entry-points.js';
import { recordExit } from './exit-record.js';
import { GuestService } from './guest-service.js';

/** The descriptor of a listening socket that only the daemon can find. */
const LISTENING_FD = 5;
/** If no daemon connects within this time, the process is a leftover and ends, ms. */
const LONELY_MS = 60_000;

// Programs that it starts put their temporary files here: it can write nowhere else.
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
// If a connection cannot be accepted, for example because no descriptor is left, the guest continues.
server.on('error', (error) => logLine(`a connection could not be taken: ${error.message}`));
server.listen({ fd: LISTENING_FD });
