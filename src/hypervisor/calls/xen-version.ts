/**
 * HYPERVISOR_xen_version: reports the frozen profile (identity.ts) in the way Xen does.
 * Source: do_xen_version of xen/common/kernel.c; xsm_xen_version of xsm/dummy.h.
 */
import { EFAULT, EINVAL, ENOSYS, EPERM } from '../../xen/errno.js';
import { HYPERVISOR_VIRT_START, PAGE_SIZE } from '../../xen/paging.js';
import * as V from '../../xen/version.js';
import { VMASST_TYPE_pae_extended_cr3 } from '../../xen/vm-assist.js';
import type { IdentityState, OwnIdState } from '../identity.js';
import type { AssistState } from '../vcpu/entry-state.js';
import type { CallState } from './call-state.js';

/** What an unprivileged guest gets instead of a string. */
const DENIED = '<denied>';

/** The word of the frozen profile. One of its bits is only set for a kernel whose ELF notes asked for it. */
const features = (d: IdentityState & AssistState): number =>
  d.vmAssist & (1 << VMASST_TYPE_pae_extended_cr3)
    ? d.identity.features
    : d.identity.features & ~(1 << V.XENFEAT_pae_pgdir_above_4gb);

export function xenVersion(d: CallState & IdentityState & OwnIdState & AssistState): number {
  const { args, guest, identity } = d;
  const { buffer } = guest;
  const vcpu = d.current.id;
  const arg = args.long(1);
  const give = (bytes: number): number => (guest.copyOut(vcpu, arg, bytes) ? 0 : -EFAULT);
  const giveText = (text: string, bytes: number): number => {
    guest.putText(0, text, bytes);
    return give(bytes);
  };
  switch (args.int(0)) {
    case V.XENVER_version:
      return identity.major * 65536 + identity.minor;
    case V.XENVER_extraversion:
      return giveText(identity.extraversion, V.XEN_EXTRAVERSION_LEN);
    case V.XENVER_compile_info: {
      const s = V.XenCompileInfo;
      guest.putText(s.compiler, identity.compiler, s.compile_by - s.compiler);
      guest.putText(s.compile_by, identity.compileBy, s.compile_domain - s.compile_by);
      guest.putText(s.compile_domain, identity.compileDomain, s.compile_date - s.compile_domain);
      guest.putText(s.compile_date, identity.compileDate, s.sizeof - s.compile_date);
      return give(s.sizeof);
    }
    case V.XENVER_capabilities:
      return giveText(identity.capabilities, V.XEN_CAPABILITIES_INFO_LEN);
    case V.XENVER_changeset:
      return giveText(identity.changeset, V.XEN_CHANGESET_INFO_LEN);
    case V.XENVER_platform_parameters:
      buffer.setU64(0, HYPERVISOR_VIRT_START);
      return give(V.XenPlatformParameters.sizeof);
    case V.XENVER_get_features:
      if (!guest.copyIn(vcpu, arg, V.XenFeatureInfo.sizeof)) return -EFAULT;
      if (buffer.getU32(V.XenFeatureInfo.submap_idx) !== 0) return -EINVAL;
      buffer.setU32(V.XenFeatureInfo.submap, features(d));
      return give(V.XenFeatureInfo.sizeof);
    case V.XENVER_pagesize:
      return args.isNull(1) ? PAGE_SIZE : -EINVAL;
    case V.XENVER_guest_handle:
      buffer.u8.set(d.uuid, 0);
      return give(d.uuid.length);
    case V.XENVER_commandline:
      return giveText(DENIED, DENIED.length + 1);
    case V.XENVER_build_id:
      return -EPERM;
    default:
      return -ENOSYS;
  }
}
