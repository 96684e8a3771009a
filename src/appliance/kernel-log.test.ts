import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { KernelLog } from './kernel-log.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A /dev/kmsg: `records` are what it has; an error's name is thrown instead. */
function followed(records: string[]): string[] {
  const lines: string[] = [];
  new KernelLog(
    (buffer) => {
      const record = records.shift() ?? 'EAGAIN';
      if (record.startsWith('E')) throw Object.assign(new Error(record), { code: record });
      return buffer.write(record);
    },
    (line) => lines.push(line),
  );
  return lines;
}

test('warnings and what is worse are passed on, of the kernel alone', () => {
  const records = ['4,1,100,-;of the boot\n'];
  const lines = followed(records);
  records.push('3,2,200,-;Freezing of tasks failed\n SUBSYSTEM=pm\n', '6,3,300,-;eth0 is up\n');
  records.push('4,4,400,-;a warning\n', '11,5,500,-;of a program\n', 'no record', '0,6,600,-;the worst\n');
  vi.advanceTimersByTime(2000);
  expect(lines).toEqual(
    ['Freezing of tasks failed', 'a warning', 'the worst'].map((text) => `the helper's Linux: ${text}`),
  );
});

test('records that were overwritten are passed over, and a failing file is read again later', () => {
  const records: string[] = [];
  const lines = followed(records);
  records.push('EPIPE', '3,7,700,-;after the gap\n', 'EIO', '3,8,800,-;later\n');
  vi.advanceTimersByTime(2000);
  expect(lines).toEqual(["the helper's Linux: after the gap"]);
  vi.advanceTimersByTime(2000);
  expect(lines.at(-1)).toBe("the helper's Linux: later");
});

test('a look passes on 32 records at most', () => {
  const records: string[] = [];
  const lines = followed(records);
  for (let i = 0; i < 100; i++) records.push(`3,${i},0,-;line ${i}\n`);
  vi.advanceTimersByTime(2000);
  expect(lines.length).toBe(32);
  expect(records).toEqual([]);
});

test('a host without such a file has no such lines', () => {
  KernelLog.follow('/nowhere/kmsg', () => expect.unreachable())();
});
