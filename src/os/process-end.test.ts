import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { killedBecause, watchEnd, wordsOfEnd } from './process-end.js';

function sleeper(script = 'exec sleep 100'): ChildProcess {
  const child = spawn('/bin/sh', ['-c', script], { stdio: 'ignore' });
  watchEnd(child, 300 << 10);
  return child;
}
const words = async (child: ChildProcess): Promise<string> => {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return wordsOfEnd(child.pid!);
};

describe('the end of a process', () => {
  it('has its exit code', async () => {
    expect(await words(sleeper('exit 7'))).toBe('ended with exit code 7');
  });

  it('has its signal, and what that signal may mean', async () => {
    const segv = sleeper();
    segv.kill('SIGSEGV');
    expect(await words(segv)).toBe('was ended by SIGSEGV');
    const abort = sleeper();
    abort.kill('SIGABRT');
    expect(await words(abort)).toMatch(/SIGABRT; a reason may be a lack of memory .*limited to 300 MiB/);
  });

  it('names who killed it', async () => {
    const other = sleeper();
    other.kill('SIGKILL');
    expect(await words(other)).toMatch(/killed \(SIGKILL\) by (somebody else|the kernel, it seems)/);
    const ours = sleeper();
    killedBecause(ours.pid!, 'it did not answer');
    ours.kill('SIGKILL');
    expect(await words(ours)).toBe('was killed by this daemon (SIGKILL): it did not answer');
  });

  it('is waited for briefly, because the connection ends first', async () => {
    const child = sleeper();
    const said = wordsOfEnd(child.pid!);
    child.kill('SIGTERM');
    expect(await said).toBe('was ended by SIGTERM');
  });

  it('is not invented if it was not observed', async () => {
    expect(await wordsOfEnd(0)).toContain('unseen');
  });
});
