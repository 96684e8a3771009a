/** A guest's configuration as libxl keeps it: the JSON of `xl list -l` and `xl create -n`. */
import { type GuestConfig, readDiskSpec, readVifSettings } from '../protocol/guest-config.js';
import { DOM0_NAME, type Machine } from './machine.js';

const KIB = 1024;
/** libxl's mark of a domain id that is not given. */
const INVALID_DOMID = 2 ** 32 - 1;
const EMPTY = {};

const ACTIONS = { destroy: 'destroy', restart: 'restart', preserve: 'preserve' } as const;
const actionName = (action: string): string =>
  (ACTIONS as Readonly<Record<string, string>>)[action] ?? action.replace('coredump-', 'coredump_');

/** What is written only if it differs from libxl's default. */
const unless = <T>(value: T, usual: T): T | undefined => (value === usual ? undefined : value);

function diskJson(json: string) {
  const { target, format, vdev, readOnly, cdrom, backendType, discard, directIoSafe } = readDiskSpec(json);
  const types: Readonly<Record<string, string>> = { phy: 'phy', qdisk: 'qdisk', tap: 'tap' };
  return {
    pdev_path: target,
    vdev,
    backend: types[backendType] ?? (format === 'raw' ? 'phy' : 'qdisk'),
    format,
    readwrite: readOnly ? 0 : 1,
    is_cdrom: cdrom ? 1 : undefined,
    direct_io_safe: unless(directIoSafe, false),
    discard_enable: discard && !readOnly ? 'True' : 'False',
    colo_enable: 'False',
    colo_restore_enable: 'False',
  };
}

function nicJson(devid: number, json: string) {
  const { mac, bridge, ip, gatewayDevice, vifName, mtu } = readVifSettings(json);
  return {
    devid,
    mtu: unless(mtu, 1500),
    mac,
    ip: unless(ip, ''),
    bridge: bridge === '' ? 'xenbr0' : bridge,
    ifname: unless(vifName, ''),
    gatewaydev: unless(gatewayDevice, ''),
    script: '/etc/xen/scripts/vif-bridge',
    nictype: 'vif',
  };
}

/** `config` of a domain in `xl list -l`. */
export function configJson(config: GuestConfig) {
  const online = config.onlineVcpus ?? config.vcpus;
  const of = (kind: string) => config.devices.filter((device) => device.kind === kind);
  const [disks, nics] = [of('vbd'), of('vif')];
  return {
    c_info: {
      type: 'pv',
      name: config.name,
      domid: INVALID_DOMID,
      uuid: config.uuid,
      run_hotplug_scripts: 'True',
    },
    b_info: {
      max_vcpus: config.vcpus,
      avail_vcpus: Array.from({ length: online }, (_, i) => i),
      max_memkb: config.maxMemoryKib,
      target_memkb: config.memoryKib,
      video_memkb: 0,
      sched_params: { sched: 'credit2', weight: 256, cap: 0 },
      claim_mode: 'True',
      kernel: unless(config.kernel, ''),
      cmdline: unless(config.cmdline, ''),
      ramdisk: unless(config.ramdisk, ''),
      'type.pv': EMPTY,
      arch_arm: EMPTY,
      arch_x86: { msr_relaxed: 'False' },
    },
    disks: disks.length === 0 ? undefined : disks.map(({ spec }) => diskJson(spec)),
    nics: nics.length === 0 ? undefined : nics.map(({ devid, spec }) => nicJson(devid, spec)),
    on_poweroff: unless(actionName(config.onPoweroff), 'destroy'),
    on_reboot: unless(actionName(config.onReboot), 'destroy'),
    on_crash: unless(actionName(config.onCrash), 'destroy'),
    on_soft_reset: 'soft_reset',
  };
}

export function dom0Json({ totalBytes, cpus }: Machine) {
  const kib = Math.floor(totalBytes / KIB);
  return {
    domid: 0,
    config: {
      c_info: { type: 'pv', name: DOM0_NAME },
      b_info: {
        max_vcpus: cpus,
        avail_vcpus: Array.from({ length: cpus }, (_, i) => i),
        max_memkb: kib,
        target_memkb: kib,
        'type.pv': EMPTY,
        arch_arm: EMPTY,
        arch_x86: EMPTY,
      },
    },
  };
}
