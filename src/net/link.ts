/**
 * A link: the host's end of a guest's network interface. The back end speaks to it in frames; what is behind it
 * (a switch, a tap, another program) differs from host to host, and the guest never learns of it.
 */
import type { Frame } from './frame.js';

/** Who gets a link's frames. */
export interface LinkClient {
  /** A frame arrived; its bytes are good during the call only, and may be changed. */
  receive(frame: Frame): void;
  /** No more frames for now: the moment to notify. */
  received(): void;
  /** The link takes frames again after `writable` was false. */
  drained(): void;
  /** The far end came (again) or went. */
  linkChanged(up: boolean): void;
}

export interface NetLink {
  /** For people: "switch unix:/run/x.sock". */
  readonly name: string;
  /** Whether frames may have work left (checksums, segments); if not, `send` must get finished ones. */
  readonly offloads: boolean;
  /** False while so much waits that the sender should. A link that is down takes frames, and drops them. */
  readonly writable: boolean;
  readonly up: boolean;
  /** Takes a frame; its bytes are free again when the call returns. */
  send(frame: Frame): void;
  /** All of a batch has been sent. */
  flush(): void;
  /** Stops and continues the arrival of frames. */
  setReading(on: boolean): void;
  /** Ends the link; what was sent leaves first, if it can soon. */
  close(): Promise<void>;
}
