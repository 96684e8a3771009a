/**
 * Ports on loopback that tests listen on. A range of its own for each run of the tests, so that two runs on one machine
 * (another checkout, another user) do not meet; below those that the system gives to connections (32768).
 */
const RUNS = 16;
const PORTS_A_RUN = 900;

/** `port`, from 17000 to 17899, in the range of this run: the processes of a run have one parent. */
export const testPort = (port: number): number => port + (process.ppid % RUNS) * PORTS_A_RUN;
