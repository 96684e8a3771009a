import { expect, test } from 'vitest';
import { readXlConfig, readXlSettings } from './config.js';
import { isOfDomain, KEY_SECTIONS, KEYS, keyLike } from './config-keys.js';
import { parseConfig } from './xl-cfg.js';

/** All that xl has read from a configuration, and xl.cfg(5) has told of, up to Xen 4.23: xl_parse.c, xl.cfg.5.pod.in. */
const OF_XL = `
  acpi acpi_firmware acpi_laptop_slate acpi_s3 acpi_s4 altp2m altp2m_count altp2mhvm apic arm_sci bios
  bios_path_override boot bootloader bootloader_args bootloader_restrict bootloader_user builder cap channel
  cmdline cpu_weight cpuid cpus cpus_soft device_model device_model_args device_model_args_hvm
  device_model_args_pv device_model_override device_model_stubdomain_override
  device_model_stubdomain_seclabel device_model_user device_model_version device_tree disk display
  dm_restrict driver_domain dtdev e820_host extra extratime firmware firmware_override gfx_passthru
  gic_version hap hdtype hpet hvm_pirq init_seclabel iomem ioports irqs kernel keymap latency llc_colors
  localtime max_event_channels max_grant_frames max_grant_version max_maptrack_frames maxmem maxvcpus
  mca_caps memory mmio_hole ms_vm_genid msr_relaxed name nestedhvm nographic nomigrate nr_spis nx on_crash
  on_poweroff on_reboot on_soft_reset on_watchdog oos opengl p9 pae passthrough pci pci_msitranslate
  pci_permissive pci_power_mgmt pci_seize period pool pvcalls pvh pvshim pvshim_cmdline pvshim_extra
  pvshim_path ramdisk rdm rdm_mem_boundary root rtc_timeoffset sdl seclabel serial shadow_memory slice
  smbios smbios_firmware soundhw spice spice_clipboard_sharing spice_image_compression spice_streaming_video
  spiceagent_mouse spicedisable_ticketing spicehost spicepasswd spiceport spicetls_port spiceusbredirection
  spicevdagent stdvga stubdomain_cmdline stubdomain_kernel stubdomain_memory stubdomain_ramdisk sve tee
  timer_mode trap_unmapped_accesses tsc_mode type usb usbctrl usbdev usbdevice usbversion uuid vcpus vdispl
  vendor_device vfb vga videoram vif vif2 viridian virtio vkb vkb_device vmtrace_buf_kb vnc vncdisplay
  vnclisten vncpasswd vncunused vncviewer vnuma vpmu vpt_align vsnd vtpm vuart xauthority xen_platform_pci
  xen_platform_pci_bar_uc xend_suspend_evtchn_compat xenstore_feature_mask xenstore_quota`;
/** What xm had beside them: create.py of Xen 4.4. */
const OF_XM = `
  access_control blkif bootargs bootentry cpu cpu_cap cpuid_check description dhcp fda fdb features gateway
  guest_os_type hostname interface ip irq isa loader machine_address_size memory_sharing monitor
  monitor_path netif netmask nfs_root nfs_server nics on_xend_start on_xend_stop parallel restart
  s3_integrity superpages suppress_spurious_page_faults target vcpu_avail vhpt vncconsole vscsi vusb`;
const words = (text: string): string[] => text.trim().split(/\s+/);

test('every key of xl and of xm has a verdict', () => {
  expect([...words(OF_XL), ...words(OF_XM)].filter((key) => !KEYS.has(key))).toEqual([]);
});

test('no key has two verdicts', () => {
  const all = KEY_SECTIONS.flatMap(({ keys }) => Object.keys(keys));
  expect(all.filter((key, i) => all.indexOf(key) !== i)).toEqual([]);
});

test('the keys that are done are those that the reader of configurations reads, and no others', () => {
  const asked = new Set<string>();
  const { settings, ...file } = parseConfig('name = "g"\nkernel = "k"\n', 'g.cfg');
  const spied = new Map(settings);
  spied.get = (key) => {
    asked.add(key);
    return settings.get(key);
  };
  readXlSettings({ ...file, settings: spied });
  const done = [...KEYS].filter(([, { verdict }]) => verdict === 'done').map(([key]) => key);
  expect([...asked].sort()).toEqual(done.sort());
});

test.each([...KEYS].filter(([, { verdict }]) => verdict !== 'done'))('%s: %o', (key, row) => {
  const read = (value: string) =>
    readXlConfig(`name = "g"\nkernel = "k"\n${key} = ${value}\n`, 'g.cfg').warnings;
  if (row.verdict === 'warned') expect(read('"x"')).toEqual([`g.cfg:3:1: ${key} ${row.words}`]);
  else expect(() => read('[ "x" ]')).toThrow(`g.cfg:3:1: ${key} is not supported: ${row.words}`);
  expect(read('[]')).toEqual([]);
  expect(read('0')).toEqual([]);
});

test('what is about a domain of Xen, whatever runs in it, is for the helper domain', () => {
  const ofDomain = [...KEYS.keys()].filter(isOfDomain).sort();
  expect(ofDomain).toEqual(
    words(`cap cpu_weight cpus cpus_soft max_event_channels max_grant_frames max_grant_version max_maptrack_frames
      on_crash on_poweroff on_reboot on_soft_reset on_watchdog pool seclabel tsc_mode`),
  );
});

test('of keys that are like an unknown one, the nearest that does something is named', () => {
  expect([keyLike('memroy'), keyLike('ramdsk'), keyLike('disks'), keyLike('vifs')]).toEqual([
    'memory',
    'ramdisk',
    'disk',
    'vif',
  ]);
  expect([keyLike('somewhat_else'), keyLike('mac'), keyLike('roof1')]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});
