/**
 * Modules of the guest's process that others name and do not import: what is executed, and the runner, which is loaded in
 * the process and, for its reading of configurations, in the daemon.
 */
import { fileURLToPath } from 'node:url';
import type { RunnerModule } from './guest-runner.js';

/** Becomes a guest's process in its sandbox. */
export const LAUNCHER = fileURLToPath(new URL('./guest-launcher.js', import.meta.url));
/** The guest's process itself. */
export const GUEST_PROCESS = fileURLToPath(new URL('./main.js', import.meta.url));
/** URL of the module that runs Xen PV guests. */
export const PV_RUNNER = new URL('./pv-runner.js', import.meta.url).href;

export const loadRunner = (url: string): Promise<RunnerModule> => import(url);
