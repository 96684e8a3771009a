/**
 * The hand-over of a guest from source to destination, as two pure state machines. docs/handover.md describes it
 * completely. The daemon runs exactly this code, and handover.test.ts tries every interleaving of it.
 *
 * Invariant: the guest belongs to the source until the destination's guest process has its owner record on disk; from
 * then on it belongs to the destination. A side that does not know asks; no side guesses.
 *
 * Rules for the code that runs the machines: actions are done one after the other, and each is finished before the
 * next one starts (a `persist` is on disk before a `send` leaves). No event is processed while actions are pending.
 * After a crash the machine starts again from what is on disk, with `restartSource` or `restartDestination`.
 */

/**
 * Messages from source to destination. `ask` asks for an answer; `forget` says that the source needs no further
 * answers.
 */
export type ToDestination = 'offer' | 'cancel' | 'ask' | 'forget';
/** Messages from destination to source. */
export type ToSource = 'ready' | 'accepted' | 'refused' | 'forgotten';

/** What the source has on disk. If there is no record, the guest is ours. */
export type SourceRecord = 'offered' | 'gone';

export type SourcePhase =
  /** There is no move: the guest runs here (or is dead here). */
  | 'idle'
  /** Pages are sent while the guest runs. */
  | 'streaming'
  /** The guest is stopped or about to be. The record `offered` is on disk before it stops. */
  | 'stopping'
  /** As `stopping`, and the whole guest has been sent: from now on the source's guest process is not needed. */
  | 'sent'
  /** The offer may have arrived. The destination decides, and the guest here is locked. */
  | 'offered'
  /** The destination owns the guest. It will never run here again. */
  | 'gone'
  /** As `gone`, and the destination knows that we know. */
  | 'done';

export type SourceEvent =
  | 'begin'
  | 'stopping'
  | 'sent'
  /** Something failed, timed out or was cancelled here, or the connection is lost. */
  | 'abort'
  /** Our guest process died. */
  | 'guest-died'
  /** It is time to ask again. */
  | 'retry'
  | ToSource;

export type SourceAction =
  | { readonly do: 'persist'; readonly record: SourceRecord }
  | { readonly do: 'erase' }
  | { readonly do: 'send'; readonly message: ToDestination }
  /**
   * The guest process stays stopped from now on, even if it loses its daemon. What only one host may hold is
   * released, and no write of this guest process can reach a disk any more. This action may fail, as the only one
   * here. In that case nothing has been offered, and the failure counts as `abort` in place of the event.
   */
  | { readonly do: 'lock-guest' }
  /**
   * Unlocks the guest, which continues as if nothing had happened. A guest process that died meanwhile counts as
   * crashed.
   */
  | { readonly do: 'resume-guest' }
  /** Ends the guest process and releases everything it had here. */
  | { readonly do: 'drop-guest' };

export interface Step<Phase, Action> {
  readonly phase: Phase;
  readonly actions: readonly Action[];
}

const persist = (record: SourceRecord): SourceAction => ({ do: 'persist', record });
const tell = (message: ToDestination): SourceAction => ({ do: 'send', message });
const erase: SourceAction = { do: 'erase' };
const lock: SourceAction = { do: 'lock-guest' };
const resume: SourceAction = { do: 'resume-guest' };
const drop: SourceAction = { do: 'drop-guest' };

const source = (phase: SourcePhase, ...actions: SourceAction[]): Step<SourcePhase, SourceAction> => ({
  phase,
  actions,
});

/** Processes one event at the source. An event without meaning in a phase changes nothing. */
export function stepSource(phase: SourcePhase, event: SourceEvent): Step<SourcePhase, SourceAction> {
  switch (phase) {
    case 'idle':
      return event === 'begin' ? source('streaming') : source('idle');
    case 'streaming':
      if (event === 'stopping') return source('stopping', persist('offered'));
      if (event === 'abort' || event === 'refused' || event === 'guest-died') {
        return source('idle', tell('cancel'), resume);
      }
      return source('streaming');
    case 'stopping':
      if (event === 'sent') return source('sent');
      if (event === 'abort' || event === 'refused' || event === 'guest-died') {
        return source('idle', tell('cancel'), erase, resume);
      }
      return source('stopping');
    case 'sent':
      // The guest process is no longer needed, so its death does not end the move.
      if (event === 'ready') return source('offered', lock, tell('offer'));
      if (event === 'abort' || event === 'refused') return source('idle', tell('cancel'), erase, resume);
      return source('sent');
    case 'offered':
      if (event === 'accepted') return source('gone', persist('gone'), drop, tell('forget'));
      if (event === 'refused') return source('idle', erase, resume);
      // The source cannot decide alone any more, so it asks.
      if (event === 'abort' || event === 'retry') return source('offered', tell('ask'));
      return source('offered');
    case 'gone':
      if (event === 'forgotten') return source('done', erase);
      if (event === 'accepted' || event === 'retry') return source('gone', tell('forget'));
      return source('gone');
    case 'done':
      return source('done');
  }
}

