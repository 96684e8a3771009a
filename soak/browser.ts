// npm run soak -- browser [PICTURE]: the example of a guest in a browser tab (examples/browser) in Debian's Chromium
// without a window. The small kernel boots in it, finds no difference, and powers off. PICTURE: a file for a screenshot
// of the page at the end.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { serve } from '../examples/browser/server.js';
import { NoPackages } from '../scripts/lib/debian.js';
import { findChromium } from './lib/chromium.js';
import { soaked } from './lib/soaked.js';

const PROPERTY = 'the small kernel boots in a tab of Chromium, sees no difference, and powers off';
const MINUTES = 3;

/** Sends commands to a browser over two pipes: JSON, each ended by a zero byte (the Chrome DevTools Protocol). */
class Remote {
  private readonly waiting = new Map<number, (answer: { result?: object; error?: object }) => void>();
  private last = 0;
  private held = '';

  constructor(
    private readonly to: Writable,
    from: Readable,
  ) {
    from.on('data', (bytes: Buffer) => {
      const parts = (this.held + bytes.toString('utf8')).split('\0');
      this.held = parts.pop() ?? '';
      for (const part of parts) {
        const answer = JSON.parse(part) as { id?: number; result?: object; error?: object };
        if (answer.id !== undefined) this.waiting.get(answer.id)?.(answer);
      }
    });
  }

  /** `T`: the result's type by the protocol's description. */
  async ask<T>(method: string, params: object, sessionId?: string): Promise<T> {
    const id = ++this.last;
    const answer = await new Promise<{ result?: object; error?: object }>((done) => {
      this.waiting.set(id, done);
      this.to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
    if (answer.error !== undefined) throw new Error(`${method}: ${JSON.stringify(answer.error)}`);
    return answer.result as T;
  }
}

/** What the page shows when the guest has ended: its state, and the guest's console. */
async function watch(remote: Remote, url: string, picture: string | undefined) {
  const { targetId } = await remote.ask<{ targetId: string }>('Target.createTarget', { url });
  const { sessionId } = await remote.ask<{ sessionId: string }>('Target.attachToTarget', {
    targetId,
    flatten: true,
  });
  const look = async (expression: string): Promise<string> => {
    const { result } = await remote.ask<{ result: { value?: string } }>(
      'Runtime.evaluate',
      { expression },
      sessionId,
    );
    return result.value ?? '';
  };
  let state = '';
  for (const end = Date.now() + MINUTES * 60_000; Date.now() < end && !/^(ended|failed)/.test(state); ) {
    await new Promise((done) => setTimeout(done, 200));
    state = await look("document.querySelector('output')?.value ?? ''");
  }
  const text = await look("document.querySelector('pre').textContent");
  if (picture !== undefined) {
    const { data } = await remote.ask<{ data: string }>('Page.captureScreenshot', {}, sessionId);
    writeFileSync(picture, Buffer.from(data, 'base64'));
  }
  return { state, text };
}

const chromium = await findChromium().catch((error: unknown) => {
  if (!(error instanceof NoPackages)) throw error;
  console.error(`soak browser: ${error.message}`);
  // The run of all soaks leaves it out then, and counts no case.
  if (process.env.STILLPOINT_SOAK_TABLE !== undefined)
    soaked([{ property: 'a guest in a tab (left out: Chromium cannot be had)', cases: 0, failures: 0 }]);
  process.exit(2);
});
let browser: ChildProcess | undefined;
const profile = mkdtempSync(join(tmpdir(), 'stillpoint-chromium-'));
const { url, server } = await serve(0);
let failures = 1;
try {
  const options = [
    '--headless=new',
    '--no-sandbox',
    '--disable-gpu',
    '--remote-debugging-pipe',
    '--no-first-run',
  ];
  browser = spawn(
    chromium.file,
    [...options, '--disable-dev-shm-usage', `--user-data-dir=${profile}`, 'about:blank'],
    {
      env: chromium.env,
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
      detached: true,
    },
  );
  let errors = '';
  browser.stderr?.on('data', (bytes) => {
    errors = `${errors}${bytes}`.slice(-4000);
  });
  const gone = new Promise<never>((_, fail) => {
    browser?.once('exit', (code) => fail(new Error(`Chromium ended with status ${code}: ${errors}`)));
    browser?.once('error', fail);
  });
  gone.catch(() => undefined);
  const remote = new Remote(browser.stdio[3] as Writable, browser.stdio[4] as Readable);
  const { state, text } = await Promise.race([watch(remote, url, process.argv[2]), gone]);
  console.log(text);
  console.log(state);
  failures = state === 'ended: poweroff' && /OBS VERDICT n=200 .*back=0 diff=0/.test(text) ? 0 : 1;
} finally {
  if (browser?.pid !== undefined && browser.exitCode === null) process.kill(-browser.pid, 'SIGKILL');
  server.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
soaked([{ property: PROPERTY, cases: 1, failures }]);
