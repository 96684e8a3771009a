/**
 * Every key of a guest's configuration, with its verdict: what xl.cfg(5) of Xen 4.17 to 4.23 has, what older versions of
 * xl and its predecessor xm had, and our own. config.ts, `stillpoint wrap` and docs/configuration.md are made from this
 * table.
 *
 * done: the guest gets what xl would give it. warned: the key is accepted, and a warning says why it has no effect.
 * refused: the guest does not start, and the message says why and what to do instead. A key that this table does not
 * have is warned about, because xl ignores it.
 *
 * Source: Xen, docs/man/xl.cfg.5.pod.in, tools/xl/xl_parse.c, tools/libs/light; tools/python/xen/xm/create.py of 4.4.
 */

interface Done {
  readonly verdict: 'done';
  /** What it is: a clause, for the page. */
  readonly words: string;
  readonly ofDomain?: true;
}
interface Warned {
  readonly verdict: 'warned';
  /** The rest of a sentence that begins with the key. */
  readonly words: string;
  /** Values that ask for what a guest has anyway: they get no warning. */
  readonly already?: RegExp;
  /** `stillpoint wrap` gives it to the helper domain, in which it has its effect. */
  readonly ofDomain?: true;
}
interface Refused {
  readonly verdict: 'refused';
  /** Why, and what to do instead: a clause. */
  readonly words: string;
}
export type KeyRow = Done | Warned | Refused;

export const done = (words: string): Done => ({ verdict: 'done', words });
/** What `stillpoint wrap` gives to the helper domain. */
const both = (words: string): Done => ({ verdict: 'done', words, ofDomain: true });
export const warned = (words: string, more: Pick<Warned, 'already' | 'ofDomain'> = {}): Warned => ({
  verdict: 'warned',
  words,
  ...more,
});
const ofDomain = (words: string, already?: RegExp): Warned => warned(words, { ofDomain: true, already });
export const refused = (words: string): Refused => ({ verdict: 'refused', words });

/** The same row for many keys, which are separated by blanks. */
function all(keys: string, row: KeyRow): Record<string, KeyRow> {
  return Object.fromEntries(
    keys
      .trim()
      .split(/\s+/)
      .map((key) => [key, row]),
  );
}

const DONE = {
  name: done('the name, by the rules for [names of guests](hosts.md#names-of-guests)'),
  type: done('`pv`; `pvh` and `hvm` are refused, because only PV guests run here'),
  builder: done('`generic` or `linux`: the older form of `type = "pv"`; `hvm` is refused'),
  uuid: done('the identity; one is made up if it is left out'),
  vcpus: done('how many vCPUs are online at power-on: 1 to 8; 1 if it is left out'),
  maxvcpus: done('how many vCPUs the guest may have: 1 to 8, and `vcpus` if it is left out'),
  memory: done('MiB of RAM at power-on: 1 to 3000'),
  maxmem: done('MiB of RAM that the guest may have: up to 3000, and `memory` if it is left out'),
  kernel: done(
    "the path of the kernel: an ELF file or a bzImage with Xen notes, 64-bit; with `bootloader` a path in the guest's own file system, and `pv-grub-x86_64.gz` is as `bootloader`",
  ),
  ramdisk: done("the path of the initial RAM disk; with `bootloader` in the guest's own file system"),
  cmdline: done("the kernel's command line; `root` and `extra` do not count beside it"),
  root: done('`root=` and this text, at the beginning of the command line'),
  extra: done('the rest of the command line'),
  bootloader: done(
    "`pygrub` or `pvgrub`: [GRUB in the guest](disks.md#booting-from-the-guests-own-disk) shows the menu of the guest's disk; other programs of dom0 are refused",
  ),
  bootloader_args: done(
    '`--kernel`, `--ramdisk`, `--args`, `--entry`, `--offset` and `-q`, as of pygrub; others are warned about',
  ),
  bootargs: done('the same, from a file of xm'),
  bootentry: done('the entry of the menu: its number or its title, from a file of xm'),
  firmware: done(
    '`pvgrub64` is as `bootloader`; `pvgrub32` is refused, because only 64-bit kernels run here',
  ),
  on_poweroff: both('`destroy` (the default), `restart`, `preserve`; see [ends](#ends)'),
  on_reboot: both('the same; `restart` if it is left out'),
  on_crash: both('the same; `destroy` if it is left out'),
  disk: done('the [disks](disks.md); see [the parameters of a disk](#the-parameters-of-a-disk)'),
  vif: done('the [networks](networks.md); see [the parameters of a vif](#the-parameters-of-a-vif)'),
  localtime: done(
    "the guest's wall clock shows local time: what the host's time zone differs from UTC by when the guest is created",
  ),
  rtc_timeoffset: done("seconds that are added to the guest's wall clock"),
  max_grant_frames: both(
    'the most frames of grants, 1 to 1024; 64, or what suffices for the devices, if it is left out',
  ),
  xenstore_quota: done(
    "the guest's own quotas: `nodes`, `watches`, `transactions`, `outstanding`, `transaction-nodes`, `memory`; xenstored's defaults, or what suffices for the devices, if they are left out",
  ),
  clock: done(
    'our own key: `elapse` (the default) or `freeze`, what [an outage](hosts.md#the-outage-of-a-move) is to the guest',
  ),
} as const;

