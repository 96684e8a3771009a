import type { RecordType } from '../../src/records/record.js';

export interface PointWords {
  readonly name: string;
  readonly rows: string;
  readonly seen: string;
  readonly held: string;
  readonly proof: readonly string[];
}
export function migrationPointsDoc(
  descriptions: readonly PointWords[],
  rows: Readonly<Record<string, string>>,
  rowsOf: (rows: string) => string[],
): string;

export interface StreamPart {
  readonly title: string;
  readonly words: readonly string[];
  // biome-ignore lint/suspicious/noExplicitAny: records of any contents
  readonly records: readonly RecordType<any>[];
}
export function streamDoc(
  parts: readonly StreamPart[],
  limits: readonly (readonly [string, string])[],
): string;
