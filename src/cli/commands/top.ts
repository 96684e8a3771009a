/** `stillpoint top`: guests by the processor time that they use now, again and again. */
import type { Command } from 'commander';
import type { DomainRow } from '../../protocol/control.js';
import { decimal, MAX_TIMEOUT_S, whole } from '../arguments.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly delay: number;
  readonly iterations: number;
}

export function register(program: Command): void {
  verb(program, 'top', 'show what guests use, like xentop')
    .option('-d, --delay <s>', 'seconds between two looks', decimal(0.1, MAX_TIMEOUT_S), 2)
    .option('-i, --iterations <n>', 'looks; 0 for no end', whole(0, Number.MAX_SAFE_INTEGER), 0)
    .action((options: Options) =>
      withDaemon(options, async (client) => {
        let before = new Map<string, number>();
        let at = performance.now();
        for (let look = 1; ; look++) {
          const rows = await client.request('list', {});
          const now = performance.now();
          const usage = rows
            .map((r) => ({ ...r, cpuPercent: percent(r, before, now - at) }))
            .sort((a, b) => b.cpuPercent - a.cpuPercent);
          before = new Map(rows.map((r) => [r.uuid, r.seconds]));
          at = now;
          if (options.json === true) printJson(usage);
          else {
            if (process.stdout.isTTY) process.stdout.write('\x1b[H\x1b[J');
            printLine('      NAME  STATE   CPU(sec) CPU(%)   MEM(MiB)   RSS(MiB) VCPUS   INSTRUCTIONS');
            for (const r of usage) {
              printLine(
                `${r.name.slice(-10).padStart(10)} ${r.state} ${r.seconds.toFixed(0).padStart(10)} ${r.cpuPercent.toFixed(1).padStart(6)} ` +
                  `${String(r.memoryMib).padStart(10)} ${(r.rssKib / 1024).toFixed(0).padStart(10)} ${String(r.vcpus).padStart(5)} ${String(r.instructions).padStart(14)}`,
              );
            }
          }
          if (look === options.iterations) return;
          await new Promise((done) => setTimeout(done, options.delay * 1000));
        }
      }),
    );
}

function percent(row: DomainRow, before: ReadonlyMap<string, number>, elapsedMs: number): number {
  const earlier = before.get(row.uuid);
  return earlier === undefined
    ? 0
    : Math.max(0, ((row.seconds - earlier) / Math.max(elapsedMs, 1)) * 100_000);
}
