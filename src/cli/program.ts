/** The command line. Each verb lives in commands/, one file each. */

import { Command, type CommanderError } from 'commander';
import { VERSION } from '../protocol/generated/version.js';
import { register as autostart } from './commands/autostart.js';
import { register as blockAttach } from './commands/block-attach.js';
import { register as blockDetach } from './commands/block-detach.js';
import { register as blockList } from './commands/block-list.js';
import { register as completion } from './commands/completion.js';
import { register as console } from './commands/console.js';
import { register as crashes } from './commands/crashes.js';
import { register as create } from './commands/create.js';
import { register as define } from './commands/define.js';
import { register as destroy } from './commands/destroy.js';
import { register as dmesg } from './commands/dmesg.js';
import { register as domid } from './commands/domid.js';
import { register as domname } from './commands/domname.js';
import { register as dumpCore } from './commands/dump-core.js';
import { register as host } from './commands/host.js';
import { register as info } from './commands/info.js';
import { register as list } from './commands/list.js';
import { register as migrate } from './commands/migrate.js';
import { register as migrateCancel } from './commands/migrate-cancel.js';
import { register as networkAttach } from './commands/network-attach.js';
import { register as networkDetach } from './commands/network-detach.js';
import { register as networkList } from './commands/network-list.js';
import { register as pause } from './commands/pause.js';
import { register as points } from './commands/points.js';
import { register as reboot } from './commands/reboot.js';
import { register as rename } from './commands/rename.js';
import { register as restore } from './commands/restore.js';
import { register as run } from './commands/run.js';
import { register as save } from './commands/save.js';
import { register as settle } from './commands/settle.js';
import { register as shutdown } from './commands/shutdown.js';
import { register as start } from './commands/start.js';
import { register as switch_ } from './commands/switch.js';
import { register as top } from './commands/top.js';
import { register as undefine } from './commands/undefine.js';
import { register as unpause } from './commands/unpause.js';
import { register as unwrap } from './commands/unwrap.js';
import { register as uptime } from './commands/uptime.js';
import { register as vcpuList } from './commands/vcpu-list.js';
import { register as wrap } from './commands/wrap.js';
import { register as xenstored } from './commands/xenstored.js';
import { register as xl } from './commands/xl.js';

const VERBS = [
  autostart,
  blockAttach,
  blockDetach,
  blockList,
  run,
  xenstored,
  completion,
  console,
  crashes,
  create,
  define,
  destroy,
  dmesg,
  domid,
  domname,
  dumpCore,
  host,
  info,
  list,
  migrate,
  migrateCancel,
  networkAttach,
  networkDetach,
  networkList,
  pause,
  points,
  reboot,
  rename,
  restore,
  save,
  settle,
  shutdown,
  start,
  switch_,
  top,
  undefine,
  unpause,
  unwrap,
  uptime,
  vcpuList,
  wrap,
  xl,
];

/**
 * The program with all verbs. `exit` is called to end it early: after help and similar output, and for wrong
 * arguments.
 */
export function makeProgram(exit: (error: CommanderError) => never): Command {
  const program = new Command('stillpoint')
    .description('Runs Xen PV guests without Xen, and moves them live between hosts without their help')
    .version(VERSION)
    .showHelpAfterError()
    // This is set before the verbs are added, since they inherit it: wrong arguments have the same exit status
    // everywhere.
    .exitOverride(exit);
  for (const register of VERBS) register(program);
  return program;
}
