// The demo's disk: a file system in the guest. The guest writes files of tagged lines on it without its page cache and
// reads them back the same way, in rounds, while it migrates; every fifth round it prints how many were wrong.
import { truncateSync, writeFileSync } from 'node:fs';

const BYTES = 16 << 20;

/** The guest's part: `command` is for its shell. */
export const DISK_WRITER = {
  command:
    'mke2fs /dev/xvda >/dev/null; mkdir -p /disk; mount -t ext4 /dev/xvda /disk\n' +
    'w() { i=0; bad=0; while :; do i=$((i+1)); yes "round $i" | head -c $((4096*(1+i%12))) >/tmp/b; f=/disk/f$((i%9)); ' +
    'dd if=/tmp/b of=$f bs=16k conv=fsync 2>/dev/null || bad=$((bad+1)); echo 1 >/proc/sys/vm/drop_caches; ' +
    'cmp -s $f /tmp/b || bad=$((bad+1)); [ $((i%5)) = 0 ] && echo "DI""SK rounds=$i bad=$bad"; sleep 0.5; done; }; w &\n',
  /** What it printed for round `rounds`, or the last line that it printed. */
  said: (rounds: number | string = '\\d+') => new RegExp(`[\\s\\S]*DISK rounds=(${rounds}) bad=(\\d+)\n`),
};

/** Makes the image. `config` is for the guest's configuration. */
export function makeDisk(path: string) {
  writeFileSync(path, '');
  truncateSync(path, BYTES);
  return {
    config: `disk = [ "${path},raw,xvda,w" ]\n`,
    ...DISK_WRITER,
  };
}
