/**
 * A shell function for guests, `w FOLDER N`: writes files of tagged lines without the page cache, reads them back the
 * same way and compares, until /tmp/stop exists. /tmp/nN has the number of rounds, /tmp/badN the number of errors,
 * /tmp/rN the outcome.
 */
export const WRITER = `w() { i=0; bad=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $bad >/tmp/bad$2;
echo $i >/tmp/n$2; f=$1/f$((i%9));
yes "$1 round $i" | head -c $((4096*(1+i%12))) >/tmp/b$2;
dd if=/tmp/b$2 of=$f bs=16k conv=fsync 2>/dev/null || bad=$((bad+1));
echo 1 >/proc/sys/vm/drop_caches; cmp -s $f /tmp/b$2 || bad=$((bad+1)); done;
echo "WROTE $1 $i bad=$bad" >/tmp/r$2; }`;
