// A runner of guests that has been taken over, of the tests' own: what its guest's configuration calls `evil` it does,
// with the rights that a guest's process has. Otherwise it runs the fake guest.
import { spawn } from 'node:child_process';
import net from 'node:net';
import * as fake from '../migration/fake-guest.mjs';

export const readConfig = fake.readConfig;

/** The connection to the daemon. */
const daemon = () =>
  process._getActiveHandles().find((h) => h instanceof net.Socket && h.writable && h.fd !== 1);

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

const evils = {
  notices: () => {
    for (let i = 0; i < 50; i++) for (const line of NONSENSE) daemon()?.write(`${line}\n`);
  },
  // Its children leave its session, if they can, and outlive it.
  child: () => {
    const code = 'setInterval(() => {}, 1000)';
    spawn(process.execPath, ['-e', code, 'left-behind'], { detached: true, stdio: 'ignore' }).unref();
  },
  stopped: () =>
    daemon()?.write('{"do":"stopped","with":{"reason":"poweroff","details":"\\u001b[31mred\\u202e"}}\n'),
};

/** Answers of the wrong kinds. */
const WRONG = {
  status: () => ({ vcpus: 'many', cpuSeconds: {}, uptimeSeconds: null, instructions: [] }),
  points: () => [{ name: 1, inner: '', outer: '', moves: {} }],
  dmesg: () => 'x'.repeat(40 << 20),
  devices: () => [{ kind: 'vbd', devid: -1, spec: 5, front: 'x', link: {} }],
};

export function openFactory(host, hooks) {
  const factory = fake.openFactory(host, hooks);
  return {
    ...factory,
    create: async (config, ...rest) => {
      const runner = await factory.create(config, ...rest);
      const { evil } = config.more;
      if (evil === 'types') Object.assign(runner, WRONG);
      else if (evil !== undefined) setTimeout(evils[evil], 50);
      return runner;
    },
  };
}
