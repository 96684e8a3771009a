// npm run demo -- --xen: a real Xen under emulation, and stock `xl` on it. A wild guest cannot be migrated as a PV domain;
// wrapped, the same guest is: the ledger shows what Xen and dom0 gave in each place, and that the guest saw none of it.
import { filesOfLives, observed, WILD_DEBIAN } from '../soak/lib/xen-bed/lives.js';
import { XenBed } from '../soak/lib/xen-bed/xen-bed.js';
import { type HelperPoint, XlGuest } from '../soak/lib/xen-bed/xl-guest.js';
import { ensureAppliance } from './lib/appliance.js';
import { ensureGuests } from './lib/guests.js';

const MOVES = 2;
const MIB = 2 ** 20;
const BOOT_S = 400;
const SAY_S = 120;
const PLAIN = 'plain';
const INNER = 22;
const OUTER = 38;

/** A row whose value differs from place to place, or which is the guest's alone, is worth a line. */
const worth = ({ outer }: HelperPoint): boolean => new Set(outer).size > 1;
const cell = (text: string, width: number): string =>
  (text.length > width ? `${text.slice(0, width - 1)}…` : text).padEnd(width + 1);

/** Returns the exit status: 0 if the guest saw no difference. */
export async function demoOnXen(say: (text: string) => void): Promise<number> {
  const appliance = await ensureAppliance();
  const guests = await ensureGuests();
  const { files, memoryMib } = await filesOfLives(appliance, guests);
  files['vmlinux'] = guests.vmlinux;
  files['initramfs'] = guests.initramfs;
  files[`${PLAIN}.cfg`] = Buffer.from(
    `name = "${PLAIN}"\nkernel = "/s/vmlinux"\nramdisk = "/s/initramfs"\nmemory = 128\n` +
      'extra = "console=hvc0 rdinit=/init quiet initcall_blacklist=xen_setup_shutdown_event"\n',
  );
  say('a machine is emulated, and a real Xen boots on it with a small dom0');
  const bed = await XenBed.up({ files });
  try {
    const [version = ''] = (await bed.must('xl info xen_version', 30)).split('\n');
    say(
      `Xen ${version.replace(/^.*: */, '').trim()} and its dom0 are up; all that follows is done by its own xl`,
    );
    const plain = new XlGuest(bed, PLAIN);
    await plain.create();
    await plain.until(/# /, BOOT_S);
    const refused = await plain.ask(plain.migration);
    say(
      refused.status === 0
        ? 'xl migrate of a PV guest works on this Xen'
        : `a PV guest, Debian made wild: xl migrate fails after ${refused.seconds.toFixed(1)} s: ${refused.words}`,
    );
    await plain.destroy();

    const { name } = WILD_DEBIAN;
    const guest = new XlGuest(bed, name);
    await guest.create();
    say(
      `stillpoint wrap made ${name}.helper.cfg of such a guest's ${name}.cfg: ${memoryMib[name]} MiB for 128; xl create`,
    );
    await guest.until(/guest# /, BOOT_S);
    say('the guest is at its shell, in its helper; the observer looks at everything it can see');
    await guest.type('observer 50 0\n');
    await guest.until(/OBS n=50 /, BOOT_S);
    for (let i = 1; i <= MOVES; i++) {
      const { outageNs } = await guest.settled();
      const { seconds, bytes } = await guest.migrate();
      const after = await guest.settled();
      say(
        `xl migrate ${i}: ${seconds.toFixed(1)} s, ${(bytes / MIB).toFixed(0)} MiB; domain ${after.domid} now, and the guest stood still for ${((after.outageNs - outageNs) / 1e9).toFixed(1)} s`,
      );
    }
    const seen = await observed(guest, SAY_S, true);
    const points = await guest.points();
    const places = Math.max(...points.map(({ outer }) => outer.length));
    console.log(
      `\n  ${cell('migration point', 34)}${cell('the guest sees', INNER)}${Array.from({ length: places }, (_, i) => cell(`place ${i + 1} gave`, OUTER)).join('')}`,
    );
    for (const point of points.filter(worth))
      console.log(
        `  ${cell(point.name, 34)}${cell(point.inner, INNER)}${point.outer.map((value) => cell(value, OUTER)).join('')}`,
      );
    console.log(
      `\n  Every value of the places is what this Xen and its dom0 gave. The observer in the guest, after ${MOVES} moves:\n` +
        `  ${seen.samples} samples, ${seen.differences} differences seen, ${seen.backwards} clocks ran backwards; its computation is ${seen.right ? 'right' : 'WRONG'}.\n`,
    );
    return seen.differences === 0 && seen.backwards === 0 && seen.right ? 0 : 1;
  } finally {
    await bed.down();
  }
}
