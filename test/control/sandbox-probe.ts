// A guest runner that has been taken over. Before it makes its guest, it attempts everything that no guest process may
// do and that every guest process must be able to do, and prints the outcomes as JSON on the guest's console.
import { spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import { Worker } from 'node:worker_threads';
import koffi from 'koffi';
import { codeOf } from '../../scripts/lib/errors.js';
import type { RunnerFactory, RunnerHooks } from '../../src/guest-process/guest-runner.js';
import type { Host } from '../../src/host/host.js';
import * as fake from '../migration/fake-guest.js';

/** The image that the configuration names is the guest's disk. */
export function readConfig(text: string, file: string, directory: string): fake.FakeConfig {
  const config = fake.readConfig(text, file, directory);
  const disk = {
    target: config.more.image,
    format: 'raw',
    vdev: 'xvda',
    virtualDevice: 51712,
    readOnly: false,
    cdrom: false,
  };
  return { ...config, devices: [{ kind: 'vbd', devid: 51712, spec: JSON.stringify(disk) }] };
}

const lib = koffi.load('libc.so.6');
const number = 'unsigned long';
const systemCall = lib.func('syscall', 'long', [number, number, number, number, number, number]);
/** Makes a system call. Returns 0, or the errno as a negative number. */
const call = (...args: readonly number[]): number => {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = args;
  return systemCall(a, b, c, d, e, f) < 0 ? -koffi.errno() : 0;
};
const attempt = (what: () => unknown): string => {
  try {
    what();
    return 'done';
  } catch (error) {
    return codeOf(error) ?? String(error);
  }
};
const later = async (what: () => Promise<unknown>): Promise<string> => {
  try {
    await what();
    return 'done';
  } catch (error) {
    return codeOf(error) ?? String(error);
  }
};
const execute = (program: string, ...args: readonly string[]): string => {
  const { error, status } = spawnSync(program, args, { stdio: 'ignore' });
  return codeOf(error) ?? `status ${status}`;
};
/** Runs a program that the attacker has written into its own directory. */
const ownProgram = () => {
  writeFileSync('evil', '#!/bin/sh\n', { mode: 0o755 });
  return execute('./evil');
};

/** Sends requests to the daemon's own socket, as a user of this machine would. */
const speak = (path: string) =>
  new Promise<string>((done) => {
    const client = net.connect({ path }, () =>
      client.write('{"id":1,"do":"hello","with":{"versions":[1]}}\n{"id":2,"do":"list"}\n'),
    );
    let heard = '';
    client.on('data', (chunk) => {
      heard += chunk;
      if (heard.includes('"id":2')) done(/"ok"/.test(heard) ? 'done' : 'refused');
    });
    client.on('error', () => done('refused'));
    client.on('close', () => done('refused'));
  });
const readStore = (path: string) =>
  new Promise<string>((done) => {
    const body = Buffer.from('/tool\0');
    const header = Buffer.alloc(16);
    header.writeUInt32LE(2, 0);
    header.writeUInt32LE(body.length, 12);
    const client = net.connect({ path }, () => client.write(Buffer.concat([header, body])));
    client.on('data', () => done('done'));
    client.on('error', () => done('refused'));
    client.on('close', () => done('refused'));
  });
/** Writes beyond the longest file that the process may write. */
const longFile = () => {
  const fd = openSync('long', 'w');
  try {
    writeSync(fd, 'x', 2 ** 45);
  } finally {
    closeSync(fd);
    rmSync('long');
  }
};
const refused = (outcome: string): string => (outcome === 'done' ? 'done' : 'refused');

const mkfifo = lib.func('int mkfifo(const char *path, unsigned int mode)');
const execFifo = (path: string): string => (mkfifo(path, 0o600) === 0 ? 'done' : 'refused');
/** Makes the named call in a child process. Returns 0, or the errno as a negative number. */
const inChild = (name: 'setsid' | 'setpgid'): string | number => {
  const code = `import koffi from '${import.meta.resolve('koffi')}';
    const lib = koffi.load('libc.so.6');
    const call = lib.func('${name === 'setsid' ? 'int setsid()' : 'int setpgid(int pid, int group)'}');
    process.exit(call(${name === 'setsid' ? '' : '0, 0'}) < 0 ? koffi.errno() : 0);`;
  const { status, error } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    stdio: 'ignore',
  });
  return codeOf(error) ?? -(status ?? 0);
};

/** What the test passes to the probe, in its guest's configuration. */
interface Told {
  readonly root: string;
  /** A file that belongs to another guest. */
  readonly other: string;
  readonly daemonPid: number;
  readonly daemonDir: string;
  /** A TCP port on loopback. */
  readonly socket: number;
  readonly evil: keyof typeof EVILS | '';
}

