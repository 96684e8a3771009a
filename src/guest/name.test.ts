import { describe, expect, it } from 'vitest';
import { isDomainId, MAX_NAME_LENGTH, nameFault, quotedName } from '../protocol/name.js';
import { readXlConfig } from './config.js';

describe('the name of a guest', () => {
  it.each([
    'web',
    'web 1',
    'a',
    '3a',
    '0x3',
    '3.0',
    'größe',
    'день',
    '盆栽',
    'x'.repeat(MAX_NAME_LENGTH),
    'deadbeef',
  ])('may be %j', (name) => expect(nameFault(name)).toBeUndefined());

  it.each<[unknown, string]>([
    ['', 'is empty'],
    [7, 'is not text'],
    [undefined, 'is not text'],
    ['3', 'has digits only, as a domain id'],
    ['0042', 'has digits only, as a domain id'],
    ['7a1c1ad0-5e57-4c1b-9e0a-0123456789ab', 'is a uuid'],
    ['7A1C1AD0-5E57-4C1B-9E0A-0123456789AB', 'is a uuid'],
    ['x'.repeat(MAX_NAME_LENGTH + 1), 'has more than 255 characters'],
    ['a/b', 'has a slash in it'],
    [' a', 'begins or ends with a blank'],
    ['a ', 'begins or ends with a blank'],
    ['--force', 'begins with a hyphen, as an option'],
    ...['\0', '\n', '\x1b[2J', '\x7f', '\x9b', '\u202e', '\u2028', '\ud800', '\ufeff'].map(
      (c): [unknown, string] => [`a${c}b`, 'has characters that cannot be printed'],
    ),
  ])('may not be %j: it %s', (name, why) =>
    expect(nameFault(name)).toBe(`name ${quotedName(name)} cannot be the name of a guest: it ${why}`),
  );

  it('must follow the rule in a configuration too, or is refused with file and line', () => {
    const read = (name: string) => () => readXlConfig(`name = '${name}'\nkernel = 'k'\n`, 'g.cfg');
    expect(read('3')).toThrow('g.cfg:1:1: name "3" cannot be the name of a guest: it has digits only');
    expect(read('a\x1bb')).toThrow(
      'g.cfg:1:1: name "a\\u001bb" cannot be the name of a guest: it has characters that cannot be printed',
    );
    expect(read('web').call(undefined).name).toBe('web');
  });

  it('is told from a domain id, and is printed without control characters', () => {
    expect(['3', '12', '3a', '', '-3', '+3', ' 3', '٣'].filter(isDomainId)).toEqual(['3', '12']);
    expect(quotedName('\x1b[31mred')).toBe('"\\u001b[31mred"');
    expect(quotedName('x'.repeat(100)).length).toBe(66);
  });
});
