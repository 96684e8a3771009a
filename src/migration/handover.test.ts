import { describe, expect, it } from 'vitest';
import {
  type DestinationAction,
  type DestinationEvent,
  type DestinationPhase,
  restartDestination,
  restartSource,
  type SourceAction,
  type SourceEvent,
  type SourcePhase,
  type SourceRecord,
  type Step,
  stepDestination,
  stepSource,
  type ToDestination,
  type ToSource,
} from './handover.js';

/**
 * The complete state of one hand-over. A message that was sent may arrive at any later time, any number of times, in
 * any order, or never: this covers loss, repetition, delay and cut connections at once.
 */
interface World {
  s: SourcePhase | 'down';
  sTodo: readonly SourceAction[];
  sDisk: SourceRecord | undefined;
  /** The source's guest process. `orphan`: it has lost its daemon since it was paused. */
  cs: 'running' | 'paused' | 'orphan' | 'locked' | 'dead' | 'dropped';
  d: DestinationPhase | 'down';
  dTodo: readonly DestinationAction[];
  /** The destination's guest process, and its owner record. */
  cd: 'none' | 'waiting' | 'whole' | 'going' | 'running' | 'dead';
  record: boolean;
  opened: boolean;
  toD: readonly ToDestination[];
  toS: readonly ToSource[];
  csKilled: boolean;
  cdKilledAfterRecord: boolean;
  /** The source's guest has run after the owner record was written, which must never happen. */
  ranAfter: boolean;
  crashes: number;
  kills: number;
}

const start: World = {
  s: 'streaming',
  sTodo: [],
  sDisk: undefined,
  cs: 'running',
  d: 'receiving',
  dTodo: [],
  cd: 'waiting',
  record: false,
  opened: true,
  toD: [],
  toS: [],
  csKilled: false,
  cdKilledAfterRecord: false,
  ranAfter: false,
  crashes: 3,
  kills: 2,
};

const withMessage = <T extends string>(sent: readonly T[], one: T): readonly T[] =>
  sent.includes(one) ? sent : [...sent, one].sort();
const runs = (w: World, cs: World['cs']): World =>
  cs === 'running' ? { ...w, cs, ranAfter: w.ranAfter || w.record } : { ...w, cs };

function doSource(w: World, action: SourceAction): World {
  switch (action.do) {
    case 'persist':
      return { ...w, sDisk: action.record };
    case 'erase':
      return { ...w, sDisk: undefined };
    case 'send':
      return { ...w, toD: withMessage(w.toD, action.message) };
    case 'lock-guest':
      return w.cs === 'dead' ? w : { ...w, cs: 'locked' };
    case 'resume-guest':
      return w.cs === 'dead' || w.cs === 'dropped' ? w : runs(w, 'running');
    case 'drop-guest':
      return { ...w, cs: 'dropped' };
  }
}

function doDestination(w: World, action: DestinationAction): World {
  switch (action.do) {
    case 'send':
      return { ...w, toS: withMessage(w.toS, action.message) };
    case 'start-guest':
      return w.cd === 'whole' ? { ...w, cd: 'going' } : w;
    case 'discard-guest':
      return { ...w, cd: 'dead' };
    case 'erase':
      return w;
  }
}

const atSource = (w: World, step: Step<SourcePhase, SourceAction>): World => ({
  ...w,
  s: step.phase,
  sTodo: step.actions,
});
const atDestination = (w: World, step: Step<DestinationPhase, DestinationAction>): World => ({
  ...w,
  d: step.phase,
  dTodo: step.actions,
});

function found(w: World): World {
  if (w.record) return atDestination(w, restartDestination('owner-record'));
  if (w.cd === 'going') return atDestination(w, restartDestination('starting'));
  return atDestination(w, restartDestination(w.cd === 'waiting' || w.cd === 'whole' ? 'waiting' : 'nothing'));
}

