/** Serves the example on loopback, with the headers that shared memory in a page needs. */
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inRoot } from '../../scripts/lib/root.js';
import { bundle } from './bundle.js';

const ISOLATED = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  'cache-control': 'no-store',
};

/** `port` 0: any that is free. */
export async function serve(port: number): Promise<{ url: string; server: Server }> {
  const [page, worker] = [await bundle('page'), await bundle('worker')];
  const script = 'text/javascript; charset=utf-8';
  const files: Readonly<Record<string, readonly [type: string, text: string]>> = {
    '/': ['text/html; charset=utf-8', readFileSync(inRoot('examples/browser/index.html'), 'utf8')],
    '/page.js': [script, page],
    '/worker.js': [script, worker],
  };
  const server = createServer((request, response) => {
    const found = Object.hasOwn(files, request.url ?? '') ? files[request.url ?? ''] : undefined;
    if (request.method !== 'GET' || found === undefined) return void response.writeHead(404).end();
    response.writeHead(200, { ...ISOLATED, 'content-type': found[0] }).end(found[1]);
  });
  server.listen(port, '127.0.0.1');
  await new Promise<void>((done, fail) => server.once('listening', () => done()).once('error', fail));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, server };
}
