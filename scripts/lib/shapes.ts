// What a declaration of src/protocol says, as data: for the page that is made of it, and for the fuzzer, which makes
// values of it. valibot keeps all of a schema at run time.
import type * as v from 'valibot';

/** A step of a pipe: a limit, a form, or what people are told. */
interface Action {
  readonly kind: string;
  readonly type: string;
  readonly requirement?: unknown;
  readonly metadata?: { readonly about?: string; readonly unit?: string };
}

/** A declaration, as its library keeps it. */
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

/** The types of valibot say nothing of what such a declaration is made of. */
export const shapeOf = (schema: v.GenericSchema): Shape => schema as unknown as Shape;

/** What may be left out, and what null may stand for, looked through. */
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

/** What people are told of a field. */
export function told(shape: Shape): { about: string; unit: string } {
  const { inner } = unwrapped(shape);
  const own = actions(shape).find(({ type }) => type === 'metadata')?.metadata;
  if (own?.about !== undefined) return { about: own.about, unit: own.unit ?? '' };
  return inner === shape ? { about: '', unit: '' } : told(inner);
}

/** The requirement of a step of this kind. */
export const requirement = (shape: Shape, type: string): unknown => {
  for (const action of [...actions(shape)].reverse()) if (action.type === type) return action.requirement;
  // A pipe that begins with a pipe.
  const [first] = shape.pipe ?? [];
  return first !== undefined && first !== shape && first.pipe !== undefined
    ? requirement(first, type)
    : undefined;
};
