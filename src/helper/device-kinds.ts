/** The kinds of split devices that a guest can have, by their name in xenstore. */
import type { DeviceKind } from './devices.js';

export const DEVICE_KINDS: Readonly<Record<string, DeviceKind>> = {};
