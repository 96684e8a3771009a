import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConfigError, type ConfigValue, parseConfig, quoted } from './xl-cfg.js';

type Plain = string | Plain[];
const plain = (v: ConfigValue): Plain => (v.kind === 'text' ? v.text : v.items.map(plain));
const parse = (source: string): Record<string, Plain> =>
  Object.fromEntries([...parseConfig(source, 'g.cfg').settings].map(([k, s]) => [k, plain(s.value)]));

describe('the syntax of xl.cfg', () => {
  test('strings in either kind of quotes, numbers in three bases, lists over several lines, comments, semicolons', () => {
    const source = `
# a guest
name = "web"   # trailing
memory=0x80;vcpus = 010
kernel='/boot/vm#linuz'; extra = "root='/dev/xvda' x;y"
disk = [ 'a,raw,xvda',
         # one more
         "b,raw,xvdb",
       ]
vif=[]`;
    expect(parse(source)).toEqual({
      name: 'web',
      memory: '0x80',
      vcpus: '010',
      kernel: '/boot/vm#linuz',
      extra: "root='/dev/xvda' x;y",
      disk: ['a,raw,xvda', 'b,raw,xvdb'],
      vif: [],
    });
  });

  test('escapes are those of C', () => {
    expect(parse(`a = "q\\"q" ; b = 'it\\'s' ; c = "\\x41\\101\\n\\t\\\\"`)).toEqual({
      a: 'q"q',
      b: "it's",
      c: 'AA\n\t\\',
    });
  });

  test('escapes stand for bytes, which have to be UTF-8 together', () => {
    expect(parse(`a = "\\xc3\\xa9 \\303\\251" ; b = "é\\xc3\\xa9\\x41"`)).toEqual({ a: 'é é', b: 'ééA' });
    expect(() => parse('\na = "\\xe9"')).toThrow('g.cfg:2:5: the string has bytes that are not UTF-8');
  });

  test('bytes that are not UTF-8 may be in comments, but not in strings', () => {
    const latin1 = (text: string) => parse(Buffer.from(text, 'latin1').toString('utf8'));
    expect(latin1('# Grüße\na = 1')).toEqual({ a: '1' });
    expect(() => latin1('a = "Grüße"')).toThrow(
      'g.cfg:1:5: the string has bytes that are not UTF-8: save the file',
    );
  });

  test('a byte order mark, and names with dots', () => {
    expect(parse('\ufeffname = "g"\na.b = 1\n')).toEqual({ name: 'g', 'a.b': '1' });
    expect(() => parse('a = 1\n\ufeffb = 1')).toThrow('g.cfg:2:1: ');
  });

  test.each([
    ['import os, re', '1:8', 'import os, re'],
    ['a = 1\ndef number(value):\n    return 1', '2:5', 'def number(value):'],
    ['name = "vm%d" % vmid', '1:15', 'name = "vm%d" % vmid'],
    ['name = "a" + "b" # c', '1:12', 'name = "a" + "b" # c'],
    ['vcpus = int(2)', '1:9', 'vcpus = int(2)'],
    ['acpi = True', '1:8', 'acpi = True'],
    ['disk = ( "x", )', '1:8', 'disk = ( "x", )'],
    ['if 1:\n  a = 1', '1:4', 'if 1:'],
    ['try:\n  a = 1', '1:4', 'try:'],
    ['a = 1\npass\nb = 2', '2:5', 'pass'],
  ])('%j looks like Python, and the message shows the line', (source, place, line) => {
    expect(() => parse(source)).toThrow(`g.cfg:${place}: `);
    expect(() => parse(source)).toThrow(/[.] This looks like Python, which neither xl nor Stillpoint runs; /);
    expect(() => parse(source)).toThrow(new RegExp(`${line.replace(/[^\w ]/g, '[$&]')}$`));
  });

  test.each(['a = "x.(", b', 'kernel = vmlinuz', 'a = [ "import(os)" "x" ]', 'a = 1 # print(x)\nb = c'])(
    '%j is wrong, but not like Python',
    (source) => {
      expect(() => parse(source)).toThrow(ConfigError);
      expect(() => parse(source)).not.toThrow('Python');
    },
  );

  test('a long line that is wrong is refused at once, and not shown whole', () => {
    for (const line of ['a = "', `a = (${"'".repeat(9)}`, `a = 1 ${'b'.repeat(5000)} `]) {
      let message = '';
      try {
        parse(`${line}${'\\"'.repeat(200_000)}`);
      } catch (error) {
        message = (error as Error).message;
      }
      expect(message.length).toBeGreaterThan(0);
      expect(message.length).toBeLessThan(400);
    }
  });

  test('lists nest', () => {
    expect(parse('vnuma = [ [ "pnode=0", "size=1000" ], [ "pnode=1" ] ]')).toEqual({
      vnuma: [['pnode=0', 'size=1000'], ['pnode=1']],
    });
  });

  test('+= adds text to text and items to items', () => {
    expect(parse('extra = "a"\nextra += " b"\ndisk += ["x"]\ndisk += ["y"]')).toEqual({
      extra: 'a b',
      disk: ['x', 'y'],
    });
    expect(() => parse('a = "x"\na += ["y"]')).toThrow('g.cfg:2:6: a list cannot be added to a string');
  });

  test('of two settings of one name the last counts, and the first gets a warning', () => {
    const config = parseConfig('memory = 1\n\nmemory = 2\n', 'g.cfg');
    expect(plain(config.settings.get('memory')!.value)).toBe('2');
    expect(config.replaced.map((s) => s.line)).toEqual([1]);
  });

  test('a file without a final newline, one with carriage returns, and an empty one', () => {
    expect(parse('a = 1')).toEqual({ a: '1' });
    expect(parse('a = 1\r\nb = "x"\r\n')).toEqual({ a: '1', b: 'x' });
    expect(parse('')).toEqual({});
    expect(parse(' # nothing\n;;\n')).toEqual({});
  });

  test.each([
    ['name', '1:5: "=" is expected after name, found the end of the file'],
    ['name = \n', '1:8: a string, a number or a list is expected, found the end of the line'],
    ['a = 1\nb = "x\nc = 2', '2:5: the string does not end on its line'],
    ['a = [ 1, 2', '1:11: "," or "]" is expected in a list, found the end of the file'],
    ['a = [ 1 2 ]', '1:9: "," or "]" is expected in a list, found "2"'],
    ['a = [ , ]', '1:7: a string, a number or a list is expected, found ","'],
    ['a = 1 b = 2', '1:7: the line should end after the value of a, found "b"'],
    ['  7 = 1', '1:3: a setting is expected, found "7"'],
    ['import os, re', '1:8: "=" is expected after import, found "os"'],
    ['a = range(3)', '1:5: a string, a number or a list is expected, found "range"'],
    ['a = -1', '1:5: "-" is not expected in a configuration'],
    ['a = /b', '1:5: "/" is not expected in a configuration: a string stands in quotes'],
    ['a = "\\q"', '1:5: \\q is not an escape sequence of strings'],
    ['a = "\\x4"', '1:5: \\x in a string takes two hexadecimal digits'],
    [`a = ${'['.repeat(17)}`, '1:21: lists are nested deeper than 16'],
  ])('%j is refused with its place', (source, message) => {
    expect(() => parse(source)).toThrow(ConfigError);
    expect(() => parse(source)).toThrow(`g.cfg:${message}`);
  });

  test('any text at all is parsed or refused with file, line and column', () => {
    const piece = fc.constantFrom(
      'a',
      '=',
      '+=',
      '[',
      ']',
      ',',
      '"',
      "'",
      '\\',
      '\n',
      ' ',
      '#',
      ';',
      '0x1',
      'x y',
      'ü',
      '\0',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        try {
          parse(pieces.join(''));
        } catch (e) {
          expect(e).toBeInstanceOf(ConfigError);
          expect((e as Error).message).toMatch(/^g\.cfg:\d+:\d+: /);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test('what is written is read back, whatever the strings are', () => {
    fc.assert(
      fc.property(fc.string(), fc.array(fc.string()), (text, list) => {
        expect(parse(`t = ${quoted(text)}\nl = [${list.map(quoted).join(',\n')}]`)).toEqual({
          t: text,
          l: list,
        });
      }),
    );
  });
});
