const { builtinModules } = require('node:module');

// One direction of dependency: each layer knows only the ones before it in this list.
const layers = [
  'records',
  'protocol',
  'net',
  'xen',
  'xenstore',
  'x86',
  'asm',
  'engine',
  'hypervisor',
  'guest',
  'devices',
  'os',
  'host',
  'helper',
  'migration',
  'guest-process',
  'client',
  'transport',
  'control',
  'appliance',
  'xl',
  'cli',
];
// Everything the guest touches: no Node API, so that it also runs in a worker or in a browser.
const pure = [
  'records',
  'protocol',
  'net',
  'xen',
  'x86',
  'asm',
  'engine',
  'hypervisor',
  'guest',
  'devices',
  'helper',
];
// Streams of the web by Node's name for them; browsers have them without it.
const ofNodeOnly = builtinModules.filter((name) => name !== 'stream/web');
const core = {
  path: [
    `^src/(${pure.join('|')})/`,
    '^src/xenstore/(core|wire|ring|server|state)/',
    '^src/host/host[.]ts$',
    '^src/demo/',
  ],
  pathNot: ['[.]test[.]ts$', '^src/net/links/'],
};
// The core uses none of these packages; all others are looked into, for what they use of Node.
const ofNode =
  '@peculiar|assemblyscript|commander|dependency-cruiser|fast-check|koffi|pino|reflect-metadata|typescript|vitest';
const alone = (name, from, to) => ({ name, severity: 'error', from, to });

module.exports = {
  forbidden: [
    ...layers
      .slice(0, -1)
      .map((layer, i) =>
        alone(
          `${layer}-knows-only-what-is-above`,
          { path: `^src/${layer}/` },
          { path: `^src/(${layers.slice(i + 1).join('|')})/` },
        ),
      ),
    alone('the-core-reaches-no-node-api', core, {
      path: `^(node:)?(${ofNodeOnly.join('|')})$`,
      reachable: true,
    }),
    alone('the-core-does-not-import-hosts', core, {
      path: '^src/(host/(standalone|xen|disk|net)|net/links)/',
    }),
    alone(
      'one-file-knows-the-engines',
      { path: '^src/', pathNot: '^src/engine/(wasm/|engines[.]ts$)' },
      { path: '^src/engine/wasm/' },
    ),
    alone(
      'one-file-knows-the-platforms',
      {
        path: '^src/',
        pathNot: ['^src/host/(standalone|xen)/', '^src/host/platforms[.]ts$', '[.]test[.]ts$'],
      },
      { path: '^src/host/(standalone|xen)/' },
    ),
    // A handler says what of a domain it works on, and gets no more: mmu-state.ts, call-state.ts and the like.
    alone(
      'few-know-all-of-a-domain',
      {
        path: '^src/',
        pathNot: [
          '^src/hypervisor/(domain|exits|saved-state)[.]ts$',
          '^src/hypervisor/calls/hypercalls[.]ts$',
          '^src/hypervisor/vcpu/scheduler[.]ts$',
          '[.]test[.]ts$',
        ],
      },
      { path: '^src/hypervisor/state[.]ts$' },
    ),
    alone(
      'rooms-of-the-hypervisor-know-no-whole-domain',
      { path: '^src/hypervisor/[^/]+/', pathNot: '[.]test[.]ts$' },
      { path: '^src/hypervisor/domain[.]ts$' },
    ),
    // What two platforms use is in a room that both may know: src/host/disk, src/host/net.
    alone('platforms-do-not-know-each-other', { path: '^src/host/standalone/' }, { path: '^src/host/xen/' }),
    alone('platforms-do-not-know-each-other', { path: '^src/host/xen/' }, { path: '^src/host/standalone/' }),
    // `stillpoint run` is a guest without a daemon, and a guest's process is not one.
    alone(
      'run-and-guest-processes-reach-no-daemon',
      { path: '^src/(cli/(commands/run|run-guest|foreground)[.]ts$|guest-process/)' },
      { path: '^src/control/', reachable: true },
    ),
    // The daemon speaks to the process of a guest: it does not run one.
    alone(
      'the-daemon-loads-no-guest-process',
      { path: '^src/control/', pathNot: '[.]test[.]ts$' },
      {
        path: '^src/guest-process/',
        pathNot: '/(entry-points|guest-files|device-requests)[.]ts$',
        dependencyTypesNot: ['type-only'],
      },
    ),
    // A verb is a client of the daemon; `stillpoint host` is the daemon.
    alone(
      'verbs-reach-the-daemon-by-a-client-only',
      { path: '^src/cli/', pathNot: ['^src/cli/commands/host[.]ts$', '[.]test[.]ts$'] },
      { path: '^src/control/' },
    ),
    alone('no-circles', {}, { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } }),
    alone(
      'product-does-not-import-tests',
      { path: '^src/', pathNot: '[.]test[.]ts$' },
      { path: ['^(test|bench|soak|scripts)/', '[.]test[.]ts$'] },
    ),
    alone(
      'no-development-packages-in-the-product',
      { path: '^src/', pathNot: '[.]test[.]ts$' },
      { dependencyTypes: ['npm-dev', 'npm-no-pkg'], dependencyTypesNot: ['type-only'] },
    ),
  ],
  options: {
    doNotFollow: { path: `node_modules/(${ofNode})/` },
    exclude: { path: '^src/(engine/wasm|records)/core/' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default'],
    },
  },
};
