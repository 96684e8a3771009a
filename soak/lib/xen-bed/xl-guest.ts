// A domain of the bed as an administrator has it: by stock xl, its console, and what its helper shows in xenstore.
import type { XenBed } from './xen-bed.js';

/** How long `xl migrate`, `save` and `restore` may take in the emulator, s. */
const MOVE_S = 240;
const CREATE_S = 120;
/** How often what dom0 has is looked at: each look costs dom0 as much as a tenth of a second here, and more. */
const LOOK_MS = 1000;
const LOGS = '/var/log/xen/console';

/** What a helper shows: src/appliance/published.ts. */
export interface HelperState {
  readonly state: string;
  readonly domid: number;
  readonly moves: number;
  readonly outageNs: number;
}
export interface HelperPoint {
  readonly name: string;
  readonly inner: string;
  readonly outer: readonly string[];
}

export interface Moved {
  readonly seconds: number;
  /** Of the stream, at the last of its looks, five a second; or of the file. */
  readonly bytes: number;
}

export interface Answer {
  readonly status: number;
  readonly seconds: number;
  /** The first line that says why it failed. */
  readonly words: string;
}

export class XlGuest {
  constructor(
    readonly bed: XenBed,
    readonly name: string,
  ) {}

  async create(): Promise<void> {
    // The console's earlier logs are those of others.
    await this.bed.must(`rm -f ${LOGS}/guest-${this.name}.log ${LOGS}/guest-${this.name}--incoming.log`, 30);
    await this.bed.must(`xl create /s/${this.name}.cfg`, CREATE_S);
  }

  async domid(): Promise<number> {
    return Number(await this.bed.must(`xl domid ${this.name}`, 30));
  }

  async lives(): Promise<boolean> {
    return (await this.bed.run(`xl domid ${this.name}`, 30)).status === 0;
  }

  /** All that its console has said since `create`. xenconsoled has a log for each name under which it was created. */
  async console(): Promise<string> {
    const files = [`${LOGS}/guest-${this.name}.log`, `${LOGS}/guest-${this.name}--incoming.log`];
    const { text } = await this.bed.run(`cat ${files.join(' ')} 2>/dev/null`, 60);
    return text.replaceAll('\r', '');
  }

  /** Until its console has said it; `from` is the number of earlier matches that do not count. */
  async until(pattern: RegExp, seconds: number, from = 0): Promise<RegExpMatchArray> {
    const all = new RegExp(pattern.source, `${pattern.flags.replace('g', '')}g`);
    const end = Date.now() + seconds * 1000;
    for (;;) {
      const text = await this.console();
      const found = [...text.matchAll(all)];
      if (found.length > from) return found[found.length - 1] as RegExpMatchArray;
      if (Date.now() > end)
        throw new Error(
          `${this.name} has not said ${pattern} in ${seconds} s; its last words:\n${text.slice(-1500)}\n${await this.words()}`,
        );
      await new Promise((done) => setTimeout(done, LOOK_MS));
    }
  }

  /** How often its console has said it so far. */
  async count(pattern: RegExp): Promise<number> {
    return [...(await this.console()).matchAll(new RegExp(pattern.source, 'g'))].length;
  }

  /** Types on its console as `xl console` does: through the terminal that xenconsoled has for it. */
  async type(text: string): Promise<void> {
    const words = Buffer.from(text).toString('base64');
    await this.bed.must(
      `d=$(xl domid ${this.name}) && echo ${words} | base64 -d >"$(xenstore-read /local/domain/$d/console/tty)"`,
      30,
    );
  }

  /** Runs a command of the guest's shell, and waits until it has ended: what it printed, and nothing earlier. */
  async shell(command: string, seconds: number): Promise<string> {
    const mark = Math.floor(Math.random() * 1e9);
    // The echo of what is typed has the words with quotes between.
    await this.type(`echo "<b""${mark}>"; ${command}; echo "<e""${mark}>"\n`);
    await this.until(new RegExp(`<e${mark}>`), seconds);
    const text = await this.console();
    return text.slice(text.indexOf(`<b${mark}>`), text.indexOf(`<e${mark}>`)).slice(`<b${mark}>`.length);
  }

