/**
 * Makes text from a guest, its process or another host safe for a log or a terminal: characters that could move the
 * cursor, change a colour, change the direction of writing or start a new line are replaced by escapes.
 */

/** Control, format, private-use and unpaired characters, and the two Unicode line separators. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** "\n" for a line end, "\x1b" for the escape character, "\u202e" for a change of direction. */
function escapeOf(character: string): string {
  if (character === '\n') return '\\n';
  if (character === '\t') return '\\t';
  if (character === '\r') return '\\r';
  const code = character.codePointAt(0)!;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`;
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, '0')}` : `\\u{${code.toString(16)}}`;
}

/** `text` as one printable line; if it has more than `most` characters, only its beginning. */
export function printable(text: string, most = Number.POSITIVE_INFINITY): string {
  const beginning = text.length > most ? `${text.slice(0, most)}...` : text;
  return beginning.replace(HIDDEN, escapeOf);
}

/** The same for several lines: line ends and tabs stay. */
export const printableLines = (text: string): string =>
  text.replace(HIDDEN, (character) =>
    character === '\n' || character === '\t' ? character : escapeOf(character),
  );

/** The same for JSON of one line or more: the result is JSON of the same value. */
export const printableJson = (json: string): string =>
  json.replace(HIDDEN, (character) => {
    if (character === '\n') return character;
    const units = Array.from({ length: character.length }, (_, i) => character.charCodeAt(i));
    return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
  });
