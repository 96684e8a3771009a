/** Two streams, each of which reads what is written to the other. */
import { Duplex } from 'node:stream';

class End extends Duplex {
  other!: End;
  /** Called when the other end reads on. */
  private goOn: (() => void) | undefined;

  override _read(): void {
    const { goOn } = this.other;
    this.other.goOn = undefined;
    goOn?.();
  }
  override _write(chunk: Buffer, _: string, done: () => void): void {
    if (this.other.destroyed || this.other.push(chunk)) done();
    else this.goOn = done;
  }
  override _final(done: () => void): void {
    if (!this.other.destroyed) this.other.push(null);
    done();
  }
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const { other, goOn } = this;
    this.goOn = undefined;
    goOn?.();
    setImmediate(() => other.destroy());
    done(error);
  }
}

export function duplexPair(): [Duplex, Duplex] {
  const [one, other] = [new End(), new End()];
  one.other = other;
  other.other = one;
  return [one, other];
}
