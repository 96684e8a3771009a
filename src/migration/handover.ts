/**
 * The hand-over of a guest from source to destination, as two pure state machines. docs/handover.md tells the whole;
 * the daemon runs exactly this code, and handover.test.ts walks through every interleaving of it.
 *
 * Invariant: the guest belongs to the source until the destination's guest process has its owner record on disk,
 * and to the destination for ever after. Whoever does not know asks; nobody guesses.
 *
 * Rules for those who run the machines: actions are done one after the other, each finished before the next (a
 * `persist` is on disk before a `send` leaves); no event is taken in while actions are pending; after a crash the
 * machine starts again from what is on disk by `restartSource` or `restartDestination`.
 */

/** Messages from source to destination. `ask` wants an answer, `forget` closes the books. */
export type ToDestination = 'offer' | 'cancel' | 'ask' | 'forget';
/** Messages from destination to source. */
export type ToSource = 'ready' | 'accepted' | 'refused' | 'forgotten';

/** What the source has on disk. None: the guest is ours. */
export type SourceRecord = 'offered' | 'gone';

export type SourcePhase =
  /** No move: the guest runs here (or is dead here). */
  | 'idle'
  /** Pages go out while the guest runs. */
  | 'streaming'
  /** The guest is stopped, or about to be; the record `offered` is on disk before it stops. */
  | 'stopping'
  /** As `stopping`, and the whole guest is on its way: from here the source's guest process is not needed. */
  | 'sent'
  /** The offer may have arrived. The destination decides; the guest here is locked. */
  | 'offered'
  /** The destination owns it. Never to run here again. */
  | 'gone'
  /** Gone, and the destination knows that we know. */
  | 'done';

export type SourceEvent =
  | 'begin'
  | 'stopping'
  | 'sent'
  /** Anything failed, timed out or was cancelled here, or the connection is cut. */
  | 'abort'
  /** Our guest process died. */
  | 'guest-died'
  /** Time to ask again. */
  | 'retry'
  | ToSource;

export type SourceAction =
  | { readonly do: 'persist'; readonly record: SourceRecord }
  | { readonly do: 'erase' }
  | { readonly do: 'send'; readonly message: ToDestination }
  /**
   * The guest process stays stopped from now on, also when it loses its daemon; what only one host may have is let go,
   * and no write of its own can reach a disk any more. May fail, which nothing else here may: then nothing has been
   * offered, and it is as if `abort` had come in place of the event.
   */
  | { readonly do: 'lock-guest' }
  /** Unlock and go on as if nothing had happened. A guest process that died meanwhile has crashed. */
  | { readonly do: 'resume-guest' }
  /** End the guest process and let go of everything here. */
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

/** One event at the source. An event that means nothing in a phase changes nothing. */
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
      // The guest process is not needed any more, so its death does not end the move.
      if (event === 'ready') return source('offered', lock, tell('offer'));
      if (event === 'abort' || event === 'refused') return source('idle', tell('cancel'), erase, resume);
      return source('sent');
    case 'offered':
      if (event === 'accepted') return source('gone', persist('gone'), drop, tell('forget'));
      if (event === 'refused') return source('idle', erase, resume);
      // Too late to decide alone: ask.
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

/** The source's daemon starts again and finds `record` on disk. */
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
  /** Nothing known of this hand-over, or given up. */
  | 'none'
  /** A container takes in the stream. */
  | 'receiving'
  /** The whole guest is here and has been checked; it has not run. */
  | 'ready'
  /** Told to start: its process attaches, writes its owner record, runs. */
  | 'starting'
  /** The owner record is on disk. */
  | 'owner'
  /** Owner, and the source has closed its books. */
  | 'settled';

export type DestinationEvent =
  | 'open'
  /** The guest process has the whole guest and found it right. */
  | 'received'
  /** The guest process has its owner record on disk and runs (or ran and died). */
  | 'started'
  /** The guest process is dead or gave up, and there is no owner record. */
  | 'failed'
  /** This host's operator does not want it. */
  | 'unwanted'
  /** The connection to the source is cut. */
  | 'cut'
  | ToDestination;

export type DestinationAction =
  | { readonly do: 'send'; readonly message: ToSource }
  /** Attach, write the owner record, run. */
  | { readonly do: 'start-guest' }
  /** End the guest process, which has not run, and remove all traces. */
  | { readonly do: 'discard-guest' }
  /** The owner record need not be remembered for the source's sake any longer. */
  | { readonly do: 'erase' };

const answer = (message: ToSource): DestinationAction => ({ do: 'send', message });
const start: DestinationAction = { do: 'start-guest' };
const discard: DestinationAction = { do: 'discard-guest' };

const destination = (
  phase: DestinationPhase,
  ...actions: DestinationAction[]
): Step<DestinationPhase, DestinationAction> => ({ phase, actions });

/** One event at the destination. `open` is given once in the life of a hand-over's id. */
export function stepDestination(
  phase: DestinationPhase,
  event: DestinationEvent,
): Step<DestinationPhase, DestinationAction> {
  switch (phase) {
    case 'none':
      if (event === 'open') return destination('receiving');
      // Unknown is refused: what never was or was given up here will not start here.
      if (event === 'offer' || event === 'ask') return destination('none', answer('refused'));
      if (event === 'forget') return destination('none', answer('forgotten'));
      return destination('none');
    case 'receiving':
    case 'ready':
      if (event === 'received') return destination('ready', answer('ready'));
      if (event === 'offer' && phase === 'ready') return destination('starting', start);
      if (event === 'cut' || event === 'cancel') return destination('none', discard);
      // An offer of what has not arrived, or a question: the source does not follow this move any more.
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
  /** A guest process that was told to start, without owner record yet. */
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
