// The operation of each SSE, SSE2 and MMX mnemonic, for the legacy encodings of the x86-64 baseline. The kinds of
// operands follow from the rest of iced's Code name (Addps_xmm_xmmm128); see fp.ts.
import { FpOp } from '../core/fp/ops.js';

const numbers = (first: number, ...names: string[]): [string, number][] =>
  names.map((n, i) => [n, first + i]);
const words = (text: string): string[] => text.trim().split(/\s+/);

/** Mnemonics whose XMM form has this operation number. The MM form, if there is one, has the number plus FpOp.MMX. */
const integer = numbers(
  FpOp.PUNPCKLBW,
  ...words(`Punpcklbw Punpcklwd Punpckldq Punpcklqdq Punpckhbw Punpckhwd Punpckhdq Punpckhqdq
    Packsswb Packuswb Packssdw Pcmpgtb Pcmpgtw Pcmpgtd Pcmpeqb Pcmpeqw Pcmpeqd
    Paddb Paddw Paddd Paddq Psubb Psubw Psubd Psubq Paddsb Paddsw Paddusb Paddusw
    Psubsb Psubsw Psubusb Psubusw Pmullw Pmulhw Pmulhuw Pmuludq Pmaddwd Psadbw Pavgb Pavgw
    Pminub Pminsw Pmaxub Pmaxsw Pand Pandn Por Pxor Psllw Pslld Psllq Psrlw Psrld Psrlq Psraw Psrad`),
);

/** Shifts by an immediate: `Psllw_xmm_imm8`. */
const shifts = numbers(
  FpOp.PSLLWI,
  ...words('Psllw Pslld Psllq Psrlw Psrld Psrlq Psraw Psrad Pslldq Psrldq'),
);

const shuffles = numbers(
  FpOp.PSHUFD,
  ...words('Pshufd Pshufhw Pshuflw Pshufw Shufps Shufpd Pinsrw Pextrw Pmovmskb'),
);

const bitwise: [string, number][] = [
  ['Andps', FpOp.PAND],
  ['Andpd', FpOp.PAND],
  ['Andnps', FpOp.PANDN],
  ['Andnpd', FpOp.PANDN],
  ['Orps', FpOp.POR],
  ['Orpd', FpOp.POR],
  ['Xorps', FpOp.PXOR],
  ['Xorpd', FpOp.PXOR],
  ['Unpcklps', FpOp.PUNPCKLDQ],
  ['Unpckhps', FpOp.PUNPCKHDQ],
  ['Unpcklpd', FpOp.PUNPCKLQDQ],
  ['Unpckhpd', FpOp.PUNPCKHQDQ],
  ['Movmskps', FpOp.MOVMSKPS],
  ['Movmskpd', FpOp.MOVMSKPD],
];

const floating = numbers(
  FpOp.ADDPS,
  ...['Add', 'Mul', 'Sub', 'Min', 'Div', 'Max', 'Sqrt', 'Cmp'].flatMap((n) =>
    ['ps', 'pd', 'ss', 'sd'].map((format) => n + format),
  ),
  ...words('Rcpps Rcpss Rsqrtps Rsqrtss Ucomiss Ucomisd Comiss Comisd Cvtpi2ps Cvtpi2pd'),
);

const converting = numbers(FpOp.CVTTPS2PI, ...words('Cvttps2pi Cvttpd2pi Cvtps2pi Cvtpd2pi')).concat(
  numbers(
    FpOp.CVTPS2PD,
    ...words(`Cvtps2pd Cvtpd2ps Cvtss2sd Cvtsd2ss Cvtdq2ps Cvtps2dq Cvttps2dq Cvtdq2pd Cvtpd2dq Cvttpd2dq`),
  ),
);

/** By mnemonic. */
export const byMnemonic = new Map([...integer, ...shuffles, ...bitwise, ...floating, ...converting]);

export const shiftsByImmediate = new Map(shifts);

