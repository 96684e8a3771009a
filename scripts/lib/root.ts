// Where this work tree is. Scripts are compiled to build/, so paths relative to them are not those of their sources.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const folderOf = (path: string): string =>
  existsSync(join(path, 'package.json')) ? path : folderOf(dirname(path));

/** The folder of package.json, as an absolute path. */
export const ROOT = folderOf(dirname(fileURLToPath(import.meta.url)));

/** Returns the absolute path of a file in the work tree, from its path relative to the root. */
export const inRoot = (path: string): string => join(ROOT, path);

/** Returns the compiled form of a source in scripts/, bench/, soak/ or test/, for processes that are to run it. */
export const compiled = (source: string): URL =>
  pathToFileURL(inRoot(`build/${source.replace(/[.]ts$/, '.js')}`));
