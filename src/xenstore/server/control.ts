/**
 * CONTROL: commands for the administrator of the server.
 * Source: docs/misc/xenstore.txt (CONTROL). The answers have the texts of a xenstored 4.17 that was built without
 * live update; here a new server takes over with `--state`.
 */
import { EINVAL, ENOENT, ENOSYS } from '../../xen/errno.js';
import type { Errno } from '../core/errno.js';
import { atoi } from '../core/path.js';
import { isQuotaName, QUOTA_DESCRIPTIONS, QUOTA_NAMES } from '../core/quotas.js';
import type { Hub } from './hub.js';

interface Command {
  readonly parameters: string;
  run(hub: Hub, args: readonly string[]): string | Errno;
}

const OK = 'OK\0';

const COMMANDS: Readonly<Record<string, Command>> = {
  check: {
    parameters: '',
    run(hub, args) {
      if (args.length > 0) return EINVAL;
      for (const line of hub.store.accounts.recount(hub.store.tree)) hub.options.log?.(line);
      return OK;
    },
  },
  log: {
    parameters: 'on|off',
    run(hub, args) {
      if (args.length !== 1 || (args[0] !== 'on' && args[0] !== 'off')) return EINVAL;
      hub.logging = args[0] === 'on';
      return OK;
    },
  },
  logfile: {
    parameters: '<file>',
    run(hub, args) {
      if (args.length !== 1) return EINVAL;
      if (hub.options.logTo === undefined) return ENOSYS;
      hub.options.logTo(args[0]);
      return OK;
    },
  },
  memreport: {
    parameters: '[<file>]',
    run(hub, args) {
      if (args.length > 1) return EINVAL;
      if (args.length === 0) for (const line of report(hub)) hub.options.log?.(line);
      else if (hub.options.writeReport === undefined) return ENOSYS;
      else hub.options.writeReport(args[0], `${report(hub).join('\n')}\n`);
      return OK;
    },
  },
  print: {
    parameters: '<string>',
    run(hub, args) {
      if (args.length !== 1) return EINVAL;
      hub.options.log?.(`control: ${args[0]}`);
      return OK;
    },
  },
  quota: {
    parameters: '[set <name> <val>|<domid>]',
    run(hub, args) {
      const { store } = hub;
      if (args.length === 0) {
        const lines = QUOTA_NAMES.map((name) =>
          line(name, store.accounts.quotas[name], QUOTA_DESCRIPTIONS[name]),
        );
        return `Quota settings:\n${lines.join('')}\0`;
      }
      if (args[0] === 'set') {
        const value = args.length === 3 ? atoi(args[2]) : 0;
        if (value < 1 || !isQuotaName(args[1])) return EINVAL;
        store.accounts.quotas[args[1]] = value;
        hub.onSettings();
        return OK;
      }
      return args.length === 1 ? usage(hub, atoi(args[0])) : EINVAL;
    },
  },
  'quota-soft': {
    parameters: '[set <name> <val>]',
    run(hub, args) {
      const { store } = hub;
      if (args.length === 0)
        return `Quota settings:\n${line('memory', store.accounts.softMemory, 'Total Xenstore memory per domain (warning level)')}\0`;
      const value = args.length === 3 && args[0] === 'set' && args[1] === 'memory' ? atoi(args[2]) : 0;
      if (value < 1) return EINVAL;
      store.accounts.softMemory = value;
      hub.onSettings();
      return OK;
    },
  },
  help: {
    parameters: '',
    run(_, args) {
      if (args.length > 0) return EINVAL;
      return `${Object.entries(COMMANDS)
        .map(([name, command]) => `${name}\t${command.parameters}\n`)
        .join('')}\0`;
    },
  },
};

const line = (name: string, value: number, text: string): string =>
  `${name.padEnd(17)}: ${String(value).padStart(8)} ${text}\n`;

/** Lists what is held for each domain and connection. */
function report(hub: Hub): string[] {
  const lines = [`${hub.connections.size} connections, ${hub.watches.size} watched paths`];
  for (const {
    domid,
    memory,
    nodes,
    nodeBytes,
    watches,
    transactions,
  } of hub.store.accounts.byDomid.values())
    lines.push(
      `domain ${domid}: ${memory} bytes, of them ${nodeBytes} in ${nodes} nodes; ${watches} watches, ${transactions} transactions`,
    );
  for (const c of hub.connections)
    lines.push(
      `${c.kind} ${c.order} of domain ${c.actor.domid}: ${c.output.bytes} bytes unsent, ${c.parser.partial.length} of a request`,
    );
  return lines;
}

function usage(hub: Hub, domid: number): string | Errno {
  const account = hub.store.accounts.byDomid.get(domid);
  if (account === undefined) return ENOENT;
  const rows = (['nodes', 'watches', 'transactions', 'outstanding', 'memory'] as const).map(
    (name) => `${name.padEnd(16)}: ${String(account[name]).padStart(8)}\n`,
  );
  return `Domain ${domid}:\n${rows.join('')}\0`;
}

/** Runs a command. `body` is its name and its parameters, each terminated by a NUL. */
export function control(hub: Hub, body: string): string | Errno {
  const [name, ...args] = body.split('\0').slice(0, -1);
  if (name === undefined || !Object.hasOwn(COMMANDS, name)) return EINVAL;
  return COMMANDS[name].run(hub, args);
}
