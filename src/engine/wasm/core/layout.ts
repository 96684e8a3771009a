/**
 * Where everything lies in the one linear memory. Compiled twice: by AssemblyScript into the core, and by
 * TypeScript for the decoder and the accessors, so that both sides cannot disagree.
 *
 *     0x000000  static data of the core
 *     0x010000  vCPU areas, VCPU_STRIDE each, of MAX_VCPUS vCPUs:
 *               +0x00000  state: registers, flags, FPU, what the present run needs, why the last one stopped
 *               +0x10000  TLBs of the guest kernel: reading, writing, code, then the victims of the first two
 *               +0x20000  the same of the guest user
 *               +0x30000  jump cache: block by guest address, both modes
 *     0x210080  next free floating-point descriptor; counters and list of blocks that wait to be translated
 *     0x211000  scratch block: the first instructions of a block whose budget does not reach to its end
 *     0x220000  hash table of decoded blocks, by the linear address of their first byte
 *     0x260000  descriptors of floating-point operations
 *     0x360000  arena of decoded code, as large as MachineConfig says
 *     then, one entry a frame: u64 which 64-byte pieces hold decoded code, u32 the first of its blocks, u8 dirty
 *     then, from the next page on, the frames: by their indexes
 *
 * All guest addresses that translate do so to the frames; docs/engine.md says more.
 */

/** vCPU areas. */
export const VCPU_BASE = 0x10000;
export const VCPU_STRIDE = 0x40000;
export const MAX_VCPUS = 8;

/** General registers: GPR i at 8*i, then slots that operand fields may name like registers (byte offsets). */
export const REGS = 0x000;
export const BLOCK_VA = 0x080;
export const ZERO = 0x088;
export const FS_BASE = 0x090;
export const GS_BASE = 0x098;
/** Bases of the other segments. They are used in compatibility mode only. */
export const ES_BASE = 0x0a0;
export const CS_BASE = 0x0a8;
export const SS_BASE = 0x0b0;
export const DS_BASE = 0x0b8;

export const RIP = 0x100;
/** Lazy flags: see flags.ts. */
export const F_A = 0x108;
export const F_B = 0x110;
export const F_R = 0x118;
export const F_C = 0x120;
export const F_KIND = 0x124;
/** The six arithmetic flags if F_KIND is K_BITS. F_C is not needed in that case. */
export const F_BITS = 0x120;
/** All other bits of RFLAGS. */
export const SYSTEM_FLAGS = 0x12c;
/** Instructions left (i32). */
export const BUDGET = 0x130;
export const CURRENT_BLOCK = 0x134;
export const CURRENT_OP = 0x138;
/** 0 guest kernel, 1 guest user. */
export const MODE = 0x13c;
/** Linear address of the present mode's TLBs. */
export const TLB = 0x140;
/** What the jump cache compares: the mode's JUMP_GENERATIONS + MODE + 2 * CODE_KIND. It is set when a run starts. */
export const JUMP_TAG = 0x144;
/** The generation of the mode that runs, as the TLB tags compare it: u64, set when a run starts. */
export const GENERATION = 0x148;
/** What accesses compare in this run: GENERATION, or ALL_SLOW while every access has to take the slow path. */
export const ACCESS_TAG = 0x150;
export const CR3_KERNEL = 0x158;
export const CR3_USER = 0x160;
export const CR0 = 0x168;
export const CR2 = 0x170;
export const CR4 = 0x178;
export const GS_BASE_OTHER = 0x180;
/** DR0 to DR7: 8 u64. */
export const DR = 0x600;
/**
 * u32: 1 while data breakpoints are checked; then a mask of the breakpoints that the present instruction has hit. See
 * watch.ts.
 */
