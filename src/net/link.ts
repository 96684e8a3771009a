/**
 * A link: the host's end of a guest's network interface. The back end exchanges frames with it. What is behind it (a
 * switch, a tap device, another program) differs from host to host, and the guest never sees that.
 */
import type { Frame } from './frame.js';

/** The receiver of a link's frames. */
export interface LinkClient {
  /** A frame arrived. Its bytes are valid during the call only, and may be changed. */
  receive(frame: Frame): void;
  /** No more frames have arrived for now: this is the time to notify the guest. */
  received(): void;
  /** The link can take frames again after `writable` was false. */
  drained(): void;
  /** The far end has appeared (true) or gone away (false). */
  linkChanged(up: boolean): void;
}

export interface NetLink {
  /** For messages, for example "switch unix:/run/x.sock". */
  readonly name: string;
  /** Whether frames may have work left (checksums, segmentation). If not, `send` must get finished frames. */
  readonly offloads: boolean;
  /** False while too much is queued: the sender should wait. A link that is down accepts frames and drops them. */
  readonly writable: boolean;
  readonly up: boolean;
  /** Sends a frame. Its bytes may be reused when the call returns. */
  send(frame: Frame): void;
  /** To be called after the last frame of a batch. */
  flush(): void;
  /** Stops or continues the arrival of frames. */
  setReading(on: boolean): void;
  /** Closes the link. Frames that were sent leave first, if that is possible soon. */
  close(): Promise<void>;
}
