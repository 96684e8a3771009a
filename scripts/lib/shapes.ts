// What a declaration in src/protocol says, as data: for the page that is made from it, and for the fuzzer, which makes
// values of it. valibot keeps the whole schema at run time.
import type * as v from 'valibot';

/** A step of a pipe: a limit, a format, or a description. */
interface Action {
  readonly kind: string;
  readonly type: string;
  readonly requirement?: unknown;
  readonly metadata?: { readonly about?: string; readonly unit?: string };
}

/** A declaration in the form in which valibot keeps it. */
export interface Shape {
  readonly type: string;
  readonly pipe?: readonly (Shape & Action)[];
  readonly entries?: Readonly<Record<string, Shape>>;
  readonly options?: readonly (Shape | string)[];
  readonly item?: Shape;
  readonly value?: Shape;
  readonly wrapped?: Shape;
  readonly default?: unknown;
  readonly fallback?: unknown;
}

/** valibot's types do not expose the parts of a declaration. */
export const shapeOf = (schema: v.GenericSchema): Shape => schema as unknown as Shape;

/** Returns the shape inside one that may be left out or null. */
export function unwrapped(shape: Shape): { inner: Shape; optional: boolean; nullable: boolean } {
  let [inner, optional, nullable] = [shape, false, false];
  while (inner.wrapped !== undefined) {
    if (inner.type === 'optional') optional = true;
    else nullable = true;
    inner = inner.wrapped;
  }
  return { inner, optional, nullable };
}

export const actions = (shape: Shape): readonly Action[] =>
  (shape.pipe ?? []).filter(({ kind }) => kind !== 'schema');

/** The description of a field. */
export function told(shape: Shape): { about: string; unit: string } {
  const { inner } = unwrapped(shape);
  const own = actions(shape).find(({ type }) => type === 'metadata')?.metadata;
  if (own?.about !== undefined) return { about: own.about, unit: own.unit ?? '' };
  return inner === shape ? { about: '', unit: '' } : told(inner);
}

/** The requirement of a step of this kind. */
export const requirement = (shape: Shape, type: string): unknown => {
  for (const action of [...actions(shape)].reverse()) if (action.type === type) return action.requirement;
  // A pipe may begin with another pipe.
  const [first] = shape.pipe ?? [];
  return first !== undefined && first !== shape && first.pipe !== undefined
    ? requirement(first, type)
    : undefined;
};
