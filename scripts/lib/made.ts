// Folders in .cache whose files are made from others: they are made once for the same inputs, and each file appears
// complete, so that no other process ever sees a part of one.
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { inRoot } from './root.js';

/** The sources of an initramfs: if one of these changes, whatever was made with it is made again. */
export const INITRAMFS_SOURCES: readonly string[] = [
  '../../src/appliance/cpio.ts',
  'initramfs.ts',
  'init.sh',
  'modules.ts',
];

/**
 * Returns the path of the one entry in a folder whose name passes `test`; undefined if there is no such entry or
 * folder.
 */
export function single(folder: string, test: (name: string) => boolean): string | undefined {
  const name = existsSync(folder) ? readdirSync(folder).find(test) : undefined;
  return name && join(folder, name);
}

/** Returns a checksum of `words` and of these files of scripts/lib. */
export const sumOfInputs = (words: string, sources: readonly string[]): string =>
  sumOfFiles(
    words,
    sources.map((file) => `scripts/lib/${file}`),
  );

/** Returns a checksum of `words` and of these files of the work tree. */
export function sumOfFiles(words: string, sources: readonly string[]): string {
  const hash = createHash('sha256').update(words);
  for (const file of sources) hash.update(readFileSync(inRoot(file)));
  return hash.digest('hex');
}

/**
 * Makes sure that `folder` has the files that belong to `sum`: if it has others, `make` returns the new ones by name.
 * `make` gets a temporary folder.
 */
export async function keepMade(
  folder: string,
  sum: string,
  make: (temporary: string) => Promise<Readonly<Record<string, Uint8Array | string>>>,
): Promise<void> {
  const made = join(folder, 'made');
  if (existsSync(made) && readFileSync(made, 'utf8') === sum) return;
  mkdirSync(folder, { recursive: true });
  const temporary = mkdtempSync(join(dirname(folder), 'new-'));
  try {
    // The checksum is written last: once it is there, all other files are.
    for (const [name, contents] of [...Object.entries(await make(temporary)), ['made', sum] as const]) {
      writeFileSync(join(temporary, 'file'), contents);
      renameSync(join(temporary, 'file'), join(folder, name));
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}
