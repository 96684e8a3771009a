/**
 * The network protocol (`io/netif.h`). Sizes and names are the same in both ABIs.
 *
 * A packet is a chain of tx requests (more_data is set on all but the last). Extra infos occupy the slots after the
 * first one. On the receive side each response occupies the slot of its request.
 */
import { struct } from './struct.js';

export const NetifTxRequest = struct('netif_tx_request', 12, {
  gref: [0, 'u32'],
  offset: [4, 'u16'],
  flags: [6, 'u16'],
  id: [8, 'u16'],
  size: [10, 'u16'],
});

/** `netif_tx_request.flags`. */
export const NETTXF_csum_blank = 1 << 0;
export const NETTXF_data_validated = 1 << 1;
export const NETTXF_more_data = 1 << 2;
export const NETTXF_extra_info = 1 << 3;

export const XEN_NETIF_MAX_TX_SIZE = 0xffff;
/** How many slots every back end must accept for a packet. */
export const XEN_NETIF_NR_SLOTS_MIN = 18;

export const NetifTxResponse = struct('netif_tx_response', 4, {
  id: [0, 'u16'],
  status: [2, 's16'],
});

export const NetifRxRequest = struct('netif_rx_request', 8, {
  id: [0, 'u16'],
  gref: [4, 'u32'],
});

/** `status` is a NETIF_RSP_ code if it is negative, otherwise the number of bytes in this slot. */
export const NetifRxResponse = struct('netif_rx_response', 8, {
  id: [0, 'u16'],
  offset: [2, 'u16'],
  flags: [4, 'u16'],
  status: [6, 's16'],
});

/** `netif_rx_response.flags`. */
export const NETRXF_data_validated = 1 << 0;
export const NETRXF_csum_blank = 1 << 1;
export const NETRXF_more_data = 1 << 2;
export const NETRXF_extra_info = 1 << 3;
export const NETRXF_gso_prefix = 1 << 4;

/** `u` depends on `type`. */
export const NetifExtraInfo = struct('netif_extra_info', 8, {
  type: [0, 'u8'],
  flags: [1, 'u8'],
  u_gso_size: [2, 'u16', 'u.gso.size'],
  u_gso_type: [4, 'u8', 'u.gso.type'],
  u_gso_features: [6, 'u16', 'u.gso.features'],
  u_mcast_addr: [2, 'u8[6]', 'u.mcast.addr'],
  u_hash_type: [2, 'u8', 'u.hash.type'],
  u_hash_algorithm: [3, 'u8', 'u.hash.algorithm'],
  u_hash_value: [4, 'u8[4]', 'u.hash.value'],
});

/** `netif_extra_info.type` and `.flags`. */
export const XEN_NETIF_EXTRA_TYPE_NONE = 0;
export const XEN_NETIF_EXTRA_TYPE_GSO = 1;
export const XEN_NETIF_EXTRA_TYPE_MCAST_ADD = 2;
export const XEN_NETIF_EXTRA_TYPE_MCAST_DEL = 3;
export const XEN_NETIF_EXTRA_TYPE_HASH = 4;
export const XEN_NETIF_EXTRA_TYPE_MAX = 5;
export const XEN_NETIF_EXTRA_FLAG_MORE = 1 << 0;

/** `u.gso.type`. */
export const XEN_NETIF_GSO_TYPE_NONE = 0;
export const XEN_NETIF_GSO_TYPE_TCPV4 = 1;
export const XEN_NETIF_GSO_TYPE_TCPV6 = 2;

/** `status` of a tx response, and of an rx response if it is negative. */
export const NETIF_RSP_DROPPED = -2;
export const NETIF_RSP_ERROR = -1;
export const NETIF_RSP_OKAY = 0;
export const NETIF_RSP_NULL = 1;

/** The control ring. */
export const XenNetifCtrlRequest = struct('xen_netif_ctrl_request', 16, {
  id: [0, 'u16'],
  type: [2, 'u16'],
  data: [4, 'u32[3]'],
});

export const XenNetifCtrlResponse = struct('xen_netif_ctrl_response', 12, {
  id: [0, 'u16'],
  type: [2, 'u16'],
  status: [4, 'u32'],
  data: [8, 'u32'],
});

export const XEN_NETIF_CTRL_HASH_ALGORITHM_NONE = 0;
export const XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ = 1;
export const XEN_NETIF_CTRL_TYPE_INVALID = 0;
export const XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS = 1;
export const XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS = 2;
export const XEN_NETIF_CTRL_TYPE_SET_HASH_KEY = 3;
export const XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE = 4;
export const XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE = 5;
export const XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING = 6;
export const XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM = 7;
export const XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE = 8;
export const XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING = 9;
export const XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING = 10;
export const XEN_NETIF_CTRL_STATUS_SUCCESS = 0;
export const XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED = 1;
export const XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER = 2;
export const XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW = 3;
export const XEN_NETIF_CTRL_HASH_TYPE_IPV4 = 1 << 0;
export const XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP = 1 << 1;
export const XEN_NETIF_CTRL_HASH_TYPE_IPV6 = 1 << 2;
export const XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP = 1 << 3;
