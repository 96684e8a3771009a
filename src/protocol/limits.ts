/** Limits of messages: the sender keeps to them, and the tables check them in what arrives. */

/** Nodes in one notice; a process with more nodes sends several notices. */
export const MAX_NODES_AT_ONCE = 64;
/** Bytes of console output in one message. */
export const MAX_CONSOLE_BYTES = 256 << 10;
/** Length of the answer to `dmesg`, characters. */
export const MAX_DMESG = 256 << 10;
