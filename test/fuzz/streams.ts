/** Targets: what another host may send, which is a guest's stream, the state in it, and lines to the daemon. */
import { readFileSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import { inRoot } from '../../scripts/lib/root.js';
import { StreamReader } from '../../src/migration/stream-reader.js';
import { StreamWriter } from '../../src/migration/stream-writer.js';
import { MAX_LINE_BYTES, Rpc } from '../../src/protocol/rpc.js';
import { RecordError } from '../../src/records/fields.js';
import { concatBytes, decodeAll, encodeRaw, type RawRecord } from '../../src/records/record.js';
import { TinyGuest } from '../support/tiny-guest.js';
import type { Choices } from './choices.js';
import type { Target } from './fuzz.js';

/** Bytes changed, cut or repeated; the caller then corrects the checksum. */
function bent(c: Choices, bytes: Uint8Array): Uint8Array {
  const out = bytes.slice();
  for (let n = c.below(4); n > 0 && out.length > 0; n--) {
    const at = c.below(out.length);
    if (c.once(2)) out[at] = c.word();
    else out[at] = c.pick([0, 1, 0x7f, 0x80, 0xff]);
  }
  if (c.once(12)) return out.subarray(0, c.below(out.length + 1));
  if (c.once(24)) return concatBytes([out, out.subarray(0, c.below(64))]);
  return out;
}

/** Records in another order, repeated, left out, altered, or with another version or tag. */
function shuffled(c: Choices, records: readonly RawRecord[]): Uint8Array {
  const list = [...records];
  for (let n = c.below(3); n > 0 && list.length > 0; n--) {
    const at = c.below(list.length);
    if (c.once(3)) list.splice(at, 1);
    else list.splice(c.below(list.length + 1), 0, list[at]);
  }
  const bend = c.below(list.length + 1);
  const all = list.map(({ tag, version, body }, i) =>
    i !== bend
      ? encodeRaw(tag, version, body)
      : encodeRaw(c.once(20) ? c.pick(records).tag : tag, c.once(20) ? c.below(9) : version, bent(c, body)),
  );
  const bytes = concatBytes(all);
  return c.once(8) ? bytes.subarray(0, c.below(bytes.length + 1)) : bytes;
}

const only = (error: unknown, ...allowed: RegExp[]): void => {
  if (error instanceof RecordError) return;
  if (allowed.some((pattern) => pattern.test(String(error)))) return;
  throw error;
};

/** A stream of version 2, with places of code. */
async function streamWithCode(): Promise<RawRecord[]> {
  const parts: Uint8Array[] = [];
  const writer = new StreamWriter(async (bytes) => {
    parts.push(bytes.slice());
  });
  const frames = 8;
  const ram = new Uint8Array(new SharedArrayBuffer(frames * 4096)).fill(0x90);
  await writer.begin({ frames, uuid: 'u', name: 'n', version: 2 }, new Uint8Array(8));
  await writer.round(1, Uint8Array.of(0xff), frames, frames, ram);
  await writer.code(Uint32Array.of(0, 4095, 4096, 20_000, 32_767));
  await writer.round(0, Uint8Array.of(0x0f), 4, frames, ram);
  await writer.end(new Uint8Array(8));
  return decodeAll(concatBytes(parts));
}

/** Reads the stream of a small guest into memory as a destination does. */
export async function stream(): Promise<Target> {
  const fixture = inRoot('test/migration/fixtures/small-guest-1.img.gz');
  const records = decodeAll(new Uint8Array(gunzipSync(readFileSync(fixture))));
  const coded = await streamWithCode();
  let most = 0;
  return {
    name: 'the stream of a move',
    files: /\/dist\/(migration|records)\//,
    most: 60,
    async run(c) {
      const bytes = shuffled(c, c.once(2) ? coded : records);
      let frames = 0;
      const within = (frame: number): void => {
        if (!(frame < frames)) throw new Error(`frame ${frame} of ${frames} is told`);
      };
      const reader = new StreamReader({
        head(head) {
          frames = head.frames;
        },
        container: async () => {
          if (frames > 0x10_0000) throw new RecordError(0, 'more memory than this host has');
          most = Math.max(most, frames);
          return { ram: new Uint8Array(Math.min(frames, 4096) * 4096), frames: Math.min(frames, 4096) };
        },
        code: (starts) => {
          for (const start of starts) within(start / 4096);
        },
        written: within,
        state: () => undefined,
      });
      try {
        const piece = 1 + c.below(200_000);
        for (let at = 0; at < bytes.length; at += piece) await reader.push(bytes.subarray(at, at + piece));
        reader.finish();
      } catch (error) {
        only(error);
      }
    },
  };
}

/**
 * The saved state of a domain with right checksums: it is refused, or the guest that is made from it harms only itself.
 */
export async function state(): Promise<Target> {
  const source = `
    mov eax, 7
  turn: inc eax
    push rax
    pop rbx
    jmp turn
  `;
  const from = await TinyGuest.boot(source);
  from.run(100_000);
  from.domain.pause();
  const saved = decodeAll(from.domain.save());
  const { ram } = from.domain.state;
  const bytes = ram.bytes(0, ram.frames).slice();
  return {
    name: 'the state of a guest',
    files: /\/dist\/(hypervisor|engine|records)\//,
    most: 60,
    async run(c) {
      const to = await TinyGuest.empty(source);
      const { ram: there } = to.domain.state;
      there.bytes(0, there.frames).set(bytes);
      try {
        to.domain.restore(shuffled(c, saved));
      } catch (error) {
        only(error);
        return;
      }
      to.domain.start();
      to.run(200_000);
    },
  };
}

/** Lines to a daemon, in pieces: no more than a line is buffered, and the connection ends or continues. */
export function lines(): Target {
  const parts = [
    '{"id":1,"do":"hello","with":{"versions":[1]}}\n',
    '{"id":',
    '"do":"list"',
    ',"with":',
    '{}',
    '[]',
    'null',
    '}\n',
    '\n',
    '"\\ud800"',
    '1e999',
    '-0',
    '{"do":"move","with":{"handover":"x","message":"offer"}}\n',
    '{"id":3,"ok":[]}\n',
    '{"id":1,"error":null}\n',
    '{"id":1,"error":{"code":"toString","message":7}}\n',
    '{"__proto__":{"do":"x"},"id":2}\n',
  ];
  return {
    name: 'lines to a daemon',
    files: /\/dist\/protocol\/(rpc|failure)/,
    most: 120,
    async run(c) {
      let held = 0;
      const end = new Duplex({ read: () => undefined, write: (_b, _e, done) => done() });
      const rpc = new Rpc(end, { request: (method) => method.slice(0, 10), notice: () => undefined });
      const asked = rpc.request('something').catch(() => undefined);
      for (let n = 1 + c.below(30); n > 0 && !rpc.closed; n--) {
        const whole = c.once(40) ? 'x'.repeat(c.below(MAX_LINE_BYTES)) : c.pick(parts);
        const text = c.once(6) ? whole.slice(0, c.below(whole.length + 1)) : whole;
        held = text.includes('\n') ? 0 : held + text.length;
        end.push(text);
        await new Promise((done) => setImmediate(done));
        if (held > MAX_LINE_BYTES + 65_536 && !rpc.closed)
          throw new Error(`${held} bytes without a line are held`);
      }
      rpc.destroy();
      await asked;
    },
  };
}
