/** Name of the socket of the host's xenstore in a daemon's directory, for xenstore-ls and similar tools. */
export const XENSTORE_SOCKET = 'xenstore.sock';
