/**
 * Loopback ports on which tests listen. Each run of the tests has its own range, so that two runs on one machine
 * (another checkout, another user) do not collide; the ranges are below the ports that the system gives to connections
 * (32768).
 */
const RUNS = 16;
const PORTS_A_RUN = 900;

/** Maps `port`, from 17000 to 17899, into the range of this run: all processes of a run have the same parent. */
export const testPort = (port: number): number => port + (process.ppid % RUNS) * PORTS_A_RUN;
