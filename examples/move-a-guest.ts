// Moves a guest to another host, tells how far that is, and what it took. Ctrl-C gives the move up.
//
//     node build/examples/move-a-guest.js DIRECTORY GUEST HOST
//
// DIRECTORY is the daemon's (stillpoint host --dir), HOST a trusted name or HOST:PORT. In a package of your own that has
// stillpoint among its dependencies this file works as it is.
import { connect, Failure } from 'stillpoint/client';

const [directory, guest, host] = process.argv.slice(2);
const client = await connect({ directory });
try {
  const move = await client.migrate(guest, host, { maxDowntimeMs: 50 });
  process.once('SIGINT', () => {
    move.cancel().catch((error: Error) => console.error(error.message));
  });
  for await (const step of move.progress) {
    if ('round' in step)
      console.log(`round ${step.round}: ${step.sent} pages sent, ${step.dirty} written since`);
    else console.log(`disks: ${step.copied} bytes copied, ${step.pending} to go`);
  }
  const { name, destination, domid, downtimeMs } = await move.done;
  console.log(
    `${name} lives on ${destination} as domain ${domid}; it stood still for ${downtimeMs.toFixed(1)} ms`,
  );
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
