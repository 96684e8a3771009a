import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'stillpoint-layers-'));
afterAll(() => rmSync(dir, { recursive: true }));

const CORE = [
  ...['records', 'xen', 'x86', 'engine', 'hypervisor', 'guest', 'devices', 'helper'],
  ...['core', 'wire', 'ring', 'server', 'state'].map((name) => `xenstore/${name}`),
];
const READS_FILES = "import { readFileSync } from 'node:fs';\nexport const read = readFileSync;\n";

const USES_WASM = "import { inner } from './wasm/inner.js';\nexport const used = inner;\n";

/** A small tree with one breach in each core folder, one of each other rule, and some code that is allowed. */
const FILES: Readonly<Record<string, string>> = {
  'src/xen/errno.ts': 'export const EPERM = 1;\n',
  'src/xenstore/core/good.ts': "import { EPERM } from '../../xen/errno.js';\nexport const x = EPERM;\n",
  'src/control/good.ts': READS_FILES,
  'src/xenstore/socket/good.ts': READS_FILES,
  'src/engine/wasm/inner.ts': "import { EPERM } from '../../xen/errno.js';\nexport const inner = EPERM;\n",
  'src/engine/engines.ts': USES_WASM,
  'src/engine/other.ts': USES_WASM,
  'src/engine/types.ts': "export type { inner } from './wasm/inner.js';\n",
  'src/control/wasm.ts': "export { inner } from '../engine/wasm/inner.js';\n",
  'src/hypervisor/state.ts': 'export class DomainState {}\n',
  'src/hypervisor/domain.ts': "export { DomainState } from './state.js';\n",
  'src/hypervisor/calls/hypercalls.ts': "export type { DomainState } from '../state.js';\n",
  'src/hypervisor/calls/handler.ts': "export type { DomainState } from '../state.js';\n",
  'src/hypervisor/mmu/by-domain.ts': "export type { DomainState } from '../domain.js';\n",
  'src/host/standalone/platform.ts': 'export const platform = 1;\n',
  'src/host/platforms.ts': "export const load = () => import('./standalone/platform.js');\n",
  'src/guest-process/main.ts': 'export const main = 1;\n',
  'src/guest-process/entry-points.ts': 'export const LAUNCHER = 1;\n',
  'src/control/spawn.ts':
    "import { LAUNCHER } from '../guest-process/entry-points.js';\nexport const launcher = LAUNCHER;\n",
  'src/control/own-platform.ts':
    "import { platform } from '../host/standalone/platform.js';\nexport const mine = platform;\n",
  'src/host/xen/platform.ts':
    "import { platform } from '../standalone/platform.js';\nexport const other = platform;\n",
  'src/control/own-guest.ts': "import { main } from '../guest-process/main.js';\nexport const mine = main;\n",
  'src/cli/commands/host.ts': "import { read } from '../../control/good.js';\nexport const host = read;\n",
  'src/cli/print.ts': "import { read } from '../control/good.js';\nexport const print = read;\n",
  'src/cli/run-guest.ts': "import { print } from './print.js';\nexport const run = print;\n",
  'src/xen/upwards.ts': "import { x } from '../xenstore/core/good.js';\nexport const a = x;\n",
  ...Object.fromEntries(CORE.map((folder) => [`src/${folder}/bad.ts`, READS_FILES])),
  'scripts/build.mjs': "import 'streams';\n",
  // Packages that use a Node module through another file, and one that uses a module which browsers have, too.
  'src/xen/package.ts': "import reaches from 'reaches';\nexport const r = reaches;\n",
  'src/xen/web.ts': "import streams from 'streams';\nexport const s = streams;\n",
  ...fakePackage('reaches', 'path'),
  ...fakePackage('streams', 'stream/web'),
};

function fakePackage(name: string, takes: string): Record<string, string> {
  return {
    [`node_modules/${name}/package.json`]: JSON.stringify({ name, version: '1.0.0', main: 'index.js' }),
    [`node_modules/${name}/index.js`]: "module.exports = require('./inner.js');\n",
    [`node_modules/${name}/inner.js`]: `module.exports = require('${takes}');\n`,
  };
}

test('the lint refuses a Node API in every part of the core and in what it uses, a layer that knows one below it, engines and platforms known twice, a handler that knows a whole domain, programs that are not apart; nothing else', () => {
  for (const [name, text] of Object.entries(FILES)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
  cpSync(join(root, '.dependency-cruiser.cjs'), join(dir, '.dependency-cruiser.cjs'));
  const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as object;
  writeFileSync(
    join(dir, 'package.json'),
    JSON.stringify({ ...own, dependencies: { reaches: '1.0.0', streams: '1.0.0' } }),
  );
  const tool = join(root, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');
  const args = [
    tool,
    'scripts/build.mjs',
    'src',
    '--config',
    '.dependency-cruiser.cjs',
    '--output-type',
    'json',
  ];
  const { stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: dir,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  expect(stderr).toBe('');
  const { summary } = JSON.parse(stdout) as {
    summary: { violations: { from: string; rule: { name: string } }[] };
  };
  expect(summary.violations.map((v) => `${v.from}: ${v.rule.name}`).sort()).toEqual(
    [
      'src/xen/upwards.ts: xen-knows-only-what-is-above',
      'src/control/own-platform.ts: one-file-knows-the-platforms',
      'src/host/xen/platform.ts: platforms-do-not-know-each-other',
      'src/control/own-guest.ts: the-daemon-loads-no-guest-process',
      'src/cli/print.ts: verbs-reach-the-daemon-by-a-client-only',
      'src/cli/run-guest.ts: run-and-guest-processes-reach-no-daemon',
      'src/engine/other.ts: one-file-knows-the-engines',
      'src/engine/types.ts: one-file-knows-the-engines',
      'src/control/wasm.ts: one-file-knows-the-engines',
      'src/hypervisor/calls/handler.ts: few-know-all-of-a-domain',
      'src/hypervisor/mmu/by-domain.ts: rooms-of-the-hypervisor-know-no-whole-domain',
      'src/xen/package.ts: the-core-reaches-no-node-api',
      ...CORE.map((folder) => `src/${folder}/bad.ts: the-core-reaches-no-node-api`),
    ].sort(),
  );
});
