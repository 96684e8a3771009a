import type {
  GuestConfig,
  IncomingRunner,
  RunnerFactory,
  RunnerHooks,
} from '../../src/guest-process/guest-runner.js';
import type { Host } from '../../src/host/host.js';

export interface FakeGuest extends IncomingRunner {
  readonly name: string;
  readonly uuid: string;
  count: number;
  moves: number;
  tick(): void;
}
export function readConfig(text: string, file: string, directory: string): GuestConfig;
export function openFactory(host: Host, hooks: RunnerHooks): RunnerFactory;
export function makeFakeGuest(
  config: GuestConfig,
  host: Host | undefined,
  hooks: RunnerHooks,
): FakeGuest & import('../../src/migration/moving-guest.js').MovableGuest;
