/** What the cpuid instruction answers: all leaves that exist; leaves that are not listed are all zero. */
export interface CpuidEntry {
  readonly leaf: number;
  readonly subleaf: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}
export type CpuidTable = readonly CpuidEntry[];

/** Sub-leaves count only where the table lists several for a leaf. */
export function lookupCpuid(table: CpuidTable, leaf: number, subleaf: number): CpuidEntry | undefined {
  const all = table.filter((e) => e.leaf === leaf);
  return all.find((e) => e.subleaf === subleaf) ?? (all.length === 1 ? all[0] : undefined);
}
