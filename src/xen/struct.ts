/**
 * Declares a C structure of Xen's ABI once, as a readable table, and provides its offsets as plain numbers:
 *
 *     mem.setU8(base + VcpuInfo.evtchn_upcall_mask, 1)
 *
 * The table also has the type of every field, for the test that compares each offset, size and type with Xen's own
 * headers. Padding is not listed. Layouts are those of x86_64 unless the name says otherwise.
 */

export type Scalar = 'u8' | 's8' | 'u16' | 's16' | 'u32' | 's32' | 'u64' | 's64' | 'char' | 'ptr';
/** A scalar, another structure, or an array of either. */
export type FieldType = Scalar | `${Scalar}[${number}]` | `struct ${string}`;
/** Byte offset, type, and the path in C if it is not just the field's name (`console.domU.mfn`). */
export type Field = readonly [offset: number, type: FieldType, path?: string];
export type Fields = Readonly<Record<string, Field>>;

export interface StructLayout {
  /** The tag in C: `vcpu_info` for `struct vcpu_info`. */
  readonly name: string;
  readonly fields: Fields;
}

/** The byte offset of every field under its name, the size in bytes, and the table itself. */
export type Struct<F extends Fields> = { readonly [K in keyof F]: number } & {
  readonly sizeof: number;
  readonly layout: StructLayout;
};

export function struct<const F extends Fields>(name: string, sizeof: number, fields: F): Struct<F> {
  const offsets: Record<string, unknown> = {};
  for (const [field, [offset]] of Object.entries(fields)) offsets[field] = offset;
  offsets['sizeof'] = sizeof;
  offsets['layout'] = { name, fields };
  return Object.freeze(offsets) as Struct<F>;
}

const SCALAR_BYTES: Readonly<Record<Scalar, number>> = {
  u8: 1,
  s8: 1,
  char: 1,
  u16: 2,
  s16: 2,
  u32: 4,
  s32: 4,
  u64: 8,
  s64: 8,
  ptr: 8,
};

/** The scalar type and the number of scalars in a type. Undefined for a structure or an array of structures. */
export function scalarOf(type: FieldType): { scalar: Scalar; count: number; bytes: number } | undefined {
  const match = /^([us]\d+|char|ptr)(?:\[(\d+)\])?$/.exec(type);
  if (!match) return undefined;
  const scalar = match[1] as Scalar;
  const count = match[2] === undefined ? 1 : Number(match[2]);
  return { scalar, count, bytes: SCALAR_BYTES[scalar] * count };
}
