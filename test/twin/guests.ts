/** Real guests for the twin, and the input that is typed to them. */
import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { inRoot } from '../../scripts/lib/root.js';
import { writeCpio } from '../../src/appliance/cpio.js';
import type { GuestSpec } from '../../src/helper/guest.js';
import { diskConfig, networkConfig } from '../support/devices.js';
import { PEER_IP } from './pong.js';
import { stringsElf } from './strings-program.js';
import type { Cue } from './twin.js';

const file = (name: string): string => inRoot(`.cache/guests/${name}`);
const UUID = Uint8Array.from({ length: 16 }, (_, i) => 16 * i + 1);

/** False if Debian's kernel could not be downloaded. */
export const haveDebian = (): boolean => existsSync(file('vmlinux'));

/** A ramdisk with busybox and a program of ours. */
const ramdisk = (): Uint8Array =>
  Buffer.concat([
    gunzipSync(readFileSync(file('initramfs.cpio.gz'))),
    writeCpio([{ path: 'bin/strings-program', mode: 0o755, data: stringsElf() }]),
  ]);

/** Debian's kernel without its code for suspend requests, with a shell on its console. */
export function debian(vcpus: number): GuestSpec {
  return {
    name: 'twin',
    uuid: UUID,
    memoryMib: 128,
    vcpus,
    image: {
      kernel: readFileSync(file('vmlinux')),
      ramdisk: ramdisk(),
      cmdline: 'console=hvc0 rdinit=/init quiet initcall_blacklist=xen_setup_shutdown_event',
    },
    kernelName: 'vmlinux',
    ramdiskName: 'initramfs.cpio.gz',
    devices: [diskConfig('/twin,raw,xvda,w'), networkConfig('mac=00:16:3e:00:00:01')],
  };
}

const PROMPT = /guest# /;

/** Reads one node of xenstore `times` times, as raw messages through xenfs. */
const xenstoreReads = (times: number): string =>
  'exec 3<>/proc/xen/xenbus; i=0; ' +
  `while [ $i -lt ${times} ]; do i=$((i+1)); ` +
  "printf '\\002\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\005\\0\\0\\0name\\0' >&3; dd bs=20 count=1 <&3 2>/dev/null; done | md5sum; " +
  'exec 3>&-\n';

/** Writes and reads back without the page cache, and pings meanwhile, so that requests are in flight. */
const disk = (rounds: number): string =>
  `ifconfig eth0 10.9.0.1 up; ping -c ${8 * rounds} -i 0.02 ${PEER_IP.join('.')} >/tmp/ping & ` +
  `for i in $(seq ${rounds}); do head -c 300000 /bin/busybox | dd of=/dev/xvda bs=32k seek=$((i*10)) conv=fsync 2>/dev/null; ` +
  'echo 1 >/proc/sys/vm/drop_caches; dd if=/dev/xvda bs=32k count=100 2>/dev/null | md5sum; done; wait; tail -n 2 /tmp/ping\n';

/**
 * Processes, pipes, disk and network, string instructions, files, xenstore, then a shutdown. `load`: the amount of
 * each.
 */
export const work = (load: number): readonly Cue[] => [
  { output: PROMPT, type: 'uname -r; date; cat /proc/uptime\n' },
  { output: PROMPT, type: xenstoreReads(20 * load) },
  {
    output: PROMPT,
    type: `for i in $(seq ${2 * load}); do seq 500 | gzip | gunzip | md5sum & done; wait; echo joined\n`,
  },
  { output: /joined[\s\S]*guest# /, type: disk(load) },
  { output: /packets received[\s\S]*guest# /, type: `for i in $(seq ${load}); do strings-program; done\n` },
  {
    output: PROMPT,
    type: 'sleep 0.05; dd if=/dev/zero of=/z bs=64k count=20 2>/dev/null; sha256sum /z; rm /z\n',
  },
  { output: PROMPT, type: 'poweroff -f\n' },
];