/** The keys that config.ts reads. */
export type DoneKey = keyof typeof DONE;

const HVM = warned('has no effect on a PV guest: it is about the devices and the firmware of an HVM guest');
const ARM = warned('has no effect on a PV guest: it is for guests on Arm processors');
const PVH = warned('has no effect on a PV guest: it is for a PV guest within a PVH domain of Xen');
const DISPLAY = warned(
  'has no effect here: there is no framebuffer. The console is hvc0, and `stillpoint console` shows it',
);
const COMMAND_LINE = 'is ignored, as by xl. xm wrote it into the command line';
const XEND = warned('is ignored, as by xl: only xend knew it');
const SCHEDULER = warned("has no effect here: it is about Xen's real-time scheduler");
const PASSED = refused(
  'a guest here gets no hardware of its host. Give it a disk or a vif instead, or leave the key out',
);
const LOADER = warned('has no effect here: the boot loader runs in the guest, and reads nothing of the host');

/** The table, by the sections of the page. */
export const KEY_SECTIONS: readonly {
  readonly title: string;
  readonly keys: Readonly<Record<string, KeyRow>>;
}[] = [
  {
    title: 'What the guest is',
    keys: {
      name: DONE.name,
      type: DONE.type,
      builder: DONE.builder,
      uuid: DONE.uuid,
      seclabel: ofDomain('has no effect here: labels belong to the security policy (XSM) of a Xen host'),
      init_seclabel: warned('has no effect here: labels belong to the security policy (XSM) of a Xen host'),
      nomigrate: warned(
        'has no effect here: a guest does not notice a move. Do not move it if you do not want it moved',
      ),
      driver_domain: warned('has no effect here: other guests cannot use this one as a back end'),
      xend_suspend_evtchn_compat: warned('has no effect here: nobody asks a guest to suspend itself'),
    },
  },
  {
    title: 'Processors',
    keys: {
      vcpus: DONE.vcpus,
      maxvcpus: DONE.maxvcpus,
      cpus: ofDomain("has no effect here: the host's Linux chooses the processors"),
      cpus_soft: ofDomain("has no effect here: the host's Linux chooses the processors"),
      pool: ofDomain('has no effect here: there are no pools of processors'),
      cpu_weight: ofDomain("has no effect here: the host's Linux shares its processors out"),
      cap: ofDomain("has no effect here: the host's Linux shares its processors out"),
      ...all('period slice latency extratime', SCHEDULER),
      vnuma: refused('a PV guest has one node of memory, also with Xen. Leave it out, and set memory'),
      cpuid: warned('has no effect here: the processor that a guest sees is the same on every host'),
      tsc_mode: ofDomain(
        'has no effect here: the TSC runs at 1 GHz on every host, as with always_emulate',
        /^(0|1|default|always_emulate)$/,
      ),
      ...all('vpmu altp2m altp2m_count altp2mhvm nestedhvm hap oos', HVM),
      vmtrace_buf_kb: warned('has no effect here: there is no processor trace'),
    },
  },
  {
    title: 'Memory',
    keys: {
      memory: DONE.memory,
      maxmem: DONE.maxmem,
      shadow_memory: warned("has no effect here: a guest's page tables are its own"),
      max_grant_frames: DONE.max_grant_frames,
      max_maptrack_frames: ofDomain('has no effect here: a guest maps no frames of others'),
      max_grant_version: ofDomain('has no effect here: a guest has grants of version 1', /^1$/),
      max_event_channels: ofDomain('has no effect here: a guest has up to 4095 event channels', /^4095$/),
      e820_host: warned(
        'has no effect here: a guest has one region of memory, and no hardware that needs holes',
      ),
      ...all('llc_colors', warned("has no effect here: colours are about a Xen host's cache")),
    },
  },
  {
    title: 'What follows an end',
    keys: {
      on_poweroff: DONE.on_poweroff,
      on_reboot: DONE.on_reboot,
      on_crash: DONE.on_crash,
      on_watchdog: ofDomain(
        'does not count here: a guest whose watchdog runs out has crashed, and on_crash says what follows',
      ),
      on_soft_reset: ofDomain(
        'has no effect on a PV guest: it cannot be reset so, and has crashed if it asks for it',
      ),
    },
  },
  {
    title: 'Kernel and boot loader',
    keys: {
      kernel: DONE.kernel,
      ramdisk: DONE.ramdisk,
      cmdline: DONE.cmdline,
      root: DONE.root,
      extra: DONE.extra,
      bootloader: DONE.bootloader,
      firmware: DONE.firmware,
      bootloader_args: DONE.bootloader_args,
      bootargs: DONE.bootargs,
      bootentry: DONE.bootentry,
      ...all('bootloader_restrict bootloader_user', LOADER),
    },
  },
  {
    title: 'Time',
    keys: {
      clock: DONE.clock,
      localtime: DONE.localtime,
      rtc_timeoffset: DONE.rtc_timeoffset,
      ...all('timer_mode vpt_align', HVM),
    },
  },
  {
    title: 'Devices',
    keys: {
      disk: DONE.disk,
      vif: DONE.vif,
      vif2: warned('is ignored, as by xl: there is no second protocol for networks. Use vif'),
      ...all(
        'vfb vnc vnclisten vncdisplay vncunused vncpasswd vncviewer sdl opengl display xauthority keymap vkb vdispl',
        DISPLAY,
      ),
      vsnd: warned('has no effect here: there is no sound'),
      channel: warned('has no effect here: the guest has no channels to programs of its host'),
      ...all('pci usbctrl usbdev dtdev ioports iomem irqs', PASSED),
      ...all(
        'pci_msitranslate pci_permissive pci_seize pci_power_mgmt rdm rdm_mem_boundary gfx_passthru passthrough',
        warned('has no effect here: a guest gets no hardware of its host', {
          already: /^(disabled|default)$/,
        }),
      ),
      vtpm: refused('there is no virtual TPM, whose secrets would have to move with the guest. Leave it out'),
      p9: refused('there is no 9pfs. Give the guest a disk, or a file system over a vif, and leave p9 out'),
      pvcalls: refused('there is no pvcalls. Give the guest a vif, and leave pvcalls out'),
      virtio: refused('a PV guest has no virtio devices. Give it disks and vifs'),
    },
  },
  {
    title: 'xenstore',
    keys: {
      xenstore_quota: DONE.xenstore_quota,
      xenstore_feature_mask: warned("has no effect here: a guest's xenstore is the same on every host"),
    },
  },
  {
    title: 'Only for HVM and PVH guests',
    keys: {
      ...all(
        `acpi acpi_s3 acpi_s4 acpi_laptop_slate acpi_firmware apic bios bios_path_override boot device_model
        device_model_args device_model_args_hvm device_model_args_pv device_model_override
        device_model_stubdomain_override device_model_stubdomain_seclabel device_model_user device_model_version
        dm_restrict firmware_override hdtype hpet hvm_pirq mca_caps mmio_hole ms_vm_genid msr_relaxed nographic nx pae
        serial smbios smbios_firmware soundhw spice spice_clipboard_sharing spice_image_compression
        spice_streaming_video spiceagent_mouse spicedisable_ticketing spicehost spicepasswd spiceport spicetls_port
        spiceusbredirection spicevdagent stdvga stubdomain_cmdline stubdomain_kernel stubdomain_memory
        stubdomain_ramdisk usb usbdevice usbversion vendor_device vga videoram viridian vkb_device xen_platform_pci
        xen_platform_pci_bar_uc`,
        HVM,
      ),
      ...all('pvh pvshim pvshim_path pvshim_cmdline pvshim_extra', PVH),
    },
  },
  {
    title: 'Only for Arm',
    keys: all('arm_sci device_tree gic_version nr_spis sve tee trap_unmapped_accesses vuart', ARM),
  },
  {
    title: 'What xm had',
    keys: {
      dhcp: warned(`${COMMAND_LINE} as "ip=dhcp": put that into extra if the guest needs it`, {
        already: /^off$/,
      }),
      ...all(
        'ip netmask gateway hostname interface',
        warned(
          `${COMMAND_LINE} as "ip=ADDRESS:SERVER:GATEWAY:NETMASK:HOSTNAME:INTERFACE:off": put that into extra if the guest needs it`,
        ),
      ),
      ...all(
        'nfs_server nfs_root',
        warned(`${COMMAND_LINE} as "nfsroot=SERVER:PATH": put that into extra if the guest needs it`),
      ),
      nics: warned('is ignored, as by xl: each entry of vif is an interface'),
      cpu: warned("has no effect here: the host's Linux chooses the processors"),
      cpu_cap: warned('is ignored, as by xl: it is called cap now'),
      vcpu_avail: warned(
        'is ignored, as by xl: vcpus says how many are online, and maxvcpus how many there can be',
      ),
      restart: warned('is ignored, as by xl: on_reboot and on_crash say when a guest starts again'),
      ...all('on_xend_start on_xend_stop', warned('is ignored, as by xl: there is no xend')),
      ...all('vscsi vusb irq', PASSED),
      ...all('blkif netif', warned('is ignored, as by xl: other guests cannot use this one as a back end')),
      claim_mode: warned('is ignored: it is a key of xl.conf'),
      ...all(
        `access_control cpuid_check description fda fdb features guest_os_type isa loader machine_address_size
        memory_sharing monitor monitor_path parallel s3_integrity superpages suppress_spurious_page_faults target vhpt
        vncconsole`,
        XEND,
      ),
    },
  },
];

export const KEYS: ReadonlyMap<string, KeyRow> = new Map(
  KEY_SECTIONS.flatMap(({ keys }) => Object.entries(keys)),
);

/** Whether `stillpoint wrap` gives the key to the helper domain. */
export function isOfDomain(key: string): boolean {
  const row = KEYS.get(key);
  return row !== undefined && row.verdict !== 'refused' && row.ofDomain === true;
}

/** How many characters have to be added, removed or replaced to make one word of the other; 3 for more than 2. */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return 3;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return Math.min(3, row[b.length]);
}

/** Keys of fewer characters are like too many others. */
const LEAST_LIKE = 4;
/** Keys of fewer characters may differ by one only. */
const LEAST_TWO = 6;
const LONGEST_KEY = 40;

/** A done or refused key for which `key` may be a mistake of typing. */
export function keyLike(key: string): string | undefined {
  if (key.length < LEAST_LIKE || key.length > LONGEST_KEY) return undefined;
  const most = key.length < LEAST_TWO ? 1 : 2;
  const near = [...KEYS].filter(([one, row]) => row.verdict !== 'warned' && distance(key, one) <= most);
  near.sort(([a], [b]) => distance(key, a) - distance(key, b));
  return near[0]?.[0];
}
