// A runner of guests that has been taken over: before it makes its guest it tries what no guest process may, and what
// every one must be able to, and prints what came of it as JSON on the guest's console.
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import { Worker } from 'node:worker_threads';
import koffi from 'koffi';
import * as fake from '../migration/fake-guest.mjs';

export const readConfig = fake.readConfig;

const lib = koffi.load('libc.so.6');
const number = 'unsigned long';
const systemCall = lib.func('syscall', 'long', [number, number, number, number, number, number]);
/** 0 or more, or the errno with a minus. */
const call = (...args) => {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = args;
  return systemCall(a, b, c, d, e, f) < 0 ? -koffi.errno() : 0;
};
const attempt = (what) => {
  try {
    what();
    return 'done';
  } catch (error) {
    return error.code ?? String(error);
  }
};
const later = async (what) => {
  try {
    await what();
    return 'done';
  } catch (error) {
    return error.code ?? String(error);
  }
};
const execute = (program, ...args) => {
  const { error, status } = spawnSync(program, args, { stdio: 'ignore' });
  return error?.code ?? `status ${status}`;
};
/** A program of the attacker's own, in its own directory. */
const ownProgram = () => {
  writeFileSync('evil', '#!/bin/sh\n', { mode: 0o755 });
  return execute('./evil');
};

async function probe({ other, daemonPid, daemonDir, socket }) {
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
    // What must go on working.
    tcp: await later(
      () =>
        new Promise((done, fail) => {
          const client = net.connect(socket, '127.0.0.1', () => client.end(done));
          client.once('error', fail);
        }),
    ),
    worker: await later(
      () =>
        new Promise((done, fail) => {
          new Worker('process.exit(0)', { eval: true }).once('exit', done).once('error', fail);
        }),
    ),
    wasm: await later(() => WebAssembly.compile(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0))),
  };
}

export function openFactory(host, hooks) {
  const factory = fake.openFactory(host, hooks);
  return {
    ...factory,
    create: async (config, ...rest) => {
      const found = await probe(JSON.parse(Buffer.from(config.more.probe, 'hex').toString()));
      const runner = await factory.create(config, ...rest);
      hooks.console(Buffer.from(`PROBE ${JSON.stringify(found)} END\n`));
      return runner;
    },
    construct: (description, given) => factory.construct(description, given),
  };
}
