import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { DiskAccess } from '../../devices/vbd/disk-access.js';
import { FileLink } from './file-link.js';

it('a disk whose threads all fail (here they were never built) answers requests with errors', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'stillpoint-threads-'));
  const path = join(dir, 'image');
  writeFileSync(path, Buffer.alloc(4096));
  const log: string[] = [];
  const link = await FileLink.open({ path, readOnly: false, discard: false });
  const access = new DiskAccess(link, 1, (line) => log.push(line));
  await expect(Promise.all([access.flush(), access.flush()])).rejects.toThrow('EIO');
  expect(log[0]).toContain('a thread failed');
  await expect(access.flush()).rejects.toThrow('EIO');
  await link.quiesce();
  await access.close();
  rmSync(dir, { recursive: true });
});
