/** The one place where text becomes values: what comes of it is unknown, until it was held against a declaration. */

/** Throws SyntaxError. */
export const parseJson = (text: string): unknown => JSON.parse(text);
