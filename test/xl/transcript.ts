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

/** The answer without what differs between two runs by nature, so that a later capture can be compared. */
export const masked = ({ command, status, out, err }: XlAnswer): string =>
  JSON.stringify({ command, status, out: plain(out), err: plain(err).split('\n').sort() });

/** Figures and how wide they are; uuids; what a domain does at the moment; what names a package's build. */
const plain = (text: string): string =>
  text
    .replace(/^(release|version|hw_caps|xen_commandline|cc_\w+|build_id)( *: ).*$/gm, '$1$2')
    .replace(/^\(XEN\).*$/gm, '(XEN)')
    .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UUID')
    .replace(/ [r-][b-][p-]([s-]\S[d-])? /g, ' STATE ')
    .replace(/ *\d+/g, ' 0');