/** Events that can happen now at the source and at the destination without a message. */
function sourceEvents(w: World): SourceEvent[] {
  const events: SourceEvent[] = ['abort', 'retry', ...w.toS];
  if (w.s === 'streaming' && w.cs === 'running') events.push('stopping');
  if (w.s === 'stopping' && w.cs === 'paused' && (w.cd === 'waiting' || w.cd === 'whole'))
    events.push('sent');
  if (w.cs === 'dead') events.push('guest-died');
  return events;
}
function destinationEvents(w: World): DestinationEvent[] {
  const events: DestinationEvent[] = ['cut', 'unwanted', ...w.toD];
  if (w.cd === 'whole' && w.d === 'receiving') events.push('received');
  if (w.record) events.push('started');
  if (w.cd === 'dead' && !w.record) events.push('failed');
  return events;
}

/** All states that can follow in one step. */
function next(w: World): World[] {
  const all: World[] = [];
  // A daemon does its pending action, or else takes one event.
  if (w.s !== 'down') {
    if (w.sTodo.length > 0) {
      all.push({ ...doSource(w, w.sTodo[0]), sTodo: w.sTodo.slice(1) });
      // Taking the lock fails, whether or not its process received the request.
      if (w.sTodo[0].do === 'lock-guest' && w.cs !== 'dead') {
        for (const cs of [w.cs, 'locked'] as const)
          all.push(atSource({ ...w, cs }, stepSource('sent', 'abort')));
      }
    } else for (const event of sourceEvents(w)) all.push(atSource(w, stepSource(w.s, event)));
    if (w.crashes > 0) {
      all.push({
        ...w,
        s: 'down',
        sTodo: [],
        crashes: w.crashes - 1,
        cs: w.cs === 'paused' ? 'orphan' : w.cs,
      });
    }
  } else all.push(atSource(w, restartSource(w.sDisk)));
  if (w.d !== 'down') {
    if (w.dTodo.length > 0) all.push({ ...doDestination(w, w.dTodo[0]), dTodo: w.dTodo.slice(1) });
    else for (const event of destinationEvents(w)) all.push(atDestination(w, stepDestination(w.d, event)));
    if (w.crashes > 0) all.push({ ...w, d: 'down', dTodo: [], crashes: w.crashes - 1 });
  } else all.push(found(w));
  // Guest processes follow.
  if (w.s === 'stopping' && w.sTodo.length === 0 && w.cs === 'running') all.push({ ...w, cs: 'paused' });
  if (w.cs === 'orphan') all.push(runs(w, 'running'));
  if (w.s === 'sent' && w.cd === 'waiting') all.push({ ...w, cd: 'whole' });
  if (w.cd === 'going') {
    all.push({ ...w, cd: 'running', record: true });
    all.push({ ...w, cd: 'dead' });
  }
  if (w.d === 'down' && (w.cd === 'waiting' || w.cd === 'whole')) all.push({ ...w, cd: 'dead' });
  if (w.kills > 0) {
    if (w.cs !== 'dead' && w.cs !== 'dropped')
      all.push({ ...w, cs: 'dead', csKilled: true, kills: w.kills - 1 });
    if (w.cd !== 'dead' && w.cd !== 'none') {
      all.push({ ...w, cd: 'dead', cdKilledAfterRecord: w.record, kills: w.kills - 1 });
      // It was killed between the record on disk and the first instruction.
      if (w.cd === 'going')
        all.push({ ...w, cd: 'dead', record: true, cdKilledAfterRecord: true, kills: w.kills - 1 });
    }
  }
  return all;
}

