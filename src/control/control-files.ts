/** Files in a daemon's directory by which the verbs, and xenstore-ls and friends, reach it. */

/** Names of the sockets in the daemon's directory: the verbs', and the host's xenstore for xenstore-ls and friends. */
export const CONTROL_SOCKET = 'control.sock';
/**
 * What who speaks on the control socket has to know: a file that only the daemon's user can read, and no guest's process.
 * A kernel that cannot keep those from a socket keeps them from a file.
 */
export const CONTROL_KEY = 'control.key';
export const XENSTORE_SOCKET = 'xenstore.sock';