/** To be used when the source's daemon starts again and finds `record` on disk. */
export function restartSource(record: SourceRecord | undefined): Step<SourcePhase, SourceAction> {
  switch (record) {
    case undefined:
      return source('idle', resume);
    case 'offered':
      return source('offered', tell('ask'));
    case 'gone':
      return source('gone', drop, tell('forget'));
  }
}

export type DestinationPhase =
  /** Nothing is known about this hand-over, or it was given up. */
  | 'none'
  /** A container is receiving the stream. */
  | 'receiving'
  /** The whole guest is here and was checked. It has not run. */
  | 'ready'
  /** The guest process was told to start: it attaches, writes its owner record and runs. */
  | 'starting'
  /** The owner record is on disk. */
  | 'owner'
  /** As `owner`, and the source needs no further answers. */
  | 'settled';

export type DestinationEvent =
  | 'open'
  /** The guest process has received the whole guest and found it correct. */
  | 'received'
  /** The guest process has its owner record on disk and runs (or has run and died). */
  | 'started'
  /** The guest process is dead or gave up, and there is no owner record. */
  | 'failed'
  /** This host's operator does not want the guest. */
  | 'unwanted'
  /** The connection to the source is lost. */
  | 'cut'
  | ToDestination;

export type DestinationAction =
  | { readonly do: 'send'; readonly message: ToSource }
  /** Attach, write the owner record, and run. */
  | { readonly do: 'start-guest' }
  /** Ends the guest process, which has not run, and removes all traces of it. */
  | { readonly do: 'discard-guest' }
  /** The owner record need not be kept for the source any longer. */
  | { readonly do: 'erase' };

const answer = (message: ToSource): DestinationAction => ({ do: 'send', message });
const start: DestinationAction = { do: 'start-guest' };
const discard: DestinationAction = { do: 'discard-guest' };

const destination = (
  phase: DestinationPhase,
  ...actions: DestinationAction[]
): Step<DestinationPhase, DestinationAction> => ({ phase, actions });

/** Processes one event at the destination. `open` occurs once for each hand-over id. */
export function stepDestination(
  phase: DestinationPhase,
  event: DestinationEvent,
): Step<DestinationPhase, DestinationAction> {
  switch (phase) {
    case 'none':
      if (event === 'open') return destination('receiving');
      // An unknown hand-over is refused. If it never existed here, or was given up, its guest will never start here.
      if (event === 'offer' || event === 'ask') return destination('none', answer('refused'));
      if (event === 'forget') return destination('none', answer('forgotten'));
      return destination('none');
    case 'receiving':
    case 'ready':
      if (event === 'received') return destination('ready', answer('ready'));
      if (event === 'offer' && phase === 'ready') return destination('starting', start);
      if (event === 'cut' || event === 'cancel') return destination('none', discard);
      // An offer before the guest has arrived, or a question: the source does not pursue this move any more.
      if (event === 'offer' || event === 'ask' || event === 'failed' || event === 'unwanted') {
        return destination('none', discard, answer('refused'));
      }
      return destination(phase);
    case 'starting':
      if (event === 'started') return destination('owner', answer('accepted'));
      if (event === 'failed') return destination('none', discard, answer('refused'));
      return destination('starting');
    case 'owner':
      if (event === 'offer' || event === 'ask') return destination('owner', answer('accepted'));
      if (event === 'forget') return destination('settled', { do: 'erase' }, answer('forgotten'));
      return destination('owner');
    case 'settled':
      if (event === 'forget') return destination('settled', answer('forgotten'));
      return destination('settled');
  }
}

/** What the destination's daemon finds of a hand-over when it starts again. */
export type FoundAtDestination =
  | 'nothing'
  /** A guest process that was never told to start. */
  | 'waiting'
  /** A guest process that was told to start and has no owner record yet. */
  | 'starting'
  | 'owner-record';

export function restartDestination(found: FoundAtDestination): Step<DestinationPhase, DestinationAction> {
  switch (found) {
    case 'nothing':
      return destination('none');
    case 'waiting':
      return destination('none', discard);
    case 'starting':
      return destination('starting');
    case 'owner-record':
      return destination('owner');
  }
}
