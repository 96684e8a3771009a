// A guest for tests of moves: no processor, but everything that a move must not lose. Each tick it writes one page,
// and restoreState() holds every byte of RAM against what the counter says must be there.
//
// Its "disk" is a lock file (config.more.disk): attach and resume take it, pause lets it go. Two live guests at
// once would be seen there, and are written to DISK.violations. Its "image" (config.more.image) is a file that it only
// opens, again each time, as servers of disks do.
import {
  appendFileSync,
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';

const PAGE = 4096;
const encode = (value) => new TextEncoder().encode(JSON.stringify(value));
const decode = (bytes) => {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw Object.assign(new Error('not a state of the fake guest'), { name: 'RecordError' });
  }
};

export function readConfig(text, file, directory) {
  const more = { ticksPerTurn: 20, tickMs: 1, frames: 512, directory };
  const found = { name: undefined, uuid: undefined, onCrash: 'destroy', onReboot: 'restart', ...more };
  text.split('\n').forEach((line, i) => {
    if (line.trim() === '' || line.startsWith('#')) return;
    const match = /^(\w+)\s*=\s*(?:"([^"]*)"|(-?[\d.]+))$/.exec(line.trim());
    if (match === null) throw new Error(`${file}:${i + 1}: key = value expected`);
    found[match[1]] = match[2] ?? Number(match[3]);
  });
  if (found.name === undefined) throw new Error(`${file}: name is missing`);
  const { name, uuid, onCrash, onReboot, kernel = '', ...rest } = found;
  const disk = { target: found.image, format: 'raw', readOnly: false, cdrom: false };
  const spec = JSON.stringify({ ...disk, vdev: 'xvda', virtualDevice: 51712 });
  return {
    name,
    uuid: uuid ?? crypto.randomUUID(),
    vcpus: 1,
    memoryKib: found.frames * 4,
    maxMemoryKib: found.frames * 4,
    kernel,
    ramdisk: '',
    cmdline: '',
    onPoweroff: 'destroy',
    onReboot,
    onCrash,
    clock: 'elapse',
    devices: found.image === undefined ? [] : [{ kind: 'vbd', devid: 51712, spec }],
    more: rest,
  };
}

/** Holds this process at `step` while the test wants it: as long as the file GATES/STEP is there. */
function gate(config, step) {
  const { gates } = config.more;
  if (gates === undefined || !existsSync(`${gates}/${step}`)) return;
  closeSync(openSync(`${gates}/${step}.reached`, 'w'));
  const clock = new Int32Array(new SharedArrayBuffer(4));
  while (existsSync(`${gates}/${step}`)) Atomics.wait(clock, 0, 0, 2);
}

