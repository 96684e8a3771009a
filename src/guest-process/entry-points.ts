/**
 * Modules of the guest's process that other code names without importing them: the programs to execute, and the
 * runner, which is loaded in the process and also in the daemon, to read configurations.
 */
import { fileURLToPath } from 'node:url';
import type { RunnerModule } from './guest-runner.js';

/** Sets up the sandbox and becomes a guest's process. */
export const LAUNCHER = fileURLToPath(new URL('./guest-launcher.js', import.meta.url));
/** The guest's process itself. */
export const GUEST_PROCESS = fileURLToPath(new URL('./main.js', import.meta.url));
/** URL of the module that runs Xen PV guests. */
export const PV_RUNNER = new URL('./pv-runner.js', import.meta.url).href;

export const loadRunner = (url: string): Promise<RunnerModule> => import(url);
