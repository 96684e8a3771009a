/**
 * Branded numbers: the compiler refuses to mix, for example, a frame number of the guest with one of the machine, or a
 * port with a domain id. At run time they are plain numbers.
 */

declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]: Name };

/** Pseudo-physical frame number: the guest's own numbering of its RAM, from 0 without holes. */
export type Pfn = Branded<'Pfn'>;
/** Machine frame number: the number in page tables, grants and hypercalls. It is synthetic here and never a host's. */
export type Mfn = Branded<'Mfn'>;
/** Event-channel port, local to the guest. */
export type Port = Branded<'Port'>;
/** Domain id, 0 to 0x7fef, or one of the DOMID_ constants. */
export type DomId = Branded<'DomId'>;
/** A time or duration in nanoseconds. A double holds it exactly for the first 104 days, after that within 2 ns. */
export type Nanoseconds = Branded<'Nanoseconds'>;
