import { describe, expect, it } from 'vitest';
import { duration, listTable, pointsTable, uptimeTable, vcpuTable } from './table.js';

const row = {
  domid: 9,
  name: 'coopd',
  uuid: '294dc809-60bf-409d-93b1-46dd480bb56c',
  memoryMib: 128,
  vcpus: 1,
  state: '-b----',
  seconds: 12.34,
  uptimeSeconds: 93784,
  moving: false,
  pid: 1,
  rssKib: 1,
  instructions: 1,
};

describe('tables', () => {
  it('keep what a guest has chosen, such as its name, inside its cell', () => {
    const lines = listTable([{ ...row, name: 'evil\nroot  0' }]);
    expect(lines.join('\n').split('\n')).toHaveLength(2);
    const [, point] = pointsTable([
      { name: 'p', rows: '', inner: '\x1b[2J', outer: '', pretended: false, moves: 0 },
    ]);
    expect(point).toContain('\\x1b[2J');
  });
  it('show a value that the host invented as pretended', () => {
    const row = { name: 'domain id', rows: 'D1-D4', inner: '1', outer: '5', moves: 0 };
    const lines = pointsTable([
      { ...row, pretended: true },
      { ...row, pretended: false },
    ]);
    expect(lines.map((line) => line.trimEnd())).toEqual([
      'Point      The guest sees  This host gave  Moves',
      'domain id  1               5 (pretended)       0',
      'domain id  1               5                   0',
    ]);
  });
  it('list has the columns of xl list', () => {
    expect(listTable([row])).toEqual([
      'Name                                        ID   Mem VCPUs\tState\tTime(s)',
      'coopd                                        9   128     1     -b----      12.3',
    ]);
  });
  it('uptime counts days as xl uptime does', () => {
    expect(uptimeTable([row])[1]).toBe('coopd                                9 1 day, 2:03:04');
    expect(duration(59)).toBe('0:00:59');
    expect(duration(200_000)).toBe('2 days, 7:33:20');
  });
  it('vcpu-list names each vCPU and its state', () => {
    const [, line] = vcpuTable([
      { domid: 9, name: 'coopd', vcpus: [{ id: 0, state: 'blocked', seconds: 1 }] },
    ]);
    expect(line).toBe('coopd                                9     0     -   -b-        1.0  all / all');
  });
});
