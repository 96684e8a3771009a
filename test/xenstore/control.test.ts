import { describe, expect, test } from 'vitest';
import { XS_CONTROL, XS_READ } from '../../src/xen/xs-wire.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';

/** A command and its answer, as xenstored 4.17 gave them, one after another. */
const AS_XENSTORED: readonly (readonly [command: readonly string[], answer: string])[] = [
  [['help', 'x'], 'EINVAL\0'],
  [['check'], 'OK\0'],
  [['check', 'x'], 'EINVAL\0'],
  [['log'], 'EINVAL\0'],
  [['log', 'on'], 'OK\0'],
  [['log', 'off'], 'OK\0'],
  [['log', 'maybe'], 'EINVAL\0'],
  [['log', 'on', 'on'], 'EINVAL\0'],
  [['logfile'], 'EINVAL\0'],
  [['logfile', '/some/file'], 'OK\0'],
  [['logfile', 'a', 'b'], 'EINVAL\0'],
  [['memreport'], 'OK\0'],
  [['memreport', '/some/report'], 'OK\0'],
  [['memreport', 'a', 'b'], 'EINVAL\0'],
  [['print'], 'EINVAL\0'],
  [['print', 'hello'], 'OK\0'],
  [['print', 'a', 'b'], 'EINVAL\0'],
  [
    ['quota'],
    'Quota settings:\nnodes            :     1000 Nodes per domain\nwatches          :      128 Watches per domain\ntransactions     :       10 Transactions per domain\noutstanding      :       20 Outstanding requests per domain\ntransaction-nodes:     1024 Max. number of accessed nodes per transaction\nmemory           :  2621440 Total Xenstore memory per domain (error level)\nnode-size        :     2048 Max. size of a node\npath-max         :     2048 Max. length of a node path\npermissions      :        5 Max. number of permissions per node\n\0',
  ],
  [['quota', '9'], 'ENOENT\0'],
  [['quota', 'set'], 'EINVAL\0'],
  [['quota', 'set', 'watches', '77'], 'OK\0'],
  [['quota', 'set', 'nope', '1'], 'EINVAL\0'],
  [['quota', 'set', 'watches', '0'], 'EINVAL\0'],
  [
    ['quota-soft'],
    'Quota settings:\nmemory           :  2097152 Total Xenstore memory per domain (warning level)\n\0',
  ],
  [['quota-soft', 'set', 'memory', '5'], 'OK\0'],
  [['quota-soft', 'x'], 'EINVAL\0'],
  [['nope'], 'EINVAL\0'],
  [[''], 'EINVAL\0'],
  [[], 'EINVAL\0'],
];

function world() {
  const lines: string[] = [];
  const files = new Map<string, string>();
  let logFile = '';
  const server = new XenstoreServer({
    log: (line) => void lines.push(line),
    logTo: (file) => {
      logFile = file;
    },
    writeReport: (file, text) => void files.set(file, text),
  });
  const toolstack = server.connect('socket', 0);
  const control = (...args: readonly string[]): string => {
    toolstack.output.clear();
    const body = args.map((a) => `${a}\0`).join('');
    server.handle(toolstack, { type: XS_CONTROL, reqId: 1, txId: 0, body });
    return toolstack.output.waiting().messages[0].body;
  };
  return { server, toolstack, lines, files, control, logFile: () => logFile };
}

describe('CONTROL', () => {
  test('answers as xenstored 4.17 does', () => {
    const { control } = world();
    expect(AS_XENSTORED.map(([command]) => [command, control(...command)])).toEqual(AS_XENSTORED);
  });

  test('help lists all commands, as xenstored’s does, except live-update', () => {
    const { control } = world();
    expect(control('help')).toBe(
      'check\t\nlog\ton|off\nlogfile\t<file>\nmemreport\t[<file>]\nprint\t<string>\nquota\t[set <name> <val>|<domid>]\nquota-soft\t[set <name> <val>]\nhelp\t\n\0',
    );
    expect(control('live-update', '-a')).toBe('EINVAL\0');
  });

  test('is refused to guests', () => {
    const { server } = world();
    const guest = server.introduce(1);
    server.handle(guest, { type: XS_CONTROL, reqId: 1, txId: 0, body: 'print\0x\0' });
    expect(guest.output.waiting().messages[0].body).toBe('EACCES\0');
  });

  test('print, log and logfile: what is printed, every message in and out, and where it goes', () => {
    const { control, lines, server, logFile } = world();
    control('print', 'hello');
    control('logfile', '/var/log/x');
    expect([lines, logFile()]).toEqual([['control: hello'], '/var/log/x']);
    lines.length = 0;
    control('log', 'on');
    server.handle(server.introduce(3), { type: XS_READ, reqId: 1, txId: 0, body: '/none\0' });
    control('log', 'off');
    control('print', 'quiet again');
    expect(lines).toEqual([
      'OUT socket 0 domain 0 CONTROL (OK )',
      'IN ring 1 domain 3 READ (/none )',
      'OUT ring 1 domain 3 ERROR (EACCES )',
      'IN socket 0 domain 0 CONTROL (log off )',
      'control: quiet again',
    ]);
  });

  test('check reports wrong accounts, and corrects them', () => {
    const { control, lines, server } = world();
    server.store.account(0).nodes = 99;
    control('check');
    expect(lines).toEqual(['domain 0: 99 nodes on its account, 5 in the tree']);
    lines.length = 0;
    control('check');
    expect(lines).toEqual([]);
  });

  test('memreport reports what is held for whom, in the log or in a file', () => {
    const { control, lines, files, server } = world();
    server.local(4).watch('@releaseDomain', () => {});
    control('memreport');
    expect(lines.some((line) => /^domain 4: \d+ bytes, .*; 1 watches, 0 transactions$/.test(line))).toBe(
      true,
    );
    const told = lines.splice(0);
    control('memreport', '/tmp/report');
    expect([lines, files.get('/tmp/report')!.split('\n').length]).toEqual([[], told.length + 1]);
  });

  test('logfile and memreport into a file are refused where the host has no files', () => {
    const server = new XenstoreServer();
    const c = server.connect('socket', 0);
    for (const body of ['logfile\0x\0', 'memreport\0x\0'])
      server.handle(c, { type: XS_CONTROL, reqId: 1, txId: 0, body });
    expect(c.output.waiting().messages.map((m) => m.body)).toEqual(['ENOSYS\0', 'ENOSYS\0']);
  });
});
