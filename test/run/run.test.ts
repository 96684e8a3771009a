import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { programKernel } from '../support/program-kernel.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'stillpoint-run-'));
afterAll(() => rmSync(dir, { recursive: true }));

const write = (name: string, bytes: Uint8Array | string): string => {
  writeFileSync(join(dir, name), bytes);
  return join(dir, name);
};
const kernel = (name: string, source: string): string => write(name, programKernel(source));
const say = (text: string): string =>
  `lea rsi, [said]\ncall print\njmp on\nsaid: ascii "${text}\\u0000"\non:\n`;

interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

/**
 * Runs the command line; types `input` and closes standard input. Once `until` is printed, the process gets a signal.
 */
function run(args: string[], input = '', until?: string): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, 'run', ...args], { cwd: dir });
  let out = '';
  let err = '';
  child.stdout.on('data', (bytes) => {
    out += bytes;
    if (until !== undefined && out.includes(until)) child.kill();
  });
  child.stderr.on('data', (bytes) => {
    err += bytes;
  });
  child.stdin.end(input);
  return new Promise((done) => {
    child.on('close', (status, signal) => done({ status, signal, out, err }));
  });
}

const poweroff = kernel('poweroff', `${say('powering off\\r\\n')} jmp poweroff`);
const crash = kernel(
  'crash',
  `${say('about to fail')} mov rax, 0x1234567890\n mov rbx, [rax]\n jmp poweroff`,
);
const reboot = kernel('reboot', `${say('again ')} jmp reboot`);
const forever = kernel('forever', `${say('here for ever')} stay: jmp stay`);
// Echoes what is typed, up to a q. In the ring, `in` is at 0, in_cons at 3072, in_prod at 3076.
const ECHO = `
  more:
    mov edi, 0
    xor esi, esi
    mov eax, 29
    syscall
    mov ecx, [r15+0x2000+3072]
    cmp ecx, [r15+0x2000+3076]
    je more
    mov edx, ecx
    and edx, 1023
    mov al, [r15+rdx+0x2000]
    inc ecx
    mov [r15+0x2000+3072], ecx
    mov [heard], al
    lea rsi, [heard]
    call print
    cmp byte [heard], 113
    je poweroff
    jmp more
  heard: dq 0`;
const echo = kernel('echo', `${say('ready ')} ${ECHO}`);

describe('a guest in the foreground', () => {
  test('prints on standard output and ends with status 0 when it powers off', async () => {
    const ended = await run(['--kernel', poweroff]);
    expect(ended).toEqual({ status: 0, signal: null, out: 'powering off\r\n', err: '' });
  });

  test('receives every byte that comes through a pipe, control characters too', async () => {
    const typed = `${'0123456789abcdef\x1d\x03'.repeat(300)}q`;
    const ended = await run(['--kernel', echo], typed);
    expect(ended.out).toBe(`ready ${typed}`);
    expect(ended.status).toBe(0);
  });

  test('that crashes gives status 10, its registers, its stack and its last output', async () => {
    const ended = await run(['--kernel', crash]);
    expect(ended.status).toBe(10);
    expect(ended.out).toBe('about to fail');
    expect(ended.err).toMatch(/the guest crashed\nvCPU 0: unhandled page fault at 0x0000001234567890/);
    expect(ended.err).toMatch(/rip 00000000001000[0-9a-f]{2}.* rflags 0{11}[0-9a-f]{5}/);
    expect(ended.err).toMatch(/ rax 0000001234567890/);
    expect(ended.err).toMatch(/ cs e033 {2}ss e02b/);
    expect(ended.err).toMatch(/stack from rsp:\n {2}[0-9a-f]{16}/);
    expect(ended.err).toMatch(/last lines on the console:\n {2}about to fail\n$/);
  });

  test('that reports its own crash also gives status 10', async () => {
    const ended = await run(['--kernel', kernel('panic', `${say('oops')} jmp crash`)]);
    expect(ended.status).toBe(10);
    expect(ended.err).toMatch(/reported a crash of its own/);
  });

  test('starts again after a reboot', async () => {
    const ended = await run(['--kernel', reboot], '', 'again again ');
    expect([ended.signal, ended.err]).toEqual(['SIGTERM', '']);
  });

  test('that never yields the processor is ended by the time-out, with status 11', async () => {
    const ended = await run(['--kernel', forever, '--timeout', '2']);
    expect(ended.status).toBe(11);
    expect(ended.err).toBe('stillpoint: time-out, the guest was ended\n');
  });

  test('appends all its output to the console log', async () => {
    const log = write('log', 'before\n');
    await run(['--kernel', poweroff, '--console-log', log]);
    await run(['--kernel', crash, '--console-log', log]);
    expect(readFileSync(log, 'latin1')).toBe('before\npowering off\r\nabout to fail');
  });

  test('goes on when nobody reads its output any more', () => {
    const command = `'${process.execPath}' '${MAIN}' run --kernel '${kernel('talk', `mov ebx, 3000\nagain:\n${say('0123456789012345678901234567890\\n')}\ndec ebx\njnz again\njmp poweroff`)}' | head -c 10; echo "status \${PIPESTATUS[0]}"`;
    const shell = spawnSync('bash', ['-c', command], { encoding: 'utf8' });
    expect(shell.stdout).toBe('0123456789status 0\n');
  });
});

