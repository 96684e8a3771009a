/** The name, in a daemon's directory, of the socket of the host's xenstore, for xenstore-ls and friends. */
export const XENSTORE_SOCKET = 'xenstore.sock';
