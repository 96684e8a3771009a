// Asks Debian's xl 4.17 what it makes of the samples, and writes its answers to test/guest/xl/answers.jsonl:
// `node build/test/guest/xl/capture.js` on a Debian 12 with gcc. It needs no Xen: no-xen.c stands for it.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fetchDebian, withLibraries } from '../../../scripts/lib/debian.js';
import { inRoot } from '../../../scripts/lib/root.js';
import { SAMPLES } from './samples.js';

const root = await fetchDebian(withLibraries('xen-utils-4.17'));
const dir = mkdtempSync(join(tmpdir(), 'stillpoint-xl-'));
try {
  const stub = join(dir, 'no-xen.so');
  execFileSync('gcc', ['-shared', '-fPIC', '-w', '-o', stub, inRoot('test/guest/xl/no-xen.c'), '-ldl']);
  const conf = join(dir, 'xl.conf');
  writeFileSync(conf, '');
  const libraries = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu'].map((one) => join(root, one));
  const answers: unknown[] = [];
  for (const [name, source] of SAMPLES) {
    writeFileSync(join(dir, 'g.cfg'), source, 'latin1');
    const xl = spawnSync(join(root, 'usr/lib/xen-4.17/bin/xl'), ['create', '--dryrun', 'g.cfg'], {
      cwd: dir,
      encoding: 'utf8',
      env: { XL_CONF: conf, LD_PRELOAD: stub, LD_LIBRARY_PATH: libraries.join(':') },
    });
    if (xl.status === null) throw new Error(`xl was ended by ${xl.signal} at ${name}`);
    const said = xl.stderr
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('Parsing config from'));
    const json = xl.stdout.slice(xl.stdout.indexOf('{'));
    const config = xl.stdout.includes('{') ? JSON.parse(json) : null;
    // It makes up another one each time.
    if (config !== null && !source.includes('uuid')) delete config.c_info.uuid;
    answers.push({ name, status: xl.status, said, config });
  }
  const lines = answers.map((answer) => `${JSON.stringify(answer)}\n`);
  writeFileSync(inRoot('test/guest/xl/answers.jsonl'), lines.join(''));
} finally {
  rmSync(dir, { recursive: true });
}
