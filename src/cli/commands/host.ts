/** `stillpoint host`: runs a host's daemon; `host init` makes its key, `host trust` trusts another's certificate. */
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import type { Client } from '../../client/index.js';
import type { GuestCode } from '../../control/code-store.js';
import { Failure } from '../../protocol/failure.js';
import type { Right } from '../../protocol/table.js';
import { initIdentity, loadTrusted, trust, untrust } from '../../transport/identity.js';
import { parseAddress } from '../../transport/peer.js';
import { connectDaemon, defaultDirectory } from '../daemon-client.js';
import { guarded, printJson, printLine } from '../verb.js';

interface RunOptions {
  readonly name: string;
  readonly dir: string;
  readonly listen?: string;
  readonly config?: string;
  readonly plainLoopback?: boolean;
  readonly unconfined?: boolean;
  readonly overcommit?: boolean;
  readonly code?: 'copy' | 'in-place';
  readonly iKnow?: boolean;
  readonly json?: boolean;
}

const STDERR = 2;

async function run(options: RunOptions): Promise<void> {
  if (options.plainLoopback === true && options.iKnow !== true && process.getuid?.() === 0)
    throw new Failure(
      'usage',
      '--plain-loopback lets every user of this machine do all that root can by this daemon: --i-know says that it shall',
    );
  // These modules are loaded only here, so that the other verbs start sooner.
  const [
    { codeInPlace, isInstalled, keepCode },
    { pino },
    { openHostConfig },
    { HostDaemon },
    { LogOutput },
  ] = await Promise.all([
    import('../../control/code-store.js'),
    import('pino'),
    import('../../control/host-config.js'),
    import('../../control/host-daemon.js'),
    import('../../os/log-output.js'),
  ]);
  const opened = await openHostConfig(options.config, options.name);
  const log = pino({ base: { host: options.name } }, new LogOutput(STDERR));
  const codeOf = (): GuestCode => {
    if (options.code === 'in-place' || (options.code === undefined && !isInstalled())) return codeInPlace;
    try {
      return keepCode(options.dir);
    } catch (error) {
      log.error(
        { error: (error as Error).message },
        'the code is not copied: guests run the installed files',
      );
      return codeInPlace;
    }
  };
  const daemon = new HostDaemon({
    dir: options.dir,
    listen: options.listen === undefined ? undefined : parseAddress(options.listen),
    plainLoopback: options.plainLoopback === true,
    unconfined: options.unconfined === true,
    code: codeOf(),
    ...opened,
    config: { ...opened.config, overcommit: opened.config.overcommit || options.overcommit === true },
    log,
  });
  const port = await daemon.start().catch((error) => {
    daemon.close();
    // What it has started for its guests would keep this process alive.
    setImmediate(() => process.exit());
    throw error;
  });
  if (options.json === true) printJson({ name: options.name, dir: options.dir, port, pid: process.pid });
  else printLine(`host ${options.name} is ready in ${options.dir}${port === 0 ? '' : `, port ${port}`}`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      daemon.close();
      process.exit(0);
    });
  }
}

/** Makes the daemon of this directory, if it runs, read again which hosts it trusts. */
async function tellDaemon(dir: string): Promise<void> {
  let client: Client;
  try {
    client = await connectDaemon({ dir });
  } catch (error) {
    if (error instanceof Failure && error.code === 'no-daemon') return;
    throw error;
  }
  try {
    await client.request('trustChanged', {});
  } finally {
    client.close();
  }
}

function parseRights(text: string): Right[] {
  return text.split(',').map((right) => {
    if (right === 'move' || right === 'control') return right;
    throw new Failure('usage', `--allow takes move and control, found ${right}`);
  });
}

export function register(program: Command): void {
  const host = program
    .command('host')
    .description("run this host's daemon, which owns its guests")
    .option('--name <name>', 'name of this host', 'stillpoint')
    .option('--listen <host:port>', 'where other hosts reach it; port 0 takes any')
    .option('--dir <dir>', 'where it keeps its things (or STILLPOINT_DIR)', defaultDirectory())
    .option('--config <file>', 'what this host is like (docs/hosts.md)')
    .option('--plain-loopback', 'listen without encryption or proof of identity, on loopback only')
    .option('--overcommit', 'guests may have more memory together than this host has (docs/domains.md)')
    .option('--unconfined', 'start guests also where their processes cannot be confined (docs/security.md)')
    .addOption(
      new Option(
        '--code <where>',
        "copy: guests' processes run a copy of this version; in-place: the installed files, which must not be replaced then (docs/domains.md)",
      ).choices(['copy', 'in-place']),
    )
    .option('--i-know', 'root too may listen so, for all users of this machine')
    .option('--json', 'print JSON')
    .action((options: RunOptions) => guarded(options.json, () => run(options)));

  host
    .command('init')
    .description("make this host's key and certificate")
    .action((_: unknown, command: Command) => {
      const { dir, json } = command.optsWithGlobals<RunOptions>();
      return guarded(json, async () => {
        const { fingerprint, certificate } = await initIdentity(dir);
        if (json === true) printJson({ fingerprint, certificate });
        else
          printLine(
            `${dir}/identity/cert.pem: give this file to the hosts that shall trust this one\nSHA-256 ${fingerprint}`,
          );
      });
    });

  host
    .command('trust <name> <certificate>')
    .description("trust another host's certificate (its identity/cert.pem, compared by fingerprint)")
    .option('--address <host:port>', 'where its daemon listens', '')
    .option('--allow <rights>', 'what it may do here: move, control, or both with a comma', 'move')
    .action((name: string, file: string, _: unknown, command: Command) => {
      const { dir, json, address, allow } = command.optsWithGlobals<
        RunOptions & { address: string; allow: string }
      >();
      return guarded(json, async () => {
        if (address !== '') parseAddress(address);
        const entry = trust(dir, name, readFileSync(file, 'utf8'), address, parseRights(allow));
        await tellDaemon(dir);
        if (json === true) printJson(entry);
        else printLine(`${name} is trusted (${entry.allow.join(', ')})\nSHA-256 ${entry.fingerprint}`);
      });
    });

  host
    .command('untrust <name>')
    .description('trust a host no longer; its open connections end at once')
    .action((name: string, _: unknown, command: Command) => {
      const { dir, json } = command.optsWithGlobals<RunOptions>();
      return guarded(json, async () => {
        untrust(dir, name);
        await tellDaemon(dir);
        if (json === true) printJson({ name });
        else printLine(`${name} is trusted no longer`);
      });
    });

  host
    .command('trusted')
    .description('list the hosts that are trusted')
    .action((_: unknown, command: Command) => {
      const { dir, json } = command.optsWithGlobals<RunOptions>();
      return guarded(json, async () => {
        const all = loadTrusted(dir);
        if (json === true) printJson(all);
        else
          for (const t of all)
            printLine(
              `${t.name.padEnd(20)} ${t.address.padEnd(22)} ${t.allow.join(',').padEnd(13)} ${t.fingerprint}`,
            );
      });
    });
}
