/** What the cpuid instruction returns: all leaves that exist; leaves that are not listed are zero. */
export interface CpuidEntry {
  readonly leaf: number;
  readonly subleaf: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}
export type CpuidTable = readonly CpuidEntry[];

/** The sub-leaf matters only if the table lists several for the leaf. */
export function lookupCpuid(table: CpuidTable, leaf: number, subleaf: number): CpuidEntry | undefined {
  let first: CpuidEntry | undefined;
  let several = false;
  for (const entry of table) {
    if (entry.leaf !== leaf) continue;
    if (entry.subleaf === subleaf) return entry;
    if (first === undefined) first = entry;
    else several = true;
  }
  return several ? undefined : first;
}
