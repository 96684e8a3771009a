export const CACHE: string;
export class NoPackages extends Error {}
export interface DebianSource {
  suite?: string;
  architecture?: string;
}
export function packagesKey(packages: string[], from?: DebianSource): string;
export function unpackDebian(packages: string[], dir: string, from?: DebianSource): string;
export function fetchDebian(packages: string[], from?: DebianSource): Promise<string>;
