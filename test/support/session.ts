/** `stillpoint run` as a child process on pipes, and a conversation with its guest: it types, and waits for output. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { inRoot } from '../../scripts/lib/root.js';

const MAIN = inRoot('dist/cli/main.js');

export class Session {
  private readonly child: ChildProcess;
  /** Everything that the guest has printed. */
  output = '';
  errors = '';
  private read = 0;
  private listener: (() => void) | undefined;
  readonly ended: Promise<number | null>;

  /** `node`: the Node that runs it; by default the one of the tests. */
  constructor(args: readonly string[], node = process.execPath) {
    this.child = spawn(node, [MAIN, 'run', ...args]);
    this.child.stdout!.on('data', (bytes: Buffer) => {
      this.output += bytes.toString('latin1');
      this.listener?.();
    });
    this.child.stderr!.on('data', (bytes) => {
      this.errors += bytes;
    });
    this.ended = new Promise((done) => this.child.on('close', done));
    void this.ended.then(() => this.listener?.());
  }

  /**
   * Waits for `pattern` in what was printed since the last match, and continues after it. `whole`: the match extends to
   * the end of the output.
   */
  async expect(pattern: RegExp, whole = false): Promise<RegExpMatchArray> {
    for (;;) {
      const unread = this.output.slice(this.read);
      const match = unread.match(pattern);
      if (match !== null) {
        const end = match.index! + match[0].length;
        this.read += end;
        if (whole) match[0] = unread.slice(0, end);
        return match;
      }
      if (this.child.exitCode !== null || this.child.signalCode !== null)
        throw new Error(`ended before ${pattern}: ${this.output.slice(-2000)}\n${this.errors}`);
      await new Promise<void>((done) => {
        this.listener = done;
      });
    }
  }

  type(text: string): void {
    this.child.stdin!.write(text);
  }

  /** Runs a command in the guest's shell. Returns what it printed. Throws if it failed. */
  async command(line: string): Promise<string> {
    // The typed text is echoed: the quotes keep the echo from matching.
    this.type(`echo BE''GIN; ${line}; echo "DONE=$?"\n`);
    await this.expect(/BEGIN\r\n/);
    const [text, status] = await this.expect(/DONE=(\d+)\r\n/, true);
    if (status !== '0') throw new Error(`${line}: status ${status}\n${text}`);
    return text.slice(0, text.lastIndexOf('DONE=')).replaceAll('\r\n', '\n');
  }

  /** The process's peak resident memory so far, in MiB. */
  peakMemoryMib(): number {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) / 1024;
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }
}
