/**
 * Faults that the control plane once had: each undoes the correction of one. The simulator has to find them, or it
 * would not find others of their kind. Only tests apply them, and take them back.
 */

import { Autostart } from '../../src/control/domains/autostart.js';
import { Definitions } from '../../src/control/domains/definitions.js';
import { DomainEnds } from '../../src/control/domains/domain-ends.js';
import { DomainFiles } from '../../src/control/domains/domain-files.js';
import type { Domains } from '../../src/control/domains/domains.js';
import { HostedDomain } from '../../src/control/domains/hosted-domain.js';
import { IncomingMove } from '../../src/control/moves/incoming-move.js';
import { Moves } from '../../src/control/moves/moves.js';
import { OutgoingMove } from '../../src/control/moves/outgoing-move.js';
import { FileImages } from '../../src/host/disk/images.js';
import { writeDurable } from '../../src/os/durable.js';
import type { Life } from './life.js';

type Method = (this: never, ...args: never[]) => unknown;

export interface Undoing {
  readonly name: string;
  /** The simulator's message for it. */
  readonly says: RegExp;
  /** A life in which it shows, as small as it could be made. */
  readonly life: Life;
  /** Applies it. Returns a function that takes it back. */
  apply(): () => void;
}

/** What the undoing of a restart uses of DomainEnds. */
interface Restarting {
  readonly context: Pick<Domains, 'create'>;
  discard: DomainEnds['discard'];
}

/** Replaces methods of a class by others. */
function replace(of: { prototype: object }, methods: Record<string, (own: Method) => Method>): () => void {
  const prototype = of.prototype as Record<string, Method>;
  const own = Object.entries(methods).map(([name, make]) => {
    const before = prototype[name];
    if (before === undefined) throw new Error(`there is no method ${name} any more: this undoes nothing`);
    prototype[name] = make(before);
    return () => {
      prototype[name] = before;
    };
  });
  return () => {
    for (const back of own) back();
  };
}

/** A move may begin while the guest is being saved. */
const movesWhileSaved = (): (() => void) =>
  replace(Moves, {
    mustStay: (own) =>
      function (this: Moves, domain: HostedDomain) {
        const { saving } = domain;
        domain.saving = false;
        try {
          own.call(this as never, domain as never);
        } finally {
          domain.saving = saving;
        }
      } as unknown as Method,
  });