describe('a guest from a configuration file', () => {
  const config = (name: string, lines: string): string => write(name, `name = "c"\nmemory = 16\n${lines}\n`);

  test('runs with the settings of the file', async () => {
    // In start_info, cmd_line is at 128 and nr_pages at 32.
    const show = kernel('show', 'lea rsi, [r15+128]\ncall print\nmov rax, [r15+32]\ncall hex\njmp poweroff');
    const file = config('g.cfg', `kernel = "${show}"\nroot = "/dev/xvda1"\nextra = "ro quiet"`);
    expect((await run([file])).out).toBe('root=/dev/xvda1 ro quiet0000000000001000');
    // XENMEM_maximum_reservation, then one page more than at first: populate_physmap of pfn 0x1000.
    const more = kernel(
      'more',
      `mov edi, 4\nlea rsi, [who]\nmov eax, 12\nsyscall\ncall hex\nmov edi, 6\nlea rsi, [what]\nlea rax, [pfn]\nmov [rsi], rax\nmov eax, 12\nsyscall\ncall hex\njmp poweroff\nwho: dq 0x7ff0\nwhat: dq 0, 1, 0, 0x7ff0\npfn: dq 0x1000`,
    );
    const grown = await run([config('m.cfg', `kernel = "${more}"\nmaxmem = 24`)]);
    expect(grown.out).toBe('00000000000019000000000000000001');
    const over = await run([file, '--memory', '32', '--extra', 'other']);
    expect(over.out).toBe('other0000000000002000');
  });

  test('ends, restarts or is preserved as on_poweroff, on_reboot and on_crash say', async () => {
    const again = async (file: string, twice: string): Promise<void> => {
      expect((await run([file], '', twice)).signal).toBe('SIGTERM');
    };
    await again(
      config('a.cfg', `kernel = "${poweroff}"\non_poweroff = "restart"`),
      'powering off\r\npowering off',
    );
    await again(config('d.cfg', `kernel = "${crash}"\non_crash = "restart"`), 'about to failabout to fail');
    const gone = await run([config('b.cfg', `kernel = "${reboot}"\non_reboot = "destroy"`)]);
    expect([gone.status, gone.out]).toEqual([0, 'again ']);
    const kept = await run([config('c.cfg', `kernel = "${crash}"\non_crash = "preserve"`), '--timeout', '2']);
    expect(kept.status).toBe(10);
    expect(kept.err).toMatch(/the stopped guest is kept/);
  });

  type Arguments = string[] | (() => string[]);
  const refused: [string, Arguments, RegExp][] = [
    [
      'a setting that is not supported',
      () => [config('e.cfg', 'kernel = "k"\npci = [ "01:00.0" ]')],
      /e\.cfg:4:1: pci is not supported: /,
    ],
    [
      'a kernel that is not there',
      () => [config('j.cfg', 'kernel = "/no/such"')],
      /kernel \/no\/such: ENOENT/,
    ],
    [
      'a kernel that is none',
      () => ['--kernel', write('text', 'just text')],
      /kernel .*text: .*(ELF|bzImage)/,
    ],
    [
      'a ramdisk that is not there',
      ['--kernel', poweroff, '--ramdisk', '/no/ramdisk'],
      /ramdisk \/no\/ramdisk: ENOENT/,
    ],
    [
      'a log that cannot be written',
      ['--kernel', poweroff, '--console-log', '/no/dir/log'],
      /console log \/no\/dir\/log: ENOENT/,
    ],
    ['no kernel at all', [], /a configuration file or --kernel is expected/],
    ['a number that is none', ['--kernel', poweroff, '--vcpus', '9'], /--vcpus.*1 to 8/],
    ['an option that is unknown', ['--kernel', poweroff, '--fast'], /unknown option '--fast'/],
  ];
  test.each(refused)(
    'is refused with status 2 and the place of the error for %s',
    async (_, args, message) => {
      const ended = await run(typeof args === 'function' ? args() : args);
      expect([ended.status, ended.out]).toEqual([2, '']);
      expect(ended.err).toMatch(message);
    },
  );
});

