/**
 * The platforms by name: the only file in all our programs that names the folder of a platform. A name that is the
 * URL of a module (file:...) loads a foreign platform, as tests do.
 */
import type { PlatformModule } from './platform.js';

const PLATFORMS: Readonly<Record<string, () => Promise<{ readonly platform: PlatformModule }>>> = {
  standalone: () => import('./standalone/platform.js'),
  xen: () => import('./xen/platform.js'),
};

export const DEFAULT_PLATFORM = 'standalone';

/** Rejects with a message for the user if there is no such platform. */
export async function loadPlatform(name: string): Promise<PlatformModule> {
  if (Object.hasOwn(PLATFORMS, name)) return (await PLATFORMS[name]()).platform;
  if (!name.startsWith('file:'))
    throw new Error(
      `there is no platform ${name}: ${Object.keys(PLATFORMS).join(', ')}, or the URL of a module`,
    );
  return ((await import(name)) as { readonly platform: PlatformModule }).platform;
}
