// Folders of .cache whose files are made from others: made once for the same inputs, and each file appears whole, so that
// no other process ever sees half of one.
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

/** The sources that make an initramfs: where one of these changes, what was made with it is made again. */
export const INITRAMFS_SOURCES: readonly string[] = [
  '../../src/appliance/cpio.ts',
  'initramfs.ts',
  'init.sh',
  'modules.ts',
];

/** The one entry of a folder whose name passes `test`, as a path; undefined where the folder or such an entry is not. */
export function single(folder: string, test: (name: string) => boolean): string | undefined {
  const name = existsSync(folder) ? readdirSync(folder).find(test) : undefined;
  return name && join(folder, name);
}

/** A sum of `words` and of these files of scripts/lib. */
export const sumOfInputs = (words: string, sources: readonly string[]): string =>
  sumOfFiles(
    words,
    sources.map((file) => `scripts/lib/${file}`),
  );

/** A sum of `words` and of these files of the work tree. */
export function sumOfFiles(words: string, sources: readonly string[]): string {
  const hash = createHash('sha256').update(words);
  for (const file of sources) hash.update(readFileSync(inRoot(file)));
  return hash.digest('hex');
}

/**
 * Sees to it that `folder` has the files that belong to `sum`: where it has others, `make` gives them by name. It is
 * given a folder that is removed afterwards.
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
    // The sum comes last: with it all other files are there.
    for (const [name, contents] of [...Object.entries(await make(temporary)), ['made', sum] as const]) {
      writeFileSync(join(temporary, 'file'), contents);
      renameSync(join(temporary, 'file'), join(folder, name));
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}
