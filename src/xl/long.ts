/** A guest's configuration as libxl keeps it: the JSON of `xl list -l` and `xl create -n`. */
import { type GuestConfig, readDiskSpec, readVifSettings } from '../protocol/guest-config.js';
import { DOM0_NAME, type Machine } from './machine.js';

const KIB = 1024;
/** libxl's mark of a domain id that is not given. */
const INVALID_DOMID = 2 ** 32 - 1;
const EMPTY = {};
const SCHEDULED = { sched: 'credit2', weight: 256, cap: 0 };

/** What libxl writes only if it differs from the default. */
const unless = <T>(value: T, usual: T): T | undefined => (value === usual ? undefined : value);
const action = (name: string): string | undefined =>
  unless(name.replace('coredump-', 'coredump_'), 'destroy');

function diskJson(json: string, made: boolean) {
  const { target, format, vdev, readOnly, cdrom, backendType, discard, directIoSafe } = readDiskSpec(json);
  return {
    pdev_path: target,
    vdev,
    backend: unless(backendType, ''),
    format,
    removable: cdrom ? 1 : undefined,
    readwrite: readOnly ? undefined : 1,
    is_cdrom: cdrom ? 1 : undefined,
    direct_io_safe: unless(directIoSafe, false),
    discard_enable: discard ? undefined : 'False',
    colo_restore_enable: made ? 'False' : undefined,
  };
}

function nicJson(devid: number, json: string, made: boolean) {
  const { mac, bridge, ip, gatewayDevice, vifName, mtu } = readVifSettings(json);
  return {
    devid,
    mtu: unless(mtu, 1500),
    mac,
    ip: unless(ip, ''),
    bridge: bridge === '' ? 'xenbr0' : bridge,
    ifname: unless(vifName, ''),
    nictype: made ? 'vif' : undefined,
    gatewaydev: unless(gatewayDevice, ''),
  };
}

/** The configuration of a domain in `xl list -l`; `made` false: of one that `xl create -n` would make. */
export function configJson(config: GuestConfig, made: boolean) {
  const online = config.onlineVcpus ?? config.vcpus;
  const of = (kind: string) => config.devices.filter((device) => device.kind === kind);
  const [disks, nics] = [of('vbd'), of('vif')];
  return {
    c_info: {
      type: 'pv',
      name: config.name,
      domid: made ? INVALID_DOMID : undefined,
      uuid: config.uuid,
      run_hotplug_scripts: 'True',
    },
    b_info: {
      max_vcpus: config.vcpus,
      avail_vcpus: Array.from({ length: online }, (_, i) => i),
      max_memkb: config.maxMemoryKib,
      target_memkb: config.memoryKib,
      video_memkb: made ? 0 : undefined,
      sched_params: made ? SCHEDULED : EMPTY,
      claim_mode: 'True',
      kernel: unless(config.kernel, ''),
      cmdline: unless(config.cmdline, ''),
      ramdisk: unless(config.ramdisk, ''),
      'type.pv': EMPTY,
      arch_arm: EMPTY,
      arch_x86: made ? { msr_relaxed: 'False' } : EMPTY,
    },
    disks: disks.length === 0 ? undefined : disks.map(({ spec }) => diskJson(spec, made)),
    nics: nics.length === 0 ? undefined : nics.map(({ devid, spec }) => nicJson(devid, spec, made)),
    on_poweroff: action(config.onPoweroff),
    on_reboot: action(config.onReboot),
    on_crash: action(config.onCrash),
    on_soft_reset: 'soft_reset',
  };
}

export function dom0Json({ totalBytes }: Machine) {
  const kib = Math.floor(totalBytes / KIB);
  return {
    domid: 0,
    config: {
      c_info: { type: 'pv', name: DOM0_NAME },
      b_info: {
        max_memkb: kib,
        target_memkb: kib,
        sched_params: SCHEDULED,
        'type.pv': EMPTY,
        arch_arm: EMPTY,
        arch_x86: EMPTY,
      },
    },
  };
}
