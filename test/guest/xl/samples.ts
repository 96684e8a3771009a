/** Configurations that xl is asked about: those of the folder, and what shows how it reads each form of a value. */
import { readdirSync, readFileSync } from 'node:fs';
import { inRoot } from '../../../scripts/lib/root.js';

const FOLDER = inRoot('test/guest/configurations');
const BASE = 'name = "g"\nkernel = "/k"\nmemory = 64\n';

/** The text of a configuration of the folder, with places that are the same everywhere. One character is one byte. */
const named = (file: string): string =>
  readFileSync(`${FOLDER}/${file}`, 'latin1')
    .replace('@KERNEL@', '/kernel')
    .replace('@RAMDISK@', '/ramdisk')
    .replace('@DISKS@', '/d');

/** Settings that follow those every guest needs. */
const MORE: Readonly<Record<string, string>> = {
  'every key that is done': `type = "pv"
uuid = "EA175E9D-d885-4390-98e8-fdfbeb53849e"
ramdisk = "/r"
root = "/dev/xvda1 ro"
extra = "quiet"
memory = 0x100
maxmem = "512"
vcpus = 2
maxvcpus = 4
on_poweroff = "preserve"
on_reboot = 'destroy'
on_crash = "restart"
localtime = 1
rtc_timeoffset = 3600
max_grant_frames = 128
disk = [ '/d,raw,xvda', '/e,,xvdb,r' ]
vif = [ '', 'mac=00:16:3e:00:00:01' ]`,
  'builder generic': 'builder = "generic"',
  'a prefix of a type': 'type = "p"',
  'builder and type that differ': 'builder = "generic"; type = "hvm"',
  'cmdline before root and extra': 'cmdline = "a b"; root = "/x"; extra = "y"',
  'root only': 'root = "/x"',
  'extra only': 'extra = "x y"',
  'the last of two settings': 'memory = 65\nmemory = 66',
  'text added to text': 'extra = "a"\nextra += " b"\nextra += \'c\'',
  'items added to items': 'vif = [ "bridge=a" ]\nvif += [ "bridge=b", "bridge=c" ]',
  'a list added to text': 'extra = "a"\nextra += [ "b" ]',
  'a number that is added': 'vcpus = 1\nvcpus += 2',
  'octal, hexadecimal and text': 'memory = 0200; maxmem = "0x100"; vcpus = "2"',
  'a number with blanks and a sign': 'memory = " +128"',
  'more vCPUs than the most': 'vcpus = 3; maxvcpus = 2',
  'escapes of one letter': 'extra = "\\a\\b\\f\\n\\r\\t\\v\\\\\\"\\\'"',
  'hexadecimal escapes': 'extra = "\\x41"',
  'octal escapes': 'extra = "a\\101b"',
  'an unknown escape': 'extra = "\\q"',
  'UTF-8': 'extra = "é \u20ac"',
  'quotes in the other quotes': `extra = "it's" ; ramdisk = 'a"b'`,
  'what looks like a comment': 'extra = "#x;y" # a comment',
  'a comment without a line end': 'extra = "x" # no end',
  'semicolons and empty lines': ';;\n\n ; extra = "x";;\n',
  'a list over lines': 'vif = [ # one\n "bridge=a" # two\n , \n\n "bridge=b",\n]',
  'an empty list': 'vif = [ ]',
  'a list that begins with a comma': 'vif = [ , ]',
  'a list without a comma': 'vif = [ "bridge=a" "bridge=b" ]',
  'a list that does not end': 'vif = [ "bridge=a"',
  'lists in a list': 'disk = [ [ "/d,raw,xvda" ] ]',
  'a list where text should be': 'extra = [ "x" ]',
  'text where a list should be': 'vif = "bridge=a"',
  'a line end after the equals sign': 'extra =\n"x"',
  'two settings on a line': 'extra = "x" vcpus = 2',
  'text over two lines': 'extra = "a\nb"',
  'a key in capitals': 'Extra = "x"',
  'a word that is no text': 'extra = x',
  'a negative number': 'rtc_timeoffset = -1',
  'a negative number in quotes': 'rtc_timeoffset = "-1"',
  'carriage returns': 'extra = "x"\r\nvcpus = 2\r\n',
  'unknown keys': 'nothing = 1\nnothing_else = [ "x" ]',
  'the ends that are not done whole':
    'on_poweroff = "rename-restart"\non_reboot = "coredump-destroy"\non_crash = "coredump-restart"',
  'an unknown end': 'on_crash = "dance"',
  'positions of a disk': "disk = [ '/a,raw,xvda,w', '/b,qcow2,xvdb,r', '/c,,sda1,rw', '/e,raw,hdc:cdrom,r' ]",
  'names of a disk':
    "disk = [ 'format=qcow2, vdev=xvda, access=ro, target=/a, b.img', 'vdev=xvdb,direct-io-safe,no-discard,target=/b' ]",
  'names after positions of a disk': "disk = [ '/a,raw,vdev=xvda', '/b,vdev=xvdb,format=raw,access=r' ]",
  'old prefixes of a disk':
    "disk = [ 'file:/a,xvda,w', 'phy:vg/lv,xvdb,r', 'tap:aio:/c,xvdc,w', 'tap2:qcow2:/e,sda,r', 'tap:vhd:/f,hda,w' ]",
  drives:
    "disk = [ ',,hda:cdrom', 'vdev=hdb,cdrom', '/i.iso,raw,hdc,cdrom', '/j.iso,raw,hdd,r,devtype=cdrom' ]",
  'back ends of a disk': "disk = [ '/a,raw,xvda,w,backendtype=phy', '/b,raw,xvdb,w,backendtype=qdisk' ]",
  'an unknown parameter of a disk': "disk = [ '/a,raw,xvda,w,nothing=1' ]",
  'an unknown format of a disk': "disk = [ '/a,vmdk,xvda,w' ]",
  'an unknown prefix of a disk': "disk = [ 'nothing:/a,xvda,w' ]",
  'a disk without vdev': "disk = [ '/a,raw' ]",
  'a script of a disk': "disk = [ 'script=block-x,vdev=xvda,target=a:b' ]",
  'all of a vif':
    "vif = [ 'mac=00:16:3E:74:3d:76, bridge=xenbr0,ip=10.0.0.2 10.0.0.3,vifname=web0,rate=1MB/s@20ms,mtu=9000,devid=3,type=vif,gatewaydev=eth0' ]",
  'addresses of a vif': "vif = [ 'mac=0:1:2:3:4:5', 'mac=00-16-3e-00-00-01' ]",
  'rates of a vif': "vif = [ 'rate=10Mb/s', 'rate=250KB/s', 'rate=8b/s@1s', 'rate=1GB/s@500us' ]",
  'back ends of vifs that are trusted or not': "vif = [ 'untrusted', 'trusted', 'bridge=a' ]",
  'a back end of a disk that is not trusted': "disk = [ '/a,raw,xvda,w,untrusted' ]",
  'the old name of gatewaydev': "vif = [ 'netdev=eth1' ]",
  'an unknown parameter of a vif': "vif = [ 'bridge=a,speed=9', 'xenbr0' ]",
  'a script of a vif': "vif = [ 'script=vif-route,backend=net' ]",
  'a bad address of a vif': "vif = [ 'mac=zz' ]",
  'a bad rate of a vif': "vif = [ 'rate=10' ]",
  'nothing of a framebuffer': 'vfb = []\nvnc = 0\nsdl = 0\npci = []',
};

/** By name; one character is one byte. */
export const SAMPLES: ReadonlyMap<string, string> = new Map([
  ...readdirSync(FOLDER)
    .sort()
    .map((file): [string, string] => [file, named(file)]),
  ...Object.entries(MORE).map(([name, more]): [string, string] => [
    name,
    Buffer.from(`${BASE}${more}${/[\n"]$|no end$/.test(more) ? '' : '\n'}`).toString('latin1'),
  ]),
]);
