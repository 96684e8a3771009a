/** Devices in the form of a configuration, from the syntax of xl.cfg. */

import { parseDisk } from '../../src/guest/disk-spec.js';
import { parseVif } from '../../src/guest/vif-spec.js';
import { vifConfig } from '../../src/guest-process/device-requests.js';
import type { DeviceConfig } from '../../src/helper/devices.js';
import { vbdConfig } from '../../src/helper/kinds/vbd.js';

const fail = (message: string): never => {
  throw new Error(message);
};

/** "PATH,raw,xvda,w" */
export const diskConfig = (words: string): DeviceConfig => vbdConfig(parseDisk(words, fail));

/** "mac=00:16:3e:00:00:01,bridge=x" */
export const networkConfig = (words: string, devid = 0): DeviceConfig =>
  vifConfig(
    parseVif(words, fail, () => undefined),
    devid,
    'test',
  );
