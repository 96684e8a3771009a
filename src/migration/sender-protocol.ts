/** The messages between the main thread and the sending thread of a move. */
import type { RoundResult, StreamHead } from './stream-writer.js';

export type SenderRequest =
  | { readonly do: 'begin'; readonly head: StreamHead; readonly description: Uint8Array }
  | { readonly do: 'disk'; readonly devid: number; readonly bytes: number }
  | {
      readonly do: 'blocks';
      readonly devid: number;
      readonly at: number;
      readonly data: Uint8Array;
      readonly fresh: boolean;
    }
  | { readonly do: 'round'; readonly round: number; readonly bitmap: Uint8Array; readonly pages: number }
  | { readonly do: 'code'; readonly starts: Uint32Array }
  | { readonly do: 'end'; readonly state: Uint8Array }
  | { readonly do: 'bandwidth'; readonly bytesPerSecond: number };

export interface SenderResponse {
  /** Which request this answers. */
  readonly to?: 'connect' | 'begin' | 'disk' | 'blocks' | 'round' | 'code' | 'end';
  readonly round?: RoundResult;
  readonly bytes?: number;
  /** The connection or a request failed. The thread cannot be used any more. */
  readonly failed?: string;
}
