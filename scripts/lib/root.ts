// Where this work tree is: scripts are compiled to build/, so paths beside them are not those of their sources.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const folderOf = (path: string): string =>
  existsSync(join(path, 'package.json')) ? path : folderOf(dirname(path));

/** The folder of package.json, an absolute path. */
export const ROOT = folderOf(dirname(fileURLToPath(import.meta.url)));

/** The absolute path of a file of the work tree, given with slashes from its root. */
export const inRoot = (path: string): string => join(ROOT, path);

/** What a source of scripts/, bench/, soak/ or test/ was compiled to: for processes that are to run it. */
export const compiled = (source: string): URL =>
  pathToFileURL(inRoot(`build/${source.replace(/[.]ts$/, '.js')}`));