/** Nothing fails any more: daemons restart, the move's connection is cut, messages arrive, and retries are made. */
function heal(from: World): World {
  let w: World = { ...from, crashes: 0, kills: 0 };
  const settle = () => {
    if (w.s === 'down') w = atSource(w, restartSource(w.sDisk));
    if (w.cs === 'orphan') w = runs(w, 'running');
    if (w.cd === 'going') w = { ...w, cd: 'running', record: true };
    if (w.d === 'down') w = found(w);
    while (w.sTodo.length > 0) w = { ...doSource(w, w.sTodo[0]), sTodo: w.sTodo.slice(1) };
    while (w.dTodo.length > 0) w = { ...doDestination(w, w.dTodo[0]), dTodo: w.dTodo.slice(1) };
  };
  settle();
  for (let round = 0; round < 6; round++) {
    w = { ...w, toD: [], toS: [] };
    if (round === 0) {
      w = atSource(w, stepSource(w.s as SourcePhase, 'abort'));
      w = atDestination(w, stepDestination(w.d as DestinationPhase, 'cut'));
    } else w = atSource(w, stepSource(w.s as SourcePhase, 'retry'));
    settle();
    if (w.record && w.d === 'starting')
      w = atDestination(w, stepDestination(w.d as DestinationPhase, 'started'));
    if (w.cd === 'dead' && !w.record)
      w = atDestination(w, stepDestination(w.d as DestinationPhase, 'failed'));
    settle();
    for (const message of w.toD)
      if (round > 0) {
        w = atDestination(w, stepDestination(w.d as DestinationPhase, message));
        settle();
      }
    for (const message of w.toS) {
      w = atSource(w, stepSource(w.s as SourcePhase, message));
      settle();
    }
  }
  return w;
}

function explore(): World[] {
  const seen = new Map<string, World>();
  const queue: World[] = [start];
  seen.set(JSON.stringify(start), start);
  for (let i = 0; i < queue.length; i++) {
    for (const w of next(queue[i])) {
      const key = JSON.stringify(w);
      if (seen.has(key)) continue;
      seen.set(key, w);
      queue.push(w);
    }
  }
  return queue;
}

describe('the hand-over, over every interleaving of messages, losses, repetitions, crashes and kills', () => {
  const worlds = explore();

  it('is explored in all its states', () => {
    expect(worlds.length).toBeGreaterThan(5_000);
    expect(new Set(worlds.map((w) => w.s))).toEqual(
      new Set(['idle', 'streaming', 'stopping', 'sent', 'offered', 'gone', 'done', 'down']),
    );
    expect(new Set(worlds.map((w) => w.d))).toEqual(
      new Set(['none', 'receiving', 'ready', 'starting', 'owner', 'settled', 'down']),
    );
  });

  it('never has two live guests', () => {
    expect(worlds.filter((w) => w.cs === 'running' && w.cd === 'running')).toEqual([]);
  });

  it('never runs the guest at the source after the destination became its owner', () => {
    expect(worlds.filter((w) => w.ranAfter)).toEqual([]);
  });

  it('never drops the guest at the source before the destination became its owner', () => {
    expect(worlds.filter((w) => w.cs === 'dropped' && !w.record)).toEqual([]);
  });

  it('ends with exactly one live guest when the machines and the network come back', () => {
    for (const w of worlds) {
      const end = heal(w);
      const live = (end.cs === 'running' ? 1 : 0) + (end.cd === 'running' ? 1 : 0);
      const killed = end.record ? w.cdKilledAfterRecord : w.csKilled;
      if (live !== (killed ? 0 : 1)) throw new Error(`${JSON.stringify(w)}\nends as\n${JSON.stringify(end)}`);
    }
  });

  it('ends with both daemons in agreement and no record left on disk', () => {
    for (const w of worlds) {
      const end = heal(w);
      if (!(end.sDisk === undefined && (end.record ? end.s !== 'offered' && end.s !== 'gone' : true))) {
        throw new Error(`${JSON.stringify(w)}\nends as\n${JSON.stringify(end)}`);
      }
      if (end.record && end.cs !== 'dropped' && end.cs !== 'dead') throw new Error(JSON.stringify(end));
      if (!end.record && end.cd !== 'dead') throw new Error(JSON.stringify(end));
    }
  });
});
