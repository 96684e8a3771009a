import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deviceTree } from '../guest/device-tree.js';
import { XenstoreServer } from '../xenstore/server/server.js';
import {
  type Bus,
  type FrontEnd,
  type Nodes,
  XenbusBackend,
  type XenbusDriver,
  XenbusError,
} from './xenbus.js';
import { plant } from './xenstore.js';

const FRONT = '/local/domain/1/device/vbd/51712';
const BACK = '/local/domain/0/backend/vbd/1/51712';

/** A driver that counts the resources that it holds, and lets go of them when it is told to. */
class Held implements XenbusDriver {
  bus: Bus | undefined;
  held = 0;
  started = 0;
  slow = false;
  waiting: (() => void) | undefined;
  connectsAt = (state: number): boolean => state === 3 || state === 4;
  offers = (): Nodes => ({ 'feature-x': 1 });
  connect(front: FrontEnd): Nodes {
    expect(this.held).toBe(0);
    front.number('ring-ref', 0xffff_ffff);
    this.held++;
    return { sectors: 8 };
  }
  start(): void {
    expect(this.held).toBe(1);
    this.started++;
  }
  async pause(): Promise<void> {}
  disconnect(done: () => void): void {
    expect(this.held).toBe(1);
    expect(this.waiting).toBeUndefined();
    this.waiting = () => {
      this.waiting = undefined;
      this.held--;
      done();
    };
    if (!this.slow) this.waiting();
  }
  save = (): Uint8Array => new Uint8Array([this.held]);
  restore(record: Uint8Array): void {
    this.held = record[0];
  }
}

function setUp(server = new XenstoreServer(), fresh = true) {
  const dom0 = server.local(0);
  const guest = server.local(1);
  const driver = new Held();
  const counts = { gone: 0, log: [] as string[] };
  const id = { kind: 'vbd', devid: 51712, domid: 1 };
  if (fresh) plant(dom0, deviceTree({ ...id, front: {}, back: {} }));
  const bus = new XenbusBackend(dom0, id, driver, {
    log: (line) => counts.log.push(line),
    gone: () => counts.gone++,
  });
  const state = () => guest.read(`${BACK}/state`);
  const front = (n: number | string) => guest.write(`${FRONT}/state`, String(n));
  return { server, dom0, guest, driver, bus, counts, state, front };
}