/** A process that is dead and not yet waited for holds no lock. */
function isAlive(pid) {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

/** A lock as a disk has one: it goes with the process that holds it. Throws EEXIST where a live one does. */
function takeLock(path) {
  for (;;) {
    try {
      const fd = openSync(path, 'wx', 0o666);
      writeSync(fd, String(process.pid));
      closeSync(fd);
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
      let holder;
      try {
        holder = readFileSync(path, 'utf8');
      } catch {
        continue;
      }
      if (holder === '' || isAlive(holder)) throw error;
      rmSync(path, { force: true });
    }
  }
}

/** What tick `count` writes: all of one page. */
const pageOf = (count, frames) => (count * 7919 + (count >>> 4)) % frames;

class FakeGuest {
  count = 0;
  moves = 0;
  console = '';
  running = false;
  dirty;
  logging = false;
  timer;

  constructor(config, host, hooks) {
    this.config = config;
    this.host = host;
    this.hooks = hooks;
    this.name = config.name;
    this.uuid = config.uuid;
    this.frames = config.more.frames;
    this.ram = new Uint8Array(new SharedArrayBuffer(this.frames * PAGE));
    this.words = new Float64Array(this.ram.buffer);
    this.dirty = new Uint8Array((this.frames + 7) >>> 3);
  }
  get movable() {
    return this;
  }
  get runner() {
    return this;
  }

  // --- the guest's life ---
  write(page, value) {
    this.words.fill(value, page * (PAGE / 8), (page + 1) * (PAGE / 8));
    if (this.logging) this.dirty[page >>> 3] |= 1 << (page & 7);
  }
  tick() {
    this.count++;
    // Every 64th write empties the page again: zero pages must travel too.
    this.write(pageOf(this.count, this.frames), this.count % 64 === 0 ? 0 : this.count);
    if (this.count % 500 === 0) this.hooks.console(new TextEncoder().encode(`tick ${this.count}\n`));
    const { stopAt, stopReason } = this.config.more;
    if (this.count === stopAt) {
      this.halt();
      this.hooks.stopped(stopReason ?? 'poweroff', '');
    }
  }
  turn = () => {
    if (!this.running) return;
    for (let i = 0; i < this.config.more.ticksPerTurn && this.running; i++) this.tick();
    this.timer = setTimeout(this.turn, this.config.more.tickMs);
  };
  halt() {
    this.running = false;
    clearTimeout(this.timer);
    this.unlockDisk();
  }
  start() {
    gate(this.config, 'start');
    this.running = true;
    if (this.moves === 0) this.lockDisk();
    this.turn();
  }
  lockDisk() {
    const { disk } = this.config.more;
    if (disk === undefined) return;
    try {
      takeLock(disk);
      this.locked = true;
    } catch (error) {
      appendFileSync(`${disk}.violations`, `${this.host.identity.name} ${this.count}: ${error.code}\n`);
    }
  }
  unlockDisk() {
    if (this.locked) unlinkSync(this.config.more.disk);
    this.locked = false;
  }

  // --- MovableGuest ---
  describe() {
    gate(this.config, 'describe');
    return encode({ ...this.config, name: this.name });
  }
  startDirtyLog() {
    gate(this.config, 'dirty-log');
    this.dirty.fill(0);
    this.logging = true;
  }
  readDirty(into) {
    gate(this.config, 'round');
    let fresh = 0;
    for (let i = 0; i < this.dirty.length; i++) {
      for (let b = this.dirty[i]; b !== 0; b &= b - 1) fresh++;
      into[i] |= this.dirty[i];
    }
    this.dirty.fill(0);
    return fresh;
  }
  stopDirtyLog() {
    this.logging = false;
  }
  async pause() {
    gate(this.config, 'pause');
    this.running = false;
    clearTimeout(this.timer);
    this.unlockDisk();
  }
  openImage() {
    const { image } = this.config.more;
    if (image !== undefined) closeSync(openSync(image, 'r+'));
  }
  resume() {
    try {
      this.openImage();
    } catch (error) {
      appendFileSync(`${this.config.more.disk}.violations`, `image: ${error.message}\n`);
    }
    if (this.running) appendFileSync(`${this.config.more.disk}.violations`, 'resumed while running\n');
    this.running = true;
    this.lockDisk();
    this.turn();
  }
  saveState() {
    gate(this.config, 'save-state');
    return encode({ count: this.count, moves: this.moves });
  }
  async release() {}
  async detach() {
    gate(this.config, 'detach');
    this.halt();
  }

  // --- IncomingGuest ---
  restoreState(records) {
    gate(this.config, 'restore-state');
    const { count, moves } = decode(records);
    const expected = new Float64Array(this.frames);
    for (let c = Math.max(1, count - this.frames * 64); c <= count; c++) {
      expected[pageOf(c, this.frames)] = c % 64 === 0 ? 0 : c;
    }
    for (let page = 0; page < this.frames; page++) {
      for (const at of [0, 1, PAGE / 8 - 1]) {
        const found = this.words[page * (PAGE / 8) + at];
        if (found !== expected[page] && count < this.frames * 64) {
          throw Object.assign(
            new Error(`page ${page} holds ${found}, ${expected[page]} expected at tick ${count}`),
            {
              name: 'RecordError',
            },
          );
        }
      }
    }
    this.count = count;
    this.moves = moves + 1;
  }
  async attach() {
    gate(this.config, 'attach');
    this.openImage();
    const { disk, refuseOn } = this.config.more;
    if (refuseOn === this.host.identity.name) throw new Error('the disk is not to be had');
    if (disk === undefined) return;
    if (existsSync(`${disk}.refuse`)) throw new Error('the disk is not to be had');
    takeLock(disk);
    this.locked = true;
  }
  async discard() {
    this.unlockDisk();
  }

  // --- GuestRunner ---
  type(bytes) {
    const text = new TextDecoder().decode(bytes);
    if (text.includes('crash')) {
      this.halt();
      this.hooks.stopped('crash', 'told to');
    } else this.hooks.console(bytes);
    return bytes.length;
  }
  requestShutdown(kind, signal) {
    if (this.config.more.wild === 1) {
      return new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(new Error('withdrawn'))),
      );
    }
    setTimeout(() => {
      this.halt();
      this.hooks.stopped(kind, '');
    }, 20);
    return Promise.resolve();
  }
  status() {
    return {
      vcpus: [{ id: 0, state: this.running ? 'running' : 'blocked', seconds: this.count / 1000 }],
      cpuSeconds: this.count / 1000,
      memoryKib: this.config.memoryKib,
      uptimeSeconds: this.count / 100,
      instructions: this.count,
    };
  }
  points() {
    return [
      {
        name: 'domain id',
        inner: '1',
        outer: String(this.host.domid),
        pretended: this.host.pretended.has('domid'),
        moves: this.moves,
      },
    ];
  }
  devices() {
    return [];
  }
  dmesg() {
    return `(XEN) fake guest ${this.name}\n`;
  }
  rename(name) {
    this.name = name;
  }
}

/** For tests that look at one in their own process. */
export const makeFakeGuest = (config, host, hooks) => new FakeGuest(config, host, hooks);

export function openFactory(host, hooks) {
  return {
    async create(config) {
      const guest = new FakeGuest(config, host, hooks);
      guest.openImage();
      return guest;
    },
    async construct(description, given) {
      const config = given ?? decode(description);
      gate(config, 'construct');
      return new FakeGuest(config, host, hooks);
    },
  };
}
