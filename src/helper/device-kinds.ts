/** The kinds of split devices that a guest can have, by their names in xenstore. */
import { makeVif, vifNodes } from '../devices/vif/settings.js';
import type { DeviceKind } from './devices.js';
import { vbdKind } from './kinds/vbd.js';

export const DEVICE_KINDS: Readonly<Record<string, DeviceKind>> = {
  vbd: vbdKind,
  vif: { driver: makeVif, nodes: vifNodes },
};
