/** The links that a host without Xen has for devices: opened in the guest's process, with its rights. */
import type { HostLinks } from '../../devices/links.js';

export function standaloneLinks(): HostLinks {
  return {};
}
