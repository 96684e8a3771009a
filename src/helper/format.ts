/** Formats values for the ledger. */

export const seconds = (ns: number): string => `${(ns / 1e9).toFixed(3)} s`;
export const iso = (ns: number): string => new Date(ns / 1e6).toISOString();
