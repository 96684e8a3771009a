/** Names in a guest's directory. The guest's process knows them only relative to its working directory. */

/** Where a process that an earlier version started listens. */
export const GUEST_SOCKET = 'guest.sock';
export const DATA_SOCKET = 'data.sock';
export const CONSOLE_LOG = 'console.log';
