/** What a command of xl answered, as test/xl/fixtures keeps it: by `npm run soak -- xl`, on a real Xen 4.17. */

export interface XlAnswer {
  readonly command: string;
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

/** Each line is led by a letter: $ the command, = its exit status, > its output, ! its errors; ~ no newline at the end. */
export function transcriptText(answers: readonly XlAnswer[]): string {
  const led = (sign: string, text: string): string[] => {
    if (text === '') return [];
    const lines = text.split('\n');
    if (lines[lines.length - 1] === '') lines.pop();
    else return [...lines.map((line) => `${sign}${line}`), `${sign}~`];
    return lines.map((line) => `${sign}${line}`);
  };
  return answers
    .flatMap(({ command, status, out, err }) => [
      `$${command}`,
      `=${status}`,
      ...led('>', out),
      ...led('!', err),
      '',
    ])
    .join('\n');
}

export function parseTranscript(text: string): XlAnswer[] {
  const answers: XlAnswer[] = [];
  const joined = (lines: readonly string[], sign: string): string => {
    const own = lines.filter((line) => line.startsWith(sign)).map((line) => line.slice(1));
    if (own.length === 0) return '';
    return own[own.length - 1] === '~' ? own.slice(0, -1).join('\n') : `${own.join('\n')}\n`;
  };
  for (const block of text.split(/\n\n(?=\$)|\n$/)) {
    if (!block.startsWith('$')) continue;
    const lines = block.split('\n');
    answers.push({
      command: lines[0].slice(1),
      status: Number(lines[1].slice(1)),
      out: joined(lines.slice(2), '>'),
      err: joined(lines.slice(2), '!'),
    });
  }
  return answers;
}

/** The answer without what differs between two runs by nature: figures, and how wide they are. */
export const masked = ({ command, status, out, err }: XlAnswer): string =>
  JSON.stringify({ command, status, out: out.replace(/ *\d+/g, ' 0'), err: err.replace(/ *\d+/g, ' 0') });