export const WATCHING = 0x640;
export const WATCH_HITS = 0x644;
/** u16: es cs ss ds fs gs. */
export const SELECTORS = 0x1b8;
export const EXIT_VECTOR = 0x1c8;
export const EXIT_ERROR = 0x1cc;
export const EXIT_CR2 = 0x1d0;
export const EXIT_LENGTH = 0x1d8;
export const FAULT_CODE = 0x1dc;
export const FAULT_ADDRESS = 0x1e0;
/** Instructions executed since power-on: u64. */
export const RETIRED = 0x1e8;
/** The value of BUDGET when RETIRED was last brought up to date (i32). */
export const GIVEN = 0x1f4;
/** 1 if the exception came from an int instruction; rip is then after it. */
export const EXIT_SOFTWARE = 0x1f8;
/** u64 for each mode, from 1 to GENERATION_LAST: it grows with every flush of the mode's translations. */
export const GENERATIONS = 0x648;
/**
 * u32 for each mode, a multiple of JUMP_STEP: it grows with every flush, including those of one page. The low bits of
 * a tag are mode and kind.
 */
export const JUMP_GENERATIONS = 0x658;
export const JUMP_STEP = 8;
/** u32: the number of frames in STALE_LIST. If it exceeds STALE_MOST, any translation may be out of date. */
export const STALE_COUNT = 0x660;
export const STALE_MOST = 256;
/** u32 each: frames that were named by entries that have changed. */
export const STALE_LIST = 0x1000;
/** u8 for all frames whose numbers have the same low bits: 1 if one of them is in the list. */
export const STALE_MARKS = 0x1400;
export const STALE_MARKS_BYTES = 0x400;
/**
 * The segments of compatibility mode, u32 each, in the order of the slots of their bases: fs gs es cs ss ds. The
 * limit is the offset of the last byte; the rights are those in the upper half of a descriptor, or 0 if the segment
 * cannot be used.
 */
export const SEGMENT_LIMITS = 0x680;
export const SEGMENT_RIGHTS = 0x698;
/** u32: how code is decoded and run; one of the KIND_ values below. */
export const CODE_KIND = 0x6b0;
/**
 * u32: 1 while accesses are checked one by one against limits and rights, because some segment does not span the
 * address space.
 */
export const SEGMENTS_CHECKED = 0x6b4;
export const KIND_LONG = 0;
/** 32-bit code in a segment that spans the 4 GiB from address 0. */
export const KIND_FLAT = 1;
/**
 * 32-bit code in another segment, and 16-bit code. They run instruction by instruction, and each branch is checked
 * against the limit.
 */
export const KIND_CHECKED = 2;
export const KIND_16 = 3;
export const GENERATION_LAST = 0xffe;
export const ALL_SLOW = 0xfff;

/** FP state. */
export const XMM = 0x200;
export const MXCSR = 0x300;
export const X87_ST = 0x310;
export const FCW = 0x390;
export const FSW = 0x392;
export const FTW = 0x394;
export const FOP = 0x396;
export const FIP = 0x398;
export const FDP = 0x3a0;
/** Addresses of the x87 instruction and of its operand, then rflags, for core/fp; see fp/state.ts. */
export const NOW_IP = 0x3a8;
export const NOW_DP = 0x3b0;
/** u32: selectors of the code and (in the upper half) of the operand of the x87 instruction that is running. */
export const NOW_SELECTORS = 0x6b8;
export const FP_FLAGS = 0x3b8;
export const FCS = 0x3bc;
export const SCRATCH = 0x400;
export const SCRATCH_BYTES = 0x200;

/**
 * The TLBs of mode m are at MODE_TLB + m * MODE_TLB_STRIDE. Their entries have 16 bytes: {u64 tag, u32 addend, u32
 * 0}.
 */
export const MODE_TLB = 0x10000;
export const MODE_TLB_STRIDE = 0x10000;
export const TLB_READ = 0x0000;
export const TLB_WRITE = 0x4000;
export const TLB_CODE = 0x8000;
export const TLB_ENTRIES = 1024;
export const TLB_CODE_ENTRIES = 256;
/** The entries that the TLBs for reading and writing have evicted last, in any order. */
export const VICTIMS_READ = 0x9000;
export const VICTIMS_WRITE = 0x9080;
export const VICTIMS = 8;
/** In each of the two, u32: the offset of the entry that is overwritten next. */
export const VICTIM_NEXT = 0x0c;
/** Jump cache: entries of 16 bytes {u64 va, u32 block, u32 jump tag}. */
export const JUMP_CACHE = 0x30000;
export const JUMP_ENTRIES = 4096;

