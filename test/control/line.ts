/** A peer for tests, which can send anything to a daemon. */
import tls from 'node:tls';
import type { Identity } from '../../src/transport/identity.js';
import { until } from '../migration/hosts.js';

/** A connection to a host's daemon with a given identity, which sends lines as they are. */
export class Line {
  text = '';
  closed = false;
  private constructor(readonly socket: tls.TLSSocket) {
    socket.on('data', (bytes) => {
      this.text = (this.text + bytes.toString('utf8')).slice(-200_000);
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
    });
  }
  static async open(
    to: { port: number; certificate: string },
    as?: Pick<Identity, 'key' | 'certificate'>,
  ): Promise<Line> {
    const socket = tls.connect({
      host: '127.0.0.1',
      port: to.port,
      ca: to.certificate,
      ...(as === undefined ? {} : { key: as.key, cert: as.certificate }),
      minVersion: 'TLSv1.3',
      checkServerIdentity: () => undefined,
    });
    const line = new Line(socket);
    await new Promise<void>((done) => {
      socket.once('secureConnect', done);
      socket.once('close', done);
    });
    return line;
  }
  say(message: object | string): void {
    this.socket.write(typeof message === 'string' ? message : `${JSON.stringify(message)}\n`);
  }
  answer(id: number): Promise<{ ok?: unknown; error?: { code: string; message: string } }> {
    return until(`answer ${id}`, () => {
      const found = this.text.split('\n').find((one) => one.includes(`"id":${id},`) && one.endsWith('}'));
      return found === undefined ? undefined : JSON.parse(found);
    });
  }
  ended(): Promise<unknown> {
    return until('the connection ends', () => this.closed || undefined);
  }
}
