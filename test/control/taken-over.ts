// A guest runner for tests that has been taken over: it does what its guest's configuration calls `evil`, with the
// rights of a guest's process. Otherwise it runs the fake guest.
import { spawn } from 'node:child_process';
import net from 'node:net';
import type { RunnerFactory, RunnerHooks } from '../../src/guest-process/guest-runner.js';
import type { Host } from '../../src/host/host.js';
import * as fake from '../migration/fake-guest.js';

export const readConfig = fake.readConfig;

/** The connection to the daemon. */
const daemon = (): net.Socket | undefined => {
  const list: unknown = Reflect.get(process, '_getActiveHandles');
  const handles: unknown = typeof list === 'function' ? list.call(process) : [];
  if (!Array.isArray(handles)) return undefined;
  return handles.find(
    (h: unknown): h is net.Socket => h instanceof net.Socket && h.writable && Reflect.get(h, 'fd') !== 1,
  );
};

const NONSENSE = [
  '{"do":"stopped","with":{"reason":5}}',
  '{"do":"stopped","with":{"reason":"poweroff","details":["x"]}}',
  '{"do":"stopped"}',
  '{"do":"store","with":{"nodes":"x"}}',
  '{"do":"store","with":{"nodes":[null]}}',
  '{"do":"store","with":{"nodes":[{"path":5,"value":{}}]}}',
  '{"do":"console","with":{"data":{}}}',
  '{"do":"progress","with":null}',
  '{"do":"__proto__","with":{}}',
  '{"do":"constructor","with":{}}',
  '{"id":7,"do":"stopping","with":{}}',
  '{"id":8,"do":"hasOwnProperty","with":{}}',
  '{"id":9,"ok":{"vcpus":3}}',
  '{"id":1e999,"error":null}',
  '[]',
];

const EVILS: Readonly<Record<string, () => void>> = {
  notices: () => {
    for (let i = 0; i < 50; i++) for (const line of NONSENSE) daemon()?.write(`${line}\n`);
  },
  // Its children leave its session, if they can, and outlive it.
  child: () => {
    const code = 'setInterval(() => {}, 1000)';
    spawn(process.execPath, ['-e', code, 'left-behind'], { detached: true, stdio: 'ignore' }).unref();
  },
  stopped: () => {
    daemon()?.write('{"do":"stopped","with":{"reason":"poweroff","details":"\\u001b[31mred\\u202e"}}\n');
  },
};

/** Answers of wrong types. */
const WRONG = {
  status: () => ({ vcpus: 'many', cpuSeconds: {}, uptimeSeconds: null, instructions: [] }),
  points: () => [{ name: 1, inner: '', outer: '', moves: {} }],
  dmesg: () => 'x'.repeat(40 << 20),
  devices: () => [{ kind: 'vbd', devid: -1, spec: 5, front: 'x', link: {} }],
};

export function openFactory(host: Host, hooks: RunnerHooks): RunnerFactory {
  const factory = fake.openFactory(host, hooks);
  return {
    ...factory,
    create: async (config, ...images) => {
      const runner = await factory.create(config, ...images);
      const { evil } = config.more;
      if (evil === 'types') Object.assign(runner, WRONG);
      else if (typeof evil === 'string') setTimeout(EVILS[evil], 50);
      return runner;
    },
  };
}
