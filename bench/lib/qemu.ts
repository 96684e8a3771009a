// QEMU for comparison: from PATH, else from Debian's packages (apt, no root), else not at all.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fetchDebian } from '../../scripts/lib/debian.js';
import { messageOf } from '../../scripts/lib/errors.js';
import { FRAME, OUTPUT_BYTES, processorSeconds, type Run } from './cpu-program.js';

const USER_PACKAGES = ['qemu-user-static'];
/** Debian's qemu-system-x86 with the libraries it links. */
const SYSTEM_PACKAGES = (
  'qemu-system-x86 qemu-system-common qemu-system-data seabios libaio1 libblkid1 libbpf1 libcapstone4 libdaxctl1 ' +
  'libelf1 libfdt1 libffi8 libfuse3-3 libglib2.0-0 libgmp10 libgnutls30 libhogweed6 libibverbs1 libidn2-0 ' +
  'libjpeg62-turbo libkmod2 liblzma5 libmount1 libndctl6 libnettle8 libnl-3-200 libnl-route-3-200 libnuma1 ' +
  'libp11-kit0 libpcre2-8-0 libpixman-1-0 libpmem1 libpng16-16 librdmacm1 libsasl2-2 libseccomp2 libselinux1 ' +
  'libslirp0 libssl3 libtasn1-6 libudev1 libunistring2 liburing2 libuuid1 libvdeplug2 libzstd1 zlib1g'
).split(' ');
const MACHINE =
  '-machine microvm -accel tcg,thread=single -m 64 -nodefaults -no-user-config -display none ' +
  '-chardev stdio,id=out -device isa-debugcon,chardev=out';
/** One instruction is one tick of the time-stamp counter. */
const COUNTING = '-icount shift=0,sleep=off';

const onPath = (name: string): string | undefined =>
  (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((file) => existsSync(file));

async function fetched(packages: readonly string[]): Promise<string | undefined> {
  try {
    return await fetchDebian(packages);
  } catch (error) {
    console.error(`${packages[0]}: left out, ${messageOf(error)}`);
    return undefined;
  }
}

async function findUser(): Promise<string | undefined> {
  const installed = onPath('qemu-x86_64') ?? onPath('qemu-x86_64-static');
  if (installed !== undefined) return installed;
  const root = await fetched(USER_PACKAGES);
  return root && join(root, 'usr/bin/qemu-x86_64-static');
}

class System {
  constructor(
    private readonly file: string,
    private readonly args: readonly string[],
    private readonly env: NodeJS.ProcessEnv,
  ) {}

  /**
   * Runs a bare kernel. Returns its result, the seconds between its two time stamps, and the difference of their TSC
   * values.
   */
  async run(kernel: string, options = ''): Promise<Run & { readonly ticks: number }> {
    const args = [...this.args, ...`${MACHINE} ${options}`.trim().split(' '), '-kernel', kernel];
    const child = spawn(this.file, args, { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    const { pid } = child;
    if (pid === undefined) throw new Error(`${this.file} does not start`);
    let out: Buffer = Buffer.alloc(0);
    let [before, after] = [0, 0];
    let errors = '';
    child.stderr.on('data', (text) => (errors += text));
    child.stdout.on('data', (chunk) => {
      if (out.length === 0) before = processorSeconds(pid);
      out = Buffer.concat([out, chunk]);
      if (out.length > 1 && after === 0) after = processorSeconds(pid);
      if (out.length === 2 + OUTPUT_BYTES) child.kill();
    });
    await new Promise<void>((done, fail) => child.on('error', fail).on('close', () => done()));
    if (out.length !== 2 + OUTPUT_BYTES || out[0] !== 0x53 || out[1] !== 0x45)
      throw new Error(`${this.file} ${args.join(' ')} wrote ${out.length} bytes\n${errors}`);
    return {
      result: out.readBigUInt64LE(2),
      seconds: after - before,
      ticks: Number(out.readBigUInt64LE(10)),
    };
  }

  /** The number of instructions of the kernel. */
  async count(kernel: string): Promise<number> {
    return (await this.run(kernel, COUNTING)).ticks - FRAME;
  }
}

async function findSystem(): Promise<System | undefined> {
  const installed = onPath('qemu-system-x86_64');
  if (installed !== undefined) return new System(installed, [], process.env);
  const root = await fetched(SYSTEM_PACKAGES);
  if (root === undefined) return undefined;
  const libraries = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'].map((f) => join(root, f));
  const env = {
    ...process.env,
    LD_LIBRARY_PATH: libraries.join(delimiter),
    QEMU_MODULE_DIR: join(root, 'usr/lib/x86_64-linux-gnu/qemu'),
  };
  const file = join(root, 'usr/bin/qemu-system-x86_64');
  const tried = spawnSync(file, ['--version'], { env, encoding: 'utf8' });
  if (tried.status !== 0) {
    console.error(`qemu-system-x86: left out, it does not start: ${tried.stderr.trim()}`);
    return undefined;
  }
  return new System(file, ['-L', join(root, 'usr/share/qemu'), '-L', join(root, 'usr/share/seabios')], env);
}

/** `user`: the program file. `system`: what runs bare kernels. Each may be undefined. */
export async function findQemu(): Promise<{ user: string | undefined; system: System | undefined }> {
  return { user: await findUser(), system: await findSystem() };
}