/** By iced's complete Code name, where the mnemonic is not enough: [register form, memory form]. */
export const byCode: Record<string, readonly [register: number, memory: number]> = {
  Movups_xmm_xmmm128: [FpOp.MOV16, FpOp.MOV16],
  Movupd_xmm_xmmm128: [FpOp.MOV16, FpOp.MOV16],
  Movaps_xmm_xmmm128: [FpOp.MOV16, FpOp.MOV16],
  Movapd_xmm_xmmm128: [FpOp.MOV16, FpOp.MOV16],
  Movdqa_xmm_xmmm128: [FpOp.MOV16, FpOp.MOV16],
  Movdqu_xmm_xmmm128: [FpOp.MOV16, FpOp.MOV16],
  Movups_xmmm128_xmm: [FpOp.MOV16, FpOp.ST16],
  Movupd_xmmm128_xmm: [FpOp.MOV16, FpOp.ST16],
  Movaps_xmmm128_xmm: [FpOp.MOV16, FpOp.ST16],
  Movapd_xmmm128_xmm: [FpOp.MOV16, FpOp.ST16],
  Movdqa_xmmm128_xmm: [FpOp.MOV16, FpOp.ST16],
  Movdqu_xmmm128_xmm: [FpOp.MOV16, FpOp.ST16],
  Movntps_m128_xmm: [-1, FpOp.ST16],
  Movntpd_m128_xmm: [-1, FpOp.ST16],
  Movntdq_m128_xmm: [-1, FpOp.ST16],
  Movss_xmm_xmmm32: [FpOp.MOV4L, FpOp.MOV4Z],
  Movsd_xmm_xmmm64: [FpOp.MOV8L, FpOp.MOV8Z],
  Movss_xmmm32_xmm: [FpOp.MOV4L, FpOp.ST4],
  Movsd_xmmm64_xmm: [FpOp.MOV8L, FpOp.ST8],
  Movhlps_xmm_xmm: [FpOp.MOVHLPS, -1],
  Movlhps_xmm_xmm: [FpOp.MOV8H, -1],
  Movlps_xmm_m64: [-1, FpOp.MOV8L],
  Movlpd_xmm_m64: [-1, FpOp.MOV8L],
  Movhps_xmm_m64: [-1, FpOp.MOV8H],
  Movhpd_xmm_m64: [-1, FpOp.MOV8H],
  Movlps_m64_xmm: [-1, FpOp.ST8],
  Movlpd_m64_xmm: [-1, FpOp.ST8],
  Movhps_m64_xmm: [-1, FpOp.STH8],
  Movhpd_m64_xmm: [-1, FpOp.STH8],
  Movd_xmm_rm32: [FpOp.MOV4Z, FpOp.MOV4Z],
  Movq_xmm_rm64: [FpOp.MOV8Z, FpOp.MOV8Z],
  Movd_rm32_xmm: [FpOp.TOGPR32, FpOp.ST4],
  Movq_rm64_xmm: [FpOp.TOGPR64, FpOp.ST8],
  Movq_xmm_xmmm64: [FpOp.MOV8Z, FpOp.MOV8Z],
  Movq_xmmm64_xmm: [FpOp.MOV8Z, FpOp.ST8],
  Movd_mm_rm32: [FpOp.MMXLD4, FpOp.MMXLD4],
  Movq_mm_rm64: [FpOp.MMXLD8, FpOp.MMXLD8],
  Movq_mm_mmm64: [FpOp.MMXLD8, FpOp.MMXLD8],
  Movd_rm32_mm: [FpOp.MMXTOGPR32, FpOp.MMXST4],
  Movq_rm64_mm: [FpOp.MMXTOGPR64, FpOp.MMXST8],
  Movq_mmm64_mm: [FpOp.MMXLD8, FpOp.MMXST8],
  Movntq_m64_mm: [-1, FpOp.MMXST8],
  Movq2dq_xmm_mm: [FpOp.MOVQ2DQ, -1],
  Movdq2q_mm_xmm: [FpOp.MOVDQ2Q, -1],
  Cvtsi2ss_xmm_rm32: [FpOp.CVTSI2SS32, FpOp.CVTSI2SS32],
  Cvtsi2ss_xmm_rm64: [FpOp.CVTSI2SS64, FpOp.CVTSI2SS64],
  Cvtsi2sd_xmm_rm32: [FpOp.CVTSI2SD32, FpOp.CVTSI2SD32],
  Cvtsi2sd_xmm_rm64: [FpOp.CVTSI2SD64, FpOp.CVTSI2SD64],
  Cvttss2si_r32_xmmm32: [FpOp.CVTTSS2SI32, FpOp.CVTTSS2SI32],
  Cvttss2si_r64_xmmm32: [FpOp.CVTTSS2SI64, FpOp.CVTTSS2SI64],
  Cvttsd2si_r32_xmmm64: [FpOp.CVTTSD2SI32, FpOp.CVTTSD2SI32],
  Cvttsd2si_r64_xmmm64: [FpOp.CVTTSD2SI64, FpOp.CVTTSD2SI64],
  Cvtss2si_r32_xmmm32: [FpOp.CVTSS2SI32, FpOp.CVTSS2SI32],
  Cvtss2si_r64_xmmm32: [FpOp.CVTSS2SI64, FpOp.CVTSS2SI64],
  Cvtsd2si_r32_xmmm64: [FpOp.CVTSD2SI32, FpOp.CVTSD2SI32],
  Cvtsd2si_r64_xmmm64: [FpOp.CVTSD2SI64, FpOp.CVTSD2SI64],
  Maskmovdqu_rDI_xmm_xmm: [FpOp.MASKMOV, FpOp.MASKMOV],
  Maskmovq_rDI_mm_mm: [FpOp.MASKMOV + FpOp.MMX, FpOp.MASKMOV + FpOp.MMX],
  Ldmxcsr_m32: [-1, FpOp.LDMXCSR],
  Stmxcsr_m32: [-1, FpOp.STMXCSR],
  Fxsave_m512byte: [-1, FpOp.FXSAVE],
  Fxsave64_m512byte: [-1, FpOp.FXSAVE64],
  Fxrstor_m512byte: [-1, FpOp.FXRSTOR],
  Fxrstor64_m512byte: [-1, FpOp.FXRSTOR64],
  Emms: [FpOp.EMMS, -1],
  Wait: [FpOp.FWAIT, -1],
};

/** Codes whose 16-byte memory operand need not be aligned. */
export const unaligned = new Set([
  'Movups_xmm_xmmm128',
  'Movupd_xmm_xmmm128',
  'Movdqu_xmm_xmmm128',
  'Movups_xmmm128_xmm',
  'Movupd_xmmm128_xmm',
  'Movdqu_xmmm128_xmm',
]);
