import { afterEach, expect, it } from 'vitest';
import { loadLibc } from '../../src/os/libc.js';
import { GOES_ON, type Probed, probed, REFUSED } from './probed.js';

const ROOT = process.getuid?.() === 0;
const NOBODY = 65_534;

const libc = await loadLibc();
/** The version of Landlock on this machine; versions below 6 have no scopes. */
const landlock = libc?.createRuleset(null, 0, 1) ?? 0;
let host: Probed | undefined;
afterEach(() => host?.clean());

it.skipIf(landlock < 6 || process.arch !== 'x64')(
  'a guest process that was taken over can execute, trace, signal, mount and leave nothing, can open and make only its own files, and works',
  async () => {
    host = await probed(undefined);
    expect(host.found).toEqual({ ...REFUSED, ...GOES_ON });
  },
  60_000,
);

it.skipIf(landlock < 6 || process.arch !== 'x64' || !ROOT)(
  'the same holds for a daemon without root, where all guests have one user',
  async () => {
    host = await probed(NOBODY);
    expect(host.found).toEqual({ ...REFUSED, ...GOES_ON });
    // A disk that it is given while it runs it can open, but nothing else.
    await host.ask('blockAttach', { guest: 'probe', spec: `${host.root}/later.img,raw,xvdb,w` });
    const { latest } = await host.ask('console', { guest: 'probe' });
    expect(Buffer.from(latest, 'base64').toString()).toContain('GOT 128 SECTORS');
    if (landlock < 9) expect(host.log()).toContain("keep it from this user's unix sockets");
  },
  60_000,
);
