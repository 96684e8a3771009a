export interface KernelGuest {
  dir: string;
  vmlinuz: string;
  initramfs: string;
  /** As uname -r says it. */
  release: string;
}
export function ensureKernel(from: { suite?: string; package: string }): Promise<KernelGuest>;