describe('a guest on a terminal', () => {
  /** A shell command in a pseudo-terminal (script of util-linux); when `wait` appears, `then` is typed or called. */
  const onTerminal = (session: string, then: string | (() => void), wait: string): Promise<string> => {
    const child = spawn('script', ['-qec', session, join(dir, 'typescript')], {
      cwd: dir,
      env: { ...process.env, SHELL: '/bin/sh' },
    });
    let out = '';
    child.stdout.on('data', (bytes) => {
      const before = out.includes(wait);
      out += bytes;
      if (before || !out.includes(wait)) return;
      if (typeof then === 'string') child.stdin.write(then);
      else then();
    });
    return new Promise((done) => child.on('close', () => done(out)));
  };
  const there = spawnSync('script', ['--version']).status === 0;
  const guest = (options: string): string => `'${process.execPath}' '${MAIN}' run ${options}`;

  const KEYS = 'a\x03\x04\x1a\r\nq';
  const unchanged = (): void =>
    expect(readFileSync(join(dir, 'after'), 'utf8')).toBe(readFileSync(join(dir, 'before'), 'utf8'));

  test.skipIf(!there)(
    'gets each key unchanged, Ctrl-C too, and leaves the terminal as it was before',
    async () => {
      const session = `stty -a >before; ${guest(`--kernel ${echo}`)}; echo "status $?"; stty -a >after`;
      expect(await onTerminal(session, KEYS, 'ready')).toBe(`ready ${KEYS}status 0\r\n`);
      unchanged();
    },
  );

  test.skipIf(!there)('is left with Ctrl-], and ends', async () => {
    const session = `${guest(`--kernel ${echo}`)}; echo "status $?"`;
    expect(await onTerminal(session, 'bye\x1dq', 'ready')).toMatch(/^ready (bye)?status 12\r\n$/);
  });

  test.skipIf(!there)('that is killed by a signal leaves the terminal as it was before', async () => {
    const session = `stty -a >before; sh -c 'echo $$ >pid; exec "$0" "$1" run --kernel "$2"' '${process.execPath}' '${MAIN}' '${forever}'; stty -a >after`;
    const kill = (): void => {
      process.kill(Number(readFileSync(join(dir, 'pid'), 'utf8')), 'SIGTERM');
    };
    expect(await onTerminal(session, kill, 'ever')).toMatch(/here for ever/);
    unchanged();
  });
});