describe('the back end of a split device', () => {
  it('connects to a Linux front end that comes, goes and comes again', () => {
    const { driver, bus, guest, state, front } = setUp();
    bus.begin();
    expect([state(), guest.read(`${BACK}/feature-x`)]).toEqual(['2', '1']);
    for (let i = 1; i <= 3; i++) {
      guest.write(`${FRONT}/ring-ref`, '8');
      front(3);
      expect([state(), driver.held, guest.read(`${BACK}/sectors`)]).toEqual(['4', 1, '8']);
      front(4);
      expect(driver.started).toBe(i);
      front(5);
      expect([state(), driver.held]).toEqual(['5', 1]);
      front(6);
      expect([state(), driver.held]).toEqual(['6', 0]);
      front(1);
      expect(state()).toBe('2');
    }
  });

  it('forgets the rings of a front end that starts anew without closing first, as after kexec', () => {
    const { driver, bus, guest, state, front } = setUp();
    bus.begin();
    guest.write(`${FRONT}/ring-ref`, '8');
    front(3);
    front(1);
    expect([state(), driver.held]).toEqual(['2', 0]);
    front(3);
    expect([state(), driver.held]).toEqual(['4', 1]);
  });

  it('reports what is wrong when a front end wrote nonsense, and connects once that has closed', () => {
    const { driver, bus, guest, dom0, counts, state, front } = setUp();
    bus.begin();
    guest.write(`${FRONT}/ring-ref`, '-8');
    front(3);
    expect([state(), driver.held]).toEqual(['5', 0]);
    expect(counts.log).toEqual(['vbd 51712: ring-ref is "-8", not a number up to 4294967295']);
    expect(dom0.read('/local/domain/0/error/backend/vbd/1/51712/error')).toContain('ring-ref');
    guest.write(`${FRONT}/ring-ref`, '8');
    front(4);
    expect(state()).toBe('5');
    front(6);
    front(1);
    front(3);
    expect([state(), driver.held]).toEqual(['4', 1]);
  });

  it('waits for unfinished I/O before it says that it has closed, and then looks at the front end again', () => {
    const { driver, bus, guest, state, front } = setUp();
    bus.begin();
    guest.write(`${FRONT}/ring-ref`, '8');
    front(3);
    driver.slow = true;
    front(6);
    expect(state()).toBe('4');
    front(1);
    driver.waiting?.();
    expect([state(), driver.held]).toEqual(['2', 0]);
  });

  it('is unplugged when the front end lets go, at once if there is none, and by force', () => {
    const a = setUp();
    a.bus.begin();
    a.bus.unplug();
    expect([a.counts.gone, a.state()]).toEqual([1, '6']);
    const b = setUp();
    b.bus.begin();
    b.guest.write(`${FRONT}/ring-ref`, '8');
    b.front(3);
    b.bus.unplug();
    expect([b.counts.gone, b.state(), b.driver.held]).toEqual([0, '5', 1]);
    b.front(6);
    expect([b.counts.gone, b.state(), b.driver.held]).toEqual([1, '6', 0]);
    const c = setUp();
    c.bus.begin();
    c.guest.write(`${FRONT}/ring-ref`, '8');
    c.front(3);
    c.bus.surpriseRemove();
    expect([c.counts.gone, c.driver.held]).toEqual([1, 0]);
  });

  it('goes on after a move in every state, and writes no node for it', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 'x'), { maxLength: 12 }), (states) => {
        const a = setUp();
        a.bus.begin();
        a.guest.write(`${FRONT}/ring-ref`, '8');
        for (const s of states) a.front(s);
        const before = [a.state(), a.driver.held];
        const saved = a.bus.save('{}');
        a.bus.stop();
        const b = setUp(a.server, false);
        const changes: string[] = [];
        b.dom0.watch('/local', (path) => changes.push(path));
        changes.length = 0;
        b.bus.restore(saved);
        b.bus.resume();
        expect(changes).toEqual([]);
        expect([b.state(), b.driver.held]).toEqual(before);
        b.front(6);
        b.front(1);
        b.front(3);
        expect([b.state(), b.driver.held]).toEqual(['4', 1]);
      }),
      { numRuns: 300 },
    );
  });

  it('holds each resource once, whatever states a hostile front end writes and whenever I/O ends', () => {
    const step = fc.oneof(
      fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 8, '', 'xyz', '99999999999999'),
      fc.constantFrom('rm', 'ring', 'noring', 'slow', 'fast', 'finish'),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { driver, bus, guest, state, front } = setUp();
        bus.begin();
        for (const s of steps) {
          if (s === 'rm') guest.remove(`${FRONT}/state`);
          else if (s === 'ring') guest.write(`${FRONT}/ring-ref`, '8');
          else if (s === 'noring') guest.remove(`${FRONT}/ring-ref`);
          else if (s === 'slow' || s === 'fast') driver.slow = s === 'slow';
          else if (s === 'finish') driver.waiting?.();
          else front(s);
          expect(driver.held === 0 || driver.held === 1).toBe(true);
          if (state() === '4') expect(driver.held).toBe(1);
        }
        driver.slow = false;
        driver.waiting?.();
        guest.write(`${FRONT}/ring-ref`, '8');
        front(6);
        front(1);
        front(3);
        expect([state(), driver.held]).toEqual(['4', 1]);
      }),
      { numRuns: 500 },
    );
  });

  it('tells its driver of a broken front end through the bus', () => {
    const { driver, bus, guest, state, front } = setUp();
    bus.begin();
    guest.write(`${FRONT}/ring-ref`, '8');
    front(3);
    driver.bus?.fatal('the ring is broken');
    expect([state(), driver.held]).toEqual(['5', 0]);
    front(4);
    expect(driver.held).toBe(0);
    expect(() => front(6)).not.toThrow(XenbusError);
    front(1);
    front(3);
    expect([state(), driver.held]).toEqual(['4', 1]);
  });
});