async function probe({ root, other, daemonPid, daemonDir, socket }: Told) {
  const PTRACE_SEIZE = 0x4206;
  const O_RDONLY = 0;
  return {
    shell: execute('/bin/sh', '-c', 'true'),
    ownProgram: ownProgram(),
    flock: execute('flock', '--version'),
    otherGuest: attempt(() => closeSync(openSync(other, O_RDONLY))),
    otherGuestLater: await later(() => readFile(other)),
    hostsKey: attempt(() => readFileSync(`${daemonDir}/identity/key.pem`)),
    guests: attempt(() => readdirSync(`${daemonDir}/guests`)),
    own: attempt(() => writeFileSync('own', 'x')),
    ownDisk: attempt(() => closeSync(openSync(`${root}/own.img`, 'r+'))),
    otherDisk: attempt(() => closeSync(openSync(`${root}/other.img`, 'r+'))),
    outside: attempt(() => closeSync(openSync(`${root}/outside`, 'a'))),
    makeOutside: attempt(() => writeFileSync(`${root}/made`, 'x')),
    removeOutside: attempt(() => unlinkSync(`${root}/outside`)),
    symbolicLink: attempt(() => symlinkSync('/etc/shadow', 'exit.json')),
    pipe: execFifo('pipe'),
    hardLink: refused(attempt(() => linkSync(`${root}/outside`, 'linked'))),
    logOfItsOwn: attempt(() => closeSync(openSync(`${daemonDir}/logs/1.log`, 'r'))),
    longFile: attempt(longFile),
    controlKey: attempt(() => readFileSync(`${daemonDir}/control.key`)),
    control: await speak(`${daemonDir}/control.sock`),
    // This is XS_READ of a node that only domain 0 of the host may read, in xenstored's protocol.
    xenstore: await readStore(`${daemonDir}/xenstore.sock`),
    // These run in a child that leads neither a session nor a group: the daemon ends all processes of the session.
    session: inChild('setsid'),
    processGroup: inChild('setpgid'),
    ptrace: call(101, PTRACE_SEIZE, daemonPid),
    readMemory: call(310, daemonPid),
    signal: attempt(() => process.kill(daemonPid, 0)),
    mount: call(165),
    userNamespace: call(272, 0x10000000),
    cloneNamespace: call(56, 0x10000000 | 17),
    bpf: call(321),
    perf: call(298),
    ioUring: call(425, 4),
    clock: call(227),
    keys: call(250),
    netlink: call(41, 16, 3, 0),
    packet: call(41, 17, 3, 0),
    noNewPrivileges: /NoNewPrivs:\t1/.test(readFileSync('/proc/self/status', 'utf8')),
    filtered: /Seccomp:\t2/.test(readFileSync('/proc/self/status', 'utf8')),
    // The following must succeed.
    tcp: await later(
      () =>
        new Promise<void>((done, fail) => {
          const client = net.connect(socket, '127.0.0.1', () => client.end(() => done()));
          client.once('error', fail);
        }),
    ),
    worker: await later(
      () =>
        new Promise<void>((done, fail) => {
          new Worker('process.exit(0)', { eval: true }).once('exit', () => done()).once('error', fail);
        }),
    ),
    wasm: await later(() => WebAssembly.compile(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0))),
  };
}

/** What the process does after its report; it goes on for longer than the tests wait. */
const EVILS = {
  // Starts as many processes as it can, each of which starts more.
  forks: () => {
    const code =
      'const { spawn } = require("node:child_process"); setInterval(() => { try { spawn(process.execPath, ["-e", process.argv[1], process.argv[1]], { stdio: "ignore", detached: true }).on("error", () => {}); } catch {} }, 20)';
    spawn(process.execPath, ['-e', code, code], { stdio: 'ignore', detached: true });
  },
  names: () => {
    for (let i = 0; ; i++) writeFileSync(`name${i}`, '');
  },
  bytes: () => {
    for (let i = 0; ; i++) writeFileSync(`full${i % 900}`, Buffer.alloc(4 << 20, i));
  },
  log: () => {
    const line = 'x'.repeat(1 << 20);
    const end = performance.now() + 20_000;
    const writeAgain = () => {
      writeSync(1, line);
      if (performance.now() < end) setTimeout(writeAgain, 5);
    };
    writeAgain();
  },
};

export function openFactory(host: Host, hooks: RunnerHooks): RunnerFactory {
  const factory = fake.openFactory(host, hooks);
  return {
    ...factory,
    create: async (config, ...images) => {
      const told = JSON.parse(Buffer.from(String(config.more['probe']), 'hex').toString()) as Told;
      const found = await probe(told);
      const runner = await factory.create(config, ...images);
      hooks.console(Buffer.from(`PROBE ${JSON.stringify(found)} END\n`));
      // A disk that is attached to the running guest is opened as its configuration names it.
      let devices = config.devices;
      Object.defineProperty(runner, 'config', { get: () => ({ ...config, devices }) });
      runner.plug = async (device) => {
        const link = await host.links.vbd?.(device.devid, device.spec);
        hooks.console(Buffer.from(`GOT ${link?.geometry.sectors} SECTORS\n`));
        devices = [...devices, device];
      };
      if (told.evil !== '') setTimeout(EVILS[told.evil], 1000);
      return runner;
    },
    construct: (description, given) => factory.construct(description, given),
  };
}
