/** Formats messages as lines of the log while CONTROL log is on: IN or OUT, the client, the operation, the payload. */
import type { Message } from '../wire/message.js';
import type { Connection } from './connection.js';

/** The operations by their numbers in xs_wire.h, without the prefix XS_. */
const NAMES = (
  'CONTROL DIRECTORY READ GET_PERMS WATCH UNWATCH TRANSACTION_START TRANSACTION_END INTRODUCE RELEASE ' +
  'GET_DOMAIN_PATH WRITE MKDIR RM SET_PERMS WATCH_EVENT ERROR IS_DOMAIN_INTRODUCED RESUME SET_TARGET 20 ' +
  'RESET_WATCHES DIRECTORY_PART GET_FEATURE SET_FEATURE GET_QUOTA SET_QUOTA'
).split(' ');

export function traceLine(direction: 'IN' | 'OUT', { kind, order, actor }: Connection, m: Message): string {
  const payload = m.body.replaceAll('\0', ' ').replaceAll(/[^ -~]/g, '?');
  const transaction = m.txId === 0 ? '' : ` tx ${m.txId}`;
  return `${direction} ${kind} ${order} domain ${actor.domid}${transaction} ${NAMES[m.type] ?? m.type} (${payload})`;
}
