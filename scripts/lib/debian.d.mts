export const CACHE: string;
export class NoPackages extends Error {}
export function fetchDebian(packages: string[]): Promise<string>;