export const UNDOINGS: readonly Undoing[] = [
  {
    name: 'a guest is lost: its source ends it to free a disk before the destination owns it',
    says: /is lost/,
    life: {
      seed: 75,
      steps: [
        { at: 561.92, do: 'create', guest: 3, host: 0, disk: 'local', onCrash: 'destroy', paused: false },
        { do: 'refuse', guest: 3, arriving: false, what: 'lock', at: 37357.67 },
        { do: 'migrate', guest: 3, host: 2, copy: false, at: 37841.65 },
        { do: 'slow', a: 1, b: 0, most: 480.28, ms: 1116.13, at: 39811.58 },
      ],
    },
    apply: () =>
      replace(OutgoingMove, {
        lock: () =>
          async function (this: { domain?: HostedDomain; context: { answerMs: number } }) {
            const { domain, context } = this;
            await domain?.ask('lock', {}, context.answerMs).catch(() => domain.kill());
          } as unknown as Method,
      }),
  },
  {
    name: 'a reboot loses the guest: its record is removed before the new domain is made',
    says: /is lost/,
    life: {
      seed: 114,
      steps: [
        { at: 289.07, do: 'create', guest: 1, host: 0, disk: 'shared', onCrash: 'restart', paused: false },
        { do: 'kill daemon', host: 0, changes: 7, again: 1143.57, at: 33445.43 },
        { do: 'guest ends', guest: 1, reason: 'crash', at: 33578.24 },
        { do: 'migrate', guest: 0, host: 2, copy: false, at: 33631.65 },
      ],
    },
    apply: () =>
      replace(DomainEnds, {
        restart: () =>
          async function (this: Restarting, old: HostedDomain, config: never) {
            const { foreign } = old.state;
            await this.discard(old, 'destroyed');
            await this.context.create(config, false, { foreign });
          } as unknown as Method,
      }),
  },
  {
    name: 'a destroyed guest comes back: the removal of its record is not synced',
    says: /lives on . and was destroyed|is left over|was destroyed/,
    life: {
      seed: 405,
      steps: [
        { at: 0, do: 'create', guest: 0, host: 1, disk: 'none', onCrash: 'restart', paused: true },
        { do: 'migrate', guest: 0, host: 2, copy: true, at: 29658.93 },
        { do: 'power fails', host: 1, changes: 1, again: 4861.05, at: 30372.31 },
        { do: 'unpause', guest: 0, at: 30762.07 },
        { do: 'destroy', guest: 0, at: 32184.75 },
      ],
    },
    apply: () =>
      replace(HostedDomain, {
        remove: () =>
          function (this: {
            world: Domains['world'];
            directory: string;
            stateFile: string;
            removed: boolean;
          }) {
            const { files } = this.world;
            files.removeTree(this.directory);
            this.removed = true;
            files.remove(this.stateFile);
          } as unknown as Method,
      }),
  },
  {
    name: 'a guest that was ended has a record again: what was under way for it writes one',
    says: /state\/\d+\.json is left over/,
    life: {
      seed: 3219,
      steps: [
        { at: 0, do: 'create', guest: 0, host: 2, disk: 'shared', onCrash: 'preserve', paused: false },
        { do: 'migrate', guest: 0, host: 1, copy: true, at: 226.31 },
        { do: 'slow', a: 1, b: 2, most: 323.58, ms: 558.31, at: 1069.9 },
        { do: 'slow process', guest: 0, arriving: false, ms: 1568.03, at: 1086.61 },
        { do: 'save', guest: 0, keep: false, at: 1152.54 },
        { do: 'migrate', guest: 0, host: 1, copy: false, at: 1163.45 },
        { do: 'kill daemon', host: 1, changes: 7, again: 1302.46, at: 2066.09 },
      ],
    },
    apply: () => {
      const back = [
        // The fault was found where a move began while the guest was being saved.
        movesWhileSaved(),
        replace(HostedDomain, {
          save: () =>
            function (this: { world: Domains['world']; stateFile: string; state: object }) {
              writeDurable(this.stateFile, this.state, this.world.files);
            } as unknown as Method,
        }),
        replace(DomainEnds, {
          followEnd: (own) =>
            async function (this: DomainEnds, domain: HostedDomain, exit: never) {
              if (domain.state.config?.onCrash === 'preserve') domain.save();
              await own.call(this as never, domain as never, exit);
            } as unknown as Method,
        }),
      ];
      return () => {
        for (const one of back) one();
      };
    },
  },
  {
    name: 'a guest is destroyed while it is made, and lives on unknown',
    says: /is left over|does not know it/,
    life: {
      seed: 4585,
      steps: [
        { do: 'create', guest: 0, host: 1, disk: 'shared', onCrash: 'restart', paused: false, at: 33744.13 },
        { do: 'save', guest: 0, keep: false, at: 41713.27 },
        { do: 'restore', guest: 0, host: 1, at: 81697.96 },
        { do: 'destroy', guest: 0, at: 81704.01 },
      ],
    },
    apply: () =>
      replace(DomainEnds, {
        forget: (own) =>
          function (this: { all: Domains['all'] }, domain: HostedDomain, reason: never) {
            if (this.all.get(domain.domid) === domain) own.call(this as never, domain as never, reason);
          } as unknown as Method,
      }),
  },
  {
    name: 'the books of a move are never closed: a full disk keeps a destination from it',
    says: /does not settle: . has \/d\/handovers\/in-/,
    life: {
      seed: 7237,
      steps: [
        { at: 132.17, do: 'create', guest: 1, host: 0, disk: 'none', onCrash: 'restart', paused: false },
        { do: 'migrate', guest: 1, host: 1, copy: true, at: 27985.01 },
        { do: 'power fails', host: 0, changes: 7, again: 7138.46, at: 28208.97 },
        { do: 'full disk', host: 1, ms: 8274.77, at: 33073.82 },
        { do: 'power fails', host: 1, changes: 6, again: 256.32, at: 66090.53 },
        { do: 'shutdown', guest: 0, at: 67564.64 },
      ],
    },
    apply: () =>
      replace(IncomingMove, {
        act: (own) =>
          async function (this: IncomingMove, action: { do: string }) {
            try {
              await own.call(this as never, action as never);
            } catch (error) {
              if (action.do !== 'erase') throw error;
            }
          } as unknown as Method,
      }),
  },
  {
    name: "a disk that came with its guest is removed: of what came nothing says that it is the guest's",
    says: /has not locked|being switched on again/,
    life: {
      seed: 1,
      steps: [
        { at: 0, do: 'create', guest: 0, host: 0, disk: 'local', onCrash: 'restart', paused: false },
        { at: 1000, do: 'migrate', guest: 0, host: 2, copy: true },
        { at: 1240, do: 'power fails', host: 2, changes: 2, again: 3000 },
        // Nothing happens after it: C is switched on at once, as all faults are over.
        { at: 1360, do: 'unpause', guest: 0 },
      ],
    },
    apply: () =>
      replace(DomainFiles, {
        settleImages: (own) =>
          function (this: DomainFiles, domain: HostedDomain) {
            if (domain.state.phase !== 'ended') own.call(this as never, domain as never);
          } as unknown as Method,
      }),
  },
  {
    name: 'a guest that was saved is taken for one that crashed: its end is not on record when its daemon dies',
    says: /was saved, and a host has it as one that ended by itself/,
    life: {
      seed: 126_436,
      steps: [
        { at: 384.7, do: 'create', guest: 4, host: 0, disk: 'none', onCrash: 'preserve', paused: false },
        { do: 'save', guest: 4, keep: false, at: 46445.28 },
        { do: 'kill daemon', host: 0, changes: 4, again: 3223.86, at: 46447.66 },
        { do: 'unpause', guest: 4, at: 61516.45 },
      ],
    },
    apply: () => replace(DomainEnds, { recordSaved: () => () => undefined }),
  },
  {
    name: 'two live: a guest is moved while it is saved, and runs on when that fails',
    says: /two live/,
    life: {
      seed: 73_749,
      steps: [
        { at: 0, do: 'create', guest: 0, host: 1, disk: 'local', onCrash: 'preserve', paused: false },
        { do: 'migrate', guest: 0, host: 2, copy: false, at: 229.99 },
        { do: 'unpause', guest: 0, at: 1708.65 },
        { do: 'refuse', guest: 0, arriving: false, what: 'send', at: 1718.26 },
        { do: 'slow process', guest: 0, arriving: false, ms: 2853.8048278191127, at: 1810.88 },
        { do: 'save', guest: 0, keep: true, at: 2961.85 },
        { do: 'migrate', guest: 0, host: 0, copy: true, at: 3019.7 },
        { do: 'migrate', guest: 0, host: 0, copy: true, at: 52185.62 },
      ],
    },
    apply: movesWhileSaved,
  },
  {
    name: 'a guest is not taken up again: a full disk keeps a daemon from it once',
    says: /does not settle: . has \/d\/handovers\/out-/,
    life: {
      seed: 181_562,
      steps: [
        { at: 0, do: 'create', guest: 0, host: 2, disk: 'local', onCrash: 'restart', paused: false },
        { do: 'refuse', guest: 0, arriving: false, what: 'release', at: 4370.81 },
        { do: 'migrate', guest: 0, host: 0, copy: false, at: 10179.69 },
        { do: 'hang process', guest: 0, arriving: false, ms: 11639.384812111966, at: 10959.7 },
        { do: 'kill daemon', host: 2, changes: 2, again: 1556.2562407071237, at: 12320.71 },
        { do: 'full disk', host: 2, ms: 9803.310853678267, at: 20412.69 },
        { do: 'kill daemon', host: 2, changes: 11, again: 1505.8492235117592, at: 36673.44 },
      ],
    },
    apply: () =>
      replace(Moves, {
        takeUpUntilDone: () =>
          async function (this: { takeUp(domain: unknown, damaged: boolean): Promise<void> }, d: unknown) {
            await this.takeUp(d, false);
          } as unknown as Method,
      }),
  },
  {
    name: 'a guest that ended stays on record: a full disk keeps a daemon from removing it once',
    says: /does not settle: on ., domain \d+ \(g1\) has ended, and is there/,
    life: {
      seed: 218_999,
      steps: [
        { at: 290.44, do: 'create', guest: 1, host: 2, disk: 'none', onCrash: 'destroy', paused: false },
        { do: 'power fails', host: 2, changes: 11, again: 2774.48, at: 62879.69 },
        { do: 'migrate', guest: 1, host: 1, copy: true, at: 62895.73 },
        { do: 'full disk', host: 1, ms: 9317.07, at: 64092.68 },
        { do: 'guest ends', guest: 1, reason: 'crash', at: 64674.42 },
        { do: 'refuse', guest: 0, arriving: false, what: 'lock', at: 65726.92 },
      ],
    },
    apply: () =>
      replace(DomainEnds, {
        discardUntilDone: () =>
          function (this: DomainEnds, domain: HostedDomain, reason: never) {
            return this.discard(domain, reason);
          } as unknown as Method,
      }),
  },
  {
    name: 'the disk of a guest that came back is renamed as the one that it once left',
    says: /writes on \/images\/g0.img, which it has not locked/,
    life: {
      seed: 281_460,
      steps: [
        { at: 0, do: 'create', guest: 0, host: 0, disk: 'local', onCrash: 'restart', paused: false },
        { do: 'refuse', guest: 0, arriving: false, what: 'lock', at: 4303.42 },
        { do: 'migrate', guest: 0, host: 1, copy: true, at: 18856.12 },
        { do: 'migrate', guest: 0, host: 2, copy: true, at: 22651.19 },
        { do: 'power fails', host: 2, changes: 11, again: 4440.995249268599, at: 22777.74 },
        { do: 'migrate', guest: 0, host: 0, copy: true, at: 30177.44 },
        { do: 'kill daemon', host: 0, changes: 6, again: 1156.9846272163559, at: 30292.43 },
        { do: 'create', guest: 1, host: 1, disk: 'local', onCrash: 'preserve', paused: false, at: 30579.09 },
      ],
    },
    apply: () =>
      replace(FileImages, {
        retire: (own) =>
          function (this: FileImages, images: readonly { readonly path: string }[]) {
            own.call(this as never, images.map(({ path }) => ({ path, ino: undefined })) as never);
          } as unknown as Method,
      }),
  },
  {
    name: 'a guest is forgotten: it crashed, and the record of its domain was all that was known of it',
    says: /is forgotten/,
    life: {
      seed: 1,
      steps: [
        { at: 0, do: 'create', guest: 0, host: 0, disk: 'none', onCrash: 'destroy', paused: false },
        { at: 1000, do: 'kill process', guest: 0, arriving: false },
      ],
    },
    apply: () => replace(Definitions, { keepCrashed: () => () => undefined }),
  },
  {
    name: 'a guest is not started with its host: its daemon is killed between two of them',
    says: /is not started again/,
    life: {
      seed: 1,
      steps: [
        { at: 0, do: 'create', guest: 0, host: 0, disk: 'none', onCrash: 'destroy', paused: false },
        { at: 500, do: 'autostart', guest: 0, on: true, order: 1, delayS: 5 },
        { at: 1000, do: 'power fails', host: 0, changes: 0, again: 1000 },
        { at: 5000, do: 'kill daemon', host: 0, changes: 0, again: 1000 },
      ],
    },
    // What is still to be started is remembered by the daemon alone.
    apply: () =>
      replace(Autostart, {
        write: () =>
          function (this: { context: { world: Domains['world']; dir: string } }) {
            const { world, dir } = this.context;
            writeDurable(`${dir}/boot.json`, { boot: world.boot, pending: [] }, world.files);
          } as unknown as Method,
      }),
  },
  {
    name: 'two live: a guest that was moved away is started with the host that it left',
    says: /two live|lives on . and .|in process .* it is not locked/,
    life: {
      seed: 1,
      steps: [
        { at: 0, do: 'create', guest: 0, host: 0, disk: 'none', onCrash: 'destroy', paused: false },
        { at: 500, do: 'autostart', guest: 0, on: true, order: 1, delayS: 0 },
        { at: 1000, do: 'migrate', guest: 0, host: 1, copy: false },
        { at: 20_000, do: 'power fails', host: 0, changes: 0, again: 1000 },
      ],
    },
    apply: () => replace(Definitions, { movedAway: () => () => undefined }),
  },
  {
    name: 'a guest in a file is started with its host',
    says: /was saved, and is switched on again/,
    life: {
      seed: 1,
      steps: [
        { at: 0, do: 'create', guest: 0, host: 0, disk: 'none', onCrash: 'destroy', paused: false },
        { at: 500, do: 'autostart', guest: 0, on: true, order: 1, delayS: 0 },
        { at: 1000, do: 'save', guest: 0, keep: false },
        { at: 5000, do: 'power fails', host: 0, changes: 0, again: 1000 },
      ],
    },
    apply: () => replace(Definitions, { keepSaved: () => () => undefined }),
  },
  {
    name: 'a guest that was defined is not where it went: its definition stays behind and is removed',
    says: /was defined, and nobody knows it/,
    life: {
      seed: 1,
      steps: [
        { at: 0, do: 'create', guest: 0, host: 0, disk: 'none', onCrash: 'destroy', paused: false },
        { at: 500, do: 'define', guest: 0, host: 0 },
        { at: 1000, do: 'migrate', guest: 0, host: 1, copy: false },
      ],
    },
    apply: () => replace(Definitions, { keepMoved: () => () => undefined }),
  },
];
