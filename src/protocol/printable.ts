/**
 * Text that a guest, its process or another host gave, on its way to a log or a terminal: whatever could move a cursor,
 * change a colour, turn the direction of writing or begin a line of its own stands there as an escape.
 */

/** Control, format, private and unpaired characters, and the two other ends of lines. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** "\n" for an end of line, "\x1b" for an escape, "\u202e" for what turns the direction. */
function escapeOf(character: string): string {
  if (character === '\n') return '\\n';
  if (character === '\t') return '\\t';
  if (character === '\r') return '\\r';
  const code = character.codePointAt(0)!;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`;
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, '0')}` : `\\u{${code.toString(16)}}`;
}

/** One line of `text` that can be printed: of more than `most` characters only the beginning. */
export function printable(text: string, most = Number.POSITIVE_INFINITY): string {
  const beginning = text.length > most ? `${text.slice(0, most)}...` : text;
  return beginning.replace(HIDDEN, escapeOf);
}

/** The same of several lines: the ends of lines and the tabulators stay. */
export const printableLines = (text: string): string =>
  text.replace(HIDDEN, (character) =>
    character === '\n' || character === '\t' ? character : escapeOf(character),
  );

/** The same of JSON, of one line or more: it stays JSON of the same value. */
export const printableJson = (json: string): string =>
  json.replace(HIDDEN, (character) => {
    if (character === '\n') return character;
    const units = Array.from({ length: character.length }, (_, i) => character.charCodeAt(i));
    return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
  });