  /** Runs a command, whether it fails or not. */
  async ask(command: string): Promise<Answer> {
    const began = performance.now();
    const { status, text } = await this.bed.run(`${command} 2>&1`, MOVE_S);
    const said = text.split('\n').filter((line) => /error|fail|acknowledge|cancel/i.test(line));
    return {
      status,
      seconds: (performance.now() - began) / 1000,
      words: (said[0] ?? text.slice(-200)).trim(),
    };
  }

  get migration(): string {
    return `xl migrate -s /sbin/counting-ssh ${this.name} localhost`;
  }
  get saving(): string {
    return `xl save ${this.name} /s/${this.name}.save`;
  }
  get restoring(): string {
    return `xl restore /s/${this.name}.save`;
  }

  private async timed(command: string): Promise<number> {
    const { status, seconds, words } = await this.ask(command);
    if (status !== 0)
      throw new Error(`"${command}" ended with status ${status}: ${words}\n${await this.words()}`);
    return seconds;
  }

  /** MiB that Xen has given to the domain. */
  async memoryMib(): Promise<number> {
    return Number((await this.bed.must(`xl list ${this.name} | tail -n 1`, 30)).trim().split(/ +/)[2]);
  }

  async migrate(): Promise<Moved> {
    const seconds = await this.timed(this.migration);
    return { seconds, bytes: Number(await this.bed.must('cat /s/bytes', 30)) };
  }

  async save(): Promise<Moved> {
    const seconds = await this.timed(this.saving);
    return { seconds, bytes: Number(await this.bed.must(`stat -c %s /s/${this.name}.save`, 30)) };
  }

  async restore(): Promise<number> {
    const seconds = await this.timed(this.restoring);
    await this.bed.must(`rm -f /s/${this.name}.save`, 30);
    return seconds;
  }

  private read(path: string): string {
    return `d=$(xl domid ${this.name}) && xenstore-read -R /local/domain/$d/data/stillpoint/${path}`;
  }

  async state(): Promise<HelperState> {
    return JSON.parse(await this.bed.must(this.read('state'), 30)) as HelperState;
  }

  /** Waits until the helper has noticed that it is domain `xl domid` now, and shows it. */
  async settled(seconds = 60): Promise<HelperState> {
    const end = Date.now() + seconds * 1000;
    for (;;) {
      const { status, text } = await this.bed.run(this.read('state'), 30);
      const state = status === 0 ? (JSON.parse(text) as HelperState) : undefined;
      if (state !== undefined && state.domid === (await this.domid()) && state.state === 'running')
        return state;
      if (Date.now() > end)
        throw new Error(`the helper of ${this.name} does not show itself: ${text}\n${await this.words()}`);
      await new Promise((done) => setTimeout(done, LOOK_MS));
    }
  }

  async points(): Promise<HelperPoint[]> {
    const text = await this.bed.must(
      `d=$(xl domid ${this.name}); p=/local/domain/$d/data/stillpoint/points; for i in $(xenstore-list $p | sort -n); do xenstore-read -R $p/$i; echo; done`,
      60,
    );
    return text
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as HelperPoint);
  }

  /** The helper's own log, and its last words if it has crashed; for errors. */
  async words(): Promise<string> {
    const { text } = await this.bed.run(
      `${this.read('log')}; xenstore-read /local/domain/$d/data/stillpoint/crash; tail -n 5 /var/log/xen/xl-${this.name}.log`,
      30,
    );
    return text;
  }

  async destroy(): Promise<void> {
    await this.bed.run(`xl destroy ${this.name}`, 60);
  }
}
