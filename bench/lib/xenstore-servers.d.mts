export function oxenstoredConfig(dir: string): string;
