/** `stillpoint vcpu-list`, in the columns of `xl vcpu-list`. vCPUs are not bound to processors of the host. */
import type { Command } from 'commander';
import { vcpuTable } from '../table.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'vcpu-list [guest]', 'list the vCPUs of guests').action(
    (guest: string | undefined, options: VerbOptions) =>
      withDaemon(options, async (client) => {
        const rows = await client.request('vcpus', { guest });
        if (options.json === true) printJson(rows);
        else for (const line of vcpuTable(rows)) printLine(line);
      }),
  );
}
