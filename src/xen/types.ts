/**
 * Branded numbers: the compiler refuses to mix, for example, a frame number of the guest with one of the machine, or a
 * port with a domain id. At run time they are plain numbers.
 */

declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]: Name };

/** Pseudo-physical frame number: the guest's own numbering of its RAM, from 0 without holes. */
export type Pfn = Branded<'Pfn'>;
/** Machine frame number: what page tables, grants and hypercalls carry. Synthetic here; never a host's. */
export type Mfn = Branded<'Mfn'>;
/** Event-channel port, local to the guest. */
export type Port = Branded<'Port'>;
/** Domain id, 0 to 0x7fef, or one of the DOMID_ constants. */
export type DomId = Branded<'DomId'>;
/** Time or duration in nanoseconds; a double is exact for the first 104 days, then within 2 ns. */
export type Nanoseconds = Branded<'Nanoseconds'>;
