/** The configurations of the guests for which `npm run soak -- xl` asked xl. In dom0, their files are in /s. */

const UUID = '6e0f4a52-1d0c-4c9b-9d3a-0a2f4b7c5d11';

export const WEB = [
  'name = "web"',
  `uuid = "${UUID}"`,
  'kernel = "/s/vmlinux"',
  'ramdisk = "/s/initramfs"',
  'extra = "console=hvc0 rdinit=/init quiet"',
  'memory = 128',
  'maxmem = 256',
  'vcpus = 2',
  'maxvcpus = 4',
  'disk = ["/s/disk.img,raw,xvda,w", "/s/disk2.img,raw,xvdb,r"]',
  'vif = ["mac=00:16:3e:77:00:21,bridge=xenbr0"]',
  'on_crash = "preserve"',
  '',
].join('\n');
export const PLAIN = [
  'name = "plain"',
  'kernel = "/s/vmlinux"',
  'ramdisk = "/s/initramfs"',
  'extra = "console=hvc0 rdinit=/init quiet"',
  'memory = 128',
  '',
].join('\n');
