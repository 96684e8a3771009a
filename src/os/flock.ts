/**
 * flock(2), which Node does not have. If the optional package koffi is installed, the system call is made directly.
 * Otherwise the program `flock` gets our file descriptor: the lock belongs to the open file, not to the process.
 */
import { spawn } from 'node:child_process';
import { PROGRAM_ENV } from './program-environment.js';

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const EWOULDBLOCK = 11;
/** The exit status of the program if somebody else has the lock. */
const CONFLICT = 9;

type Flock = (fd: number, shared: boolean) => 'locked' | 'taken';

let call: Promise<Flock | undefined> | undefined;

/** Loads the system call. To be called before the lock is needed, because loading takes time. */
export function prepareFlock(): Promise<Flock | undefined> {
  call ??= import('koffi').then(
    (module) => {
      // Types: koffi's declarations are of the module, not of its default export.
      const koffi = module.default as unknown as typeof import('koffi');
      const flock = koffi.load('libc.so.6').func('int flock(int fd, int operation)');
      return (fd: number, shared: boolean) => {
        if (flock(fd, LOCK_NB | (shared ? LOCK_SH : LOCK_EX)) === 0) return 'locked';
        const errno = koffi.errno();
        if (errno === EWOULDBLOCK) return 'taken';
        throw new Error(`flock: errno ${errno}`);
      };
    },
    () => undefined,
  );
  return call;
}

/** Locks an open file without waiting. Rejects with the reason. */
export async function flock(fd: number, shared: boolean): Promise<'locked' | 'taken'> {
  const direct = await prepareFlock();
  if (direct !== undefined) return direct(fd, shared);
  const status = await byProgram(fd, shared);
  if (status !== 0 && status !== CONFLICT) throw new Error(`flock: status ${status}`);
  return status === 0 ? 'locked' : 'taken';
}

function byProgram(fd: number, shared: boolean): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const mode = shared ? '--shared' : '--exclusive';
    const args = ['--nonblock', '--conflict-exit-code', String(CONFLICT), mode, '3'];
    const child = spawn('flock', args, { stdio: ['ignore', 'ignore', 'ignore', fd], env: PROGRAM_ENV });
    child.on('error', reject);
    child.on('exit', (status) => resolve(status));
  });
}
