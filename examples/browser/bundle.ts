/** Packs each script of the example with all that it imports, and refuses what a browser does not have. */
import { builtinModules } from 'node:module';
import { build, type Plugin } from 'vite';
import { inRoot } from '../../scripts/lib/root.js';

/** Node's own modules must not be imported, however far down. `stream/web` is the browser's own streams. */
const noNode: Plugin = {
  name: 'no-node',
  enforce: 'pre',
  resolveId(source, importer) {
    const name = source.replace(/^node:/, '');
    if (name !== 'stream/web' && builtinModules.includes(name))
      throw new Error(`${importer} imports ${source}, which only Node has`);
    return undefined;
  },
};

/** The text of tab/NAME.ts as one script for a page or a worker. */
export async function bundle(name: 'page' | 'worker'): Promise<string> {
  const made = await build({
    configFile: false,
    root: inRoot('examples/browser'),
    logLevel: 'error',
    plugins: [noNode],
    build: {
      write: false,
      minify: false,
      target: 'es2022',
      lib: { entry: inRoot(`examples/browser/tab/${name}.ts`), name, formats: ['iife'] },
    },
  });
  for (const { output } of Array.isArray(made) ? made : 'output' in made ? [made] : [])
    for (const chunk of output) if (chunk.type === 'chunk') return chunk.code;
  throw new Error(`${name} was packed to nothing`);
}
