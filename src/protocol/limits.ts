/** Limits of messages that who sends them keeps to; the tables hold them against what comes. */

/** Nodes in one notice; a process that has more to say says it in several. */
export const MAX_NODES_AT_ONCE = 64;
/** Bytes of console output in one message. */
export const MAX_CONSOLE_BYTES = 256 << 10;
/** Characters that `dmesg` may have. */
export const MAX_DMESG = 256 << 10;
