/**
 * Which names a guest may have. The same rule applies to names from a configuration, a user, another host or a saved
 * file.
 *
 * A reference to a guest is a domain id, a name or a uuid, so a name must not look like one of the other two. As in
 * libxl, digits only are a domain id and never a name (libxl_domain_qualifier_to_domid).
 */

/** In UTF-16 code units. */
export const MAX_NAME_LENGTH = 255;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** Control and format characters, unpaired surrogates and line separators, all of which affect a terminal or a log. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

/** Whether a reference to a guest can only be a domain id. */
export const isDomainId = (reference: string): boolean => /^[0-9]+$/.test(reference);

/** Returns why `name` cannot be the name of a guest, or undefined if it can. */
export function nameFault(name: unknown): string | undefined {
  const why = fault(name);
  return why === undefined ? undefined : `name ${quotedName(name)} cannot be the name of a guest: it ${why}`;
}

function fault(name: unknown): string | undefined {
  if (typeof name !== 'string') return 'is not text';
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

/** A name for messages: shortened, and without characters that affect a terminal. */
export const quotedName = (name: unknown): string => JSON.stringify(String(name).slice(0, 64));