/** u32: the next free descriptor. */
export const FP_NEXT = 0x210080;
/** u32: the number of blocks that wait to be translated, then {u32 block, u32 0, u64 its address} for each. */
export const HOT_COUNT = 0x210100;
export const HOT_LIST = 0x210110;
export const HOT_MAX = 64;
/**
 * u32 each: after how many executions a block is to be translated, after how many more it does not wait for others
 * any longer, and how many blocks make a batch.
 */
export const HEAT_FIRST = 0x2100c0;
export const HEAT_AGAIN = 0x2100c4;
export const HOT_BATCH = 0x2100c8;
/** u32: a counter that grows with every block that loses its bytes. */
export const KILLS = 0x2100cc;
export const SCRATCH_BLOCK = 0x211000;
export const BLOCK_HASH = 0x220000;
export const BLOCK_HASH_ENTRIES = 0x10000;
/** Descriptors of floating-point operations, 16 bytes each. */
export const FP_DESCRIPTORS = 0x260000;
export const FP_DESCRIPTORS_END = 0x360000;
export const ARENA = 0x360000;

/** A decoded block: header, then operations of 16 bytes. */
/** Number of instructions. There may be more operations. */
export const B_COUNT = 0;
/** Linear address of the first byte. */
export const B_START = 4;
export const B_HASH_NEXT = 8;
export const B_FRAME_NEXT = 12;
/** Linear address of the second page if an instruction crosses a page boundary, otherwise 0. */
export const B_FRAME2 = 16;
export const B_FRAME2_NEXT = 20;
/** 1 + the CODE_KIND for which it was decoded. It becomes 0 when its bytes are stored to. */
export const B_LIVE = 24;
/** Bytes of code. */
export const B_BYTES = 28;
/** How many more executions by the interpreter until the block is to be translated (i32). */
export const B_HEAT = 32;
/** Number of the translated region that starts here, or 0. */
export const B_REGION = 36;
/** Number of the first operation while Op.TRANSLATED is in its place. */
export const B_FIRST = 40;
/** The low half is the number of translated regions that contain this block. 0x10000: it waits to be translated. */
export const B_USES = 44;
export const HOT_WAITS = 0x10000;
export const BLOCK_HEADER = 48;
/** The fields of a decoded block: a header, followed by operations of 16 bytes. */
export const BLOCK_MAX = 64;
/** Arena bytes that one block can need at most. */
export const BLOCK_ROOM = 4096;

/** An operation's fields. */
export const O_R1 = 2;
export const O_R2 = 3;
export const O_BASE = 4;
export const O_INDEX = 5;
export const O_SCALE = 6;
export const O_LENGTH = 7;
export const O_DISP = 8;
export const O_IMM = 12;
/** Flag in O_SCALE: the address is cut to 32 bits. Bits 0-1 are the scale, bits 3-7 the slot of the segment's base. */
export const SCALE_ADDR32 = 4;
/** All slots have this bit. If it is not set and SCALE_ADDR32 is, the address is cut to 16 bits. */
export const SCALE_SLOT = 0x80;

/**
 * What a translated region returns in the low four bits. R_OPERATION: the address of an operation at which to
 * continue; it is not the first of its block. R_LINK: a block to enter. R_GOTO: control goes to BLOCK_VA. R_EXIT: an
 * exit, in the bits above. R_PLAIN: a block to enter and to interpret. R_UNDONE: the same, but its instructions are
 * already taken off the budget.
 */
export const R_OPERATION = 0;
export const R_LINK = 1;
export const R_GOTO = 2;
export const R_EXIT = 3;
export const R_PLAIN = 4;
export const R_UNDONE = 5;
