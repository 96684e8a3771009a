/**
 * What may be the name of a guest: one rule for all who give names, be it a configuration, a person, another host or
 * a saved file.
 *
 * A reference to a guest is a domain id, a name or a uuid; so no name may look like one of the others. As in libxl,
 * digits only are a domain id and never a name (libxl_domain_qualifier_to_domid).
 */

/** UTF-16 code units. */
export const MAX_NAME_LENGTH = 255;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** Control and format characters, halves of surrogate pairs, separators of lines: what a terminal or a log obeys. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

/** Whether a reference to a guest can only be a domain id. */
export const isDomainId = (reference: string): boolean => /^[0-9]+$/.test(reference);

/** Says why `name` cannot be the name of a guest; undefined: it can. */
export function nameFault(name: unknown): string | undefined {
  const why = fault(name);
  return why === undefined ? undefined : `name ${quotedName(name)} cannot be the name of a guest: it ${why}`;
}

function fault(name: unknown): string | undefined {
  if (typeof name !== 'string') return 'is no text';
  if (name === '') return 'is empty';
  if (name.length > MAX_NAME_LENGTH) return `has more than ${MAX_NAME_LENGTH} characters`;
  if (UNPRINTABLE.test(name)) return 'has characters that cannot be printed';
  if (isDomainId(name)) return 'has digits only, as a domain id';
  if (UUID.test(name)) return 'is a uuid';
  if (name.includes('/')) return 'has a slash in it';
  if (name.trim() !== name) return 'begins or ends with a blank';
  if (name.startsWith('-')) return 'begins with a hyphen, as an option';
  return undefined;
}

/** A name in messages: short, and nothing in it that a terminal obeys. */
export const quotedName = (name: unknown): string => JSON.stringify(String(name).slice(0, 64));
