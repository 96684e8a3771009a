/** All targets: what a hostile party can send, a guest from inside and another host from outside. */
import type { Target } from './fuzz.js';
import { hypercalls } from './hypercalls.js';
import { answers, configurations, messages } from './protocol.js';
import { diskRing, netRing } from './rings.js';
import { store } from './store.js';
import { lines, state, stream } from './streams.js';

export const targets = async (): Promise<Target[]> => [
  hypercalls(),
  store(),
  diskRing(),
  netRing(),
  await stream(),
  await state(),
  lines(),
  messages(),
  answers(),
  configurations(),
];
