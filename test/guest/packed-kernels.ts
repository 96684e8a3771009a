/**
 * One small ELF kernel, and what the real packers make of it. Made once with
 *     xz --check=crc32 --x86 --lzma2=dict=32MiB    xz --check=crc64 --block-size=1024    lz4 -l -9    zstd -19
 * the first, third and fourth as Linux packs its kernels. The four bytes of the unpacked size are added by
 * `bzImage` below.
 */
import { makeElf } from './make-elf.js';

/** Bytes like code: calls (E8) with scattered targets, which xz's x86 branch filter changes. */
export function packedKernel(): Uint8Array {
  const data = new Uint8Array(2000);
  const view = new DataView(data.buffer);
  let x = 1;
  for (let at = 0; at + 5 <= data.length; at += 5 + (at % 7 === 0 ? 1 : 0)) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    data[at] = x % 3 === 0 ? 0xe9 : 0xe8;
    view.setInt32(at + 1, ((x >>> 8) % 5) * 4096 - at, true);
    if (x % 11 === 0) data[at + 4] = 0xe8;
  }
  return makeElf({ load: [{ paddr: 0n, data }] });
}

/** The packed kernels by packer, in base64. */
export const PACKED: Readonly<Record<'xz' | 'xzBlocks' | 'lz4' | 'zstd', string>> = {
  xz: `
/Td6WFoAAAFpIt42AgEEACEBGgAByYCz4AlaAsNdAD+RRYRoPYmm2orMk+JP2/1yz8N4BTCbjI+mHEmmAkaDv880juBArfiCq8vVbfC/lemB
8Yt+9usSRj7aNjUkz5N1ztgh0afyvtPJh5VKxFDaDV0POLZJUWzPRFIcb50kvSyr+s1TLWYRLpmCQAaAj9ToKzgzkDd7Dskx/5OxlDavR46J
plle7PK7X9+js/etaOZkElswGLK7MbZ0svvprXortx10aWsUFnzKbe6kh9uAWbifY/m34sEN7gBIxMyksv12a+vPCE8PG8VM4DbKjt24cUCU
6VOA3oe0vicA3F7qNoszHUq4UDASRUUZD3Z+thvYl7B4+N8cbCUPeEsBaVkQx/+xFfXnVw8PUbF9gyHz+zQTeh/qnuJLuB86Q2GRiVTGT3lV
L5KNA81JJwkGLSB00XKRF0zuNgO4j0ownb/qSGgXei8nIywWtArw0joO+flANGMNQPWNH/uKHQ0RPEOgwh5rtu9L638aLMVvqQx3jPdC+kLp
hBv6Czy+aZ8BiIXndSj79Q/C6Hg2ss+w1IK4hR7L2BE+lhJbosDnBRi0MCFErAZjbiVwb7uJp4ucSCnSxHhDk6Dnu8xX1zPBJZgwODZHsgOL
BuYxZa0nZu6IGWFbVb0keSzQuwvHG24QFYbDB3f57w+48kH+yGl6UKqWwHtQD4khEDZs0bVQ8Teswopa3Y8/aVo9NaWZ9V+ce7uzrJdEfdwI
sarGCXd+DNdWJeJ2gvgACiwHE6kPnkc8DR3daY4GhWMN/lQHp6YARLt2ZdEo6mWSs3HcfvbpH7VRQXIbiZd9MMQPYB2sZeiETBlvgGFS5bjg
UlkxEyHUheRLnCzj43m5fPeXpjELc+gHyUSfX8sAyzRUPjjVOHEtPS5DpjMzGubmSVFgB2Y81o/QBgdwosAzoVhgkfuV5LCiFfxDoxP6Y95M
yCxLTzA9nG0aAAAeAiejAAHbBdsSAADH/rudPjANiwIAAAAAAVla`,
  xzBlocks: `
/Td6WFoAAATm1rRGAgAhARYAAAB0L+Wj4AP/AdtdAD+RRYRoPYmm2orMk+JP2/1yz8N4BTCbjI+mHEmmAkaDv880juBArfiCq8vVbfC/lemB
8Yt+9usSRj7aNjUkz5N1ztgh0afywmMxLw8E4EjhaWgUIkldUUse8JEWnQCYmO/3dB6TLTGpp0QWDtxpesDywc6QbOtbcp9Nwh76za3PA2Xw
sq8ZY59js7kkbpQv+uNsZXqy14ecYCvqgx18zvZ+4Q2fb80NoosjfMbXYetVcAK04T+2AUP3voi5eDMf3UOsqq0cwfXeUHrpmvUo2knbH3Sj
lmHQhpovL1iksGLr9qdM2Fm+g6pevDXNFITm4DzeuNsviHL+3QvHYN522/RC9lanTqU7c27QwQLT/ODdV9rBWAcP7gs0cW623H3VOMHonocO
bnfWowBvlPbMkXRQj75yyVwTOR57iFUM+mEwrcETIA98W2KDfNAzsRZpvBR9wwcEzNB9hHXNOf7TgCoVzzoDcshxspUTVxo96ENd01zFpfWs
KOOxu18iy1+2Mk6R5ZO6Uum0i2KginPww7KovITUiEqkF0ARRy9XqkEEn2e+Nh7Or1jSV1Uc4qwq1gyYHexV6Z+ygSA3MHnzgka5+wQrRrTa
zoQMjyvC2GNFIylUEU1CKw4eLgAAAK27Mv+jWGiaAgAhARYAAAB0L+Wj4AP/AkVdAHQL/aAMKzIFWnvX+kQXIFCLkeARjbvrCxLYBl1G7uEO
mYtdx6eYdE1Hi9XYD95EWhtgnF/OUr01hW9BFZNL5IuOpokUnRQ2nbkvU6roFRZrFGB+vjvymHarbqfalW5F3/7KLOJMM0zN1K4LWYgza5gV
1uSORxdRiqBWfOGCdin0u0Ff0DIMdiZj5MWr/ToTdnb4Ko6l4HpJ7hCIfIlcWI6HV65OiAMCua30u7FBETUFkhgAaiN+M9fkBAoAGHhwmkCu
EZwFafcl0f6e55q5Ks7/zOYMdTdBfVm3lySHrvB1jV4FIIZc8z0noGrtMPlP9gc0rw67WEhWaSKJe6JS73wJOdQX430hhw2iX4J6YMpDoDcK
3EFO1ldYUHiTOR2HUGGQ4cJkeSCDTGNXq9urDRozvpYqfkYbmePgrhNQX4GJd8DV4b0t1q8vKsDzWv18MvnTNJ5AusHrRYfXPeL9bCVTxL0j
Hgu2vB0tcwL+CoLYVsMqZt5Zp1hlXXB2k/upaemPIr54ncD6x3W6ijpciPlQ7Ih9TBulOVOrzs2SFhp3OSnynSjh660+7C/JRm1GTeCuFjIm
JMXQjML9h+ClOpBYssTjvEX6GV8iEkNMSdR8DjKzIe6oRsz/B6Ep9Xa3mqzSm90Kfugiz2WTr3qMBJrlpIEafMAe7mw0AprbZGR/Kf553qrE
GQfLItGEwYp+/9U+aA0g2SAJr55Y5a5U4RdMluCVKSKYdAZSZQKEofYm/tk5Qk/CjZVjhOXPhqKkT3yxLfFFAAAAAMjlBtLuRrMuAgAhARYA
AAB0L+Wj4AFaAMtdABiCPBrXscrZ/d75z1UN8QmMsl69lxpxd666BniGUE5QB7roXijA12gc7X4sO3D4nVRTP+F00v42QRuJIDu7dk0CeNl6
fs7D7UvQGCzzTshclk7ifnJfshFXGNP1+d5FeWPgiEeTwCeM2XHDdJ1X31cykiInA5MfYPaFztg32BKWX1X4Sp8aYhh70z54n0k+bWp6BLrn
VAB9k6z262qYSE7dA8C2Lxjpm3Ef0PED5Sxd1PVPslNwXg4ynOr6IKAkoMHgz4VmVeNrTAAAAADL3cuVSd74BQAD9wOACOEEgAjnAdsCAACi
ITG3rCc+LQQAAAAABFla`,
  lz4: `
AiFMGDsHAACEf0VMRgIBAQABAEgCAD4AAQATQAgAGbAUAKA4AAIAQAACAAEAOgB/BwAAADABAAEAAirQBwgABAEAEwQEAC8ACTgAAxswCAAP
AQANLzAJKAATAKcAHwNAAAgfC0AADPAY6QBAAOgA6PofAADo9Q8AAOnwLwAA6esfAAAA6OUPAADo4P///+jbCgAg1i8VAGDQPwAA6MsFABDG
FQARwRUAYLsvAADothUAELFEABCsFQAg6aZUABChFQAQnAUAIJc/KgAQkSoAEIwQAGGHHwAA6YJpAGB8LwDo6HcvABByHwARbVQAEGcLABBi
jgAQXS8AEVg/AGBSDwDo6E0QAHBIPwAA6UMPFQBgPS8A6Ok4jgAQM60AES5UABAoPwAQIyoAwB7////pGf///wDpE2QAEA4lABAJCgAQBBUA
wOj+PgDo6PkOAADo9AoAIO/+FQDwAukeAADo5B4AAOnfLgAA6NouVAAQ1CUAEM8aAMDKPgAA6MX+/+gA6L8QAGC6LgAA6bUFABCwPwAg6aoV
AGCl/v//6KA/ACCbHhEBEJU/ABCQGgBgix4A6OiGmgJw6YD+///peyUAEHYaABBxFQAg6GtfABBmEAAQYRoAIFwOFQAQVioAEFEVABBMPwAg
Ry65ARBBKgAQPGkAYDcuAOjoMmkAIOgsuABgJw4AAOkiHwBwHQ4A6ADpFwsAEBI/ABANCgAQCNIAIOkCKgDA/Q0AAOn4HQAA6PMNFQCw7f3/
/+joPQAA6OMKACDeHVQAENgQAMDT/f//6c4tAOjpyS0VABDDNQCxvj0A6Oi5DQAA6LQVABCuEAAQqRoAEKQvACCf/SYBEJlKAGCULQAA6Y9J
ABGKaQAQhCUAEH86ABB6CgAQdT8AIOlvEAAQai8AYWUdAADpYH4AEFoQABBVBQAQUAUAEEsVACDpRUoAEEAlABA7PwARNioAEDA/ABAraQAQ
Jn4AESEqAGAbLQAA6BYlABARPwARDCoAYAY9AADpASUAcPw8AADo9xxQAfAX8fz//+jsDAAA6OcsAADo4vz/6ADp3DwA6OjXLAAA6dIcAADp
zRxUABDHNQAQwiUAcL08AADpuAxUABCyOgAQrRAAEKgKABCjKgBw6J0cAADomAUAEJM/ABCOKgAg6YgQABCDPwAQflkAIHn8NwKwczwA6Olu
LADo6Wk/ACBkLD8AEF4gABBZLwAQVFkAIE88FQBgSRwA6OhEJQAQP4gAETo/ABA0EAAQL1QAECoVACAlDNIAEB86AGAaDAAA6RUVABEQVAAQ
CgsAEAUqABAANAAg+xsqAPAC9QsA6Ojw+///6esbAADo5vtUABDgCwAg2wsABFD7///o0VEEMOjLOwAEAAUAcMELAADpvCvSABC2EAAgsSsA
BAAVACCnOyoAEKE/ABCcBQBwlxsAAOmSGyoAEIxKABCHKgAQggoAIH0roAJgdzsAAOlyaQAQbT8AEGgqACDoYhAAEF0/ABBYHwAQU2kAIOhN
FQAQSAUAEENUABA+PwAg6DggABAzTwAQLgUAESmTABAjJQBgHisAAOgZFQARFL0AEA5PABAJOgAQBAoAIP/65wAg+RoABAAFAHDvOgAA6eoK
KgBg5AoAAOjfFQBg2joA6OjVKgBw6M8aAADpyiUAcMX6///owBppABC6EAAQtRoAYbA6AADoqyoAEKU6ABCgFQBhmwoAAOmWVAAQkCAAEIsV
AGGG+v//6YEqACB7KgAEAAUAEHFJACBsOioAEGYQAGBhKgDo6FwvABFXPwAQUT8AEEyYABBHXgAgQioVALA8KgAA6Tf6/+joMlQAES1UABAn
CwAQIgUAEB0vABEYFQAQErMAEA0vABAIaQAQA70A8APo/QkA6Oj4KQAA6fMJAADo7jkVAPAC6BkAAOnjOQAA6N4JAADp2SllARDTKgDAzikA
AOjJ+f//6MQZKgBgvhkAAOi5KgBhtDkAAOmvFQAQqUoAEKQlAGCfGQDo6ZqPBiDolFQAEI8qABCKKgAghSkVAGB/OQDo6HovABB1gwARcH4A
sGr5///pZQkA6OlgKgARWxUAEFULABBQVAAQSwoAEUYVABBAOgAQOwUAEDaYABAxaQAg6StkABAmEAAQISoAIBz54wEQFiUAEBEQABAMCgAQ
BxUAIOgBCwDA/Pj//+n3+P//6PIoVAAg7DgABBAIAARgOAAA6d0IFQAQ1xUAENIqABDNKgAgyDgVABDCJQAQvQUAcLgYAADosxgVABCtJQAQ
qBAAEKM/ABGeFQBgmAgA6OiTBQBwjjgA6OiJ+JMAIIMoAAQABQAQeUQAEXRpAGBuKAAA6WluABBkBQAQX2kAIOlZJQAQVAUAYU/4/+jpSlQA
EEQgAOA/CAAA6To4AOjpNfj//4QIAEYA9AEFAAAAWGVuAHhlbi0zLjAAGAATCBgA/wNnZW5lcmljAAAuc2hzdHJ0YWImCAlQAAAAAAA=`,
  zstd: `
KLUv/WRbCE0lAGpH2AwmIHBVOoHf0jDVKu0/9B/6D/3//iNgoQJ2m/L/c24AsrH/nuNjiQzBAMEAwAAwppE57o+JjOQmV8pW3pJgsq2fme/c
mt9MJ6vnPw8aUdZRTspLc7qP00T5nXrVsK6tu13563Yun4bsZrdw0L5+0+7axeFGkI3LuSd84d7dYb28eH33RLI4xpdAjbtjIFnkJPfJgl/5
4nG5YvLMbIZz7bxnQLd0hLKK8tGUxnQ9PWpUtyRYXVnfehxHXgO7LR2xbPGSZUvA2S1dtHv/mm1rAQxbzGvzWuxaWzZWHeaxtcM/vTr6q1/V
2uFQTQWMFF8CeHvI7k1iFF+5FldG3phHBrlHXpJXQ2BevinZLOnlMaPJtkk535nPDbShXDSkWyk1/WlS2VTZyrnKWV8+XNlHwl4ahLkVI1R2
r9yzWz7CHGbbJ+C6beAFP8hGyApZd94F8Yj8u+1LkX3xjHHc4w5JwJkMJVtlLX+ZTFbNbnLOeO5joZ8U9KEZXUlb+vZtGtRt7UzltVOVr6Z1
de3rtu/HsdBYlhmEwbfCVMsSf/vADLIXDsIS0kJquBwOMd8l7r1bcfn2gdtgCCkhLVy75PBjtBDJd028YhjTuDryxzcDkZFcJyllK7cZttww
aSbX/ObWST3550E30Y5yUl7KdlpUnspVN9Z3z9a7/nXbAcOy3UN2s1sH0LLjGG18LYvD3QTHPfeELIbv7pB61y9PzOIY10buGMhFrpJ8smBe
yd66LovJM7PJxkk77xnQLZSK8tGUsm1dpvT0qNsRqG6rZd223ZpXNtjtA2I5jtKSfduc3ftA2j3AA26BFaSD6e51o3CGA22LEKEiSGWKkil3
rZElgoCBgEmIbd5dB7tAQCwNBNzRNkBbYtu1D7mXJEZxXeTjoIxvzCMr5CMvycBL5Sx7eUw2jV6b5XyJd26fDLShXHQjNai0pj/dUqdKV8+6
ubIXUditXrHbXlj2s0HCh5dttzTwgqxcRrjCddkNg3jEf1dFvnhG4rg+ckgCJpMbJaus5Sviyy2TanaTc26evHF+FvSh2yglbelNNxQ0U6v6
1b0YaqWufWUb921FHLstMssWw+C3WHgBJDGBVKgRQJAukGAqSiqFDqE8orX1go9TnHrssxupRjRhRQ5uv3FJgob16Uw6uJXpB3ZwvdsYn+yS
ASDmQevVBCcmRX1TXlc1ydcgBFQn6FplgKH46gsjj8YIun33oo0hB6GJszBy14BHsh6fcRwVpNiAGUmlh3FOhkAtad4FeCBkhEchxrhDjcbU
yAyonWvHH5EPgohZjjWIBoh0XUJ0SBG3xK1JM9BZ88vGNXIJT4AgzsnhGH18tdy3jK5g9FA3vjRAkClQYbkb85aWdsMI37+FurYzlbjuQMPF
mPfiMJZRsXJy2mgogTLsoSweIa+OiIpfFBIwHJRX2qYpBPbyfmikacCrqzO4bJplHLwzwXNXoaBYrfBrTguQrQzBZBLwK4LtamiUSEEC4dAl
SGPsRCJRR0waFrhi+rLJzS1lDyYMu2FSLjknlABNVEQOCU2bA7R5arSiVkateVd7MKp2ZZ5Dmqvr4Frhenfs1UrHKhcakyPumw==`,
};

/**
 * A zstd frame like those of kernels: compressed as a stream, so that it does not contain its size, with a window of
 * 128 MiB. Each of its blocks is one repeated byte, 128 KiB long after decompression.
 */
export function zstdOfBlocks(bytes: readonly number[]): Uint8Array {
  const windowOf128MiB = (27 - 10) << 3;
  const block = (byte: number, i: number): number[] => {
    const header = (ZSTD_BLOCK << 3) | (1 << 1) | (i === bytes.length - 1 ? 1 : 0);
    return [header & 255, (header >> 8) & 255, header >> 16, byte];
  };
  return Uint8Array.from([0x28, 0xb5, 0x2f, 0xfd, 0, windowOf128MiB, ...bytes.flatMap(block)]);
}
export const ZSTD_BLOCK = 131_072;

/** A bzImage of boot protocol 2.15 with this payload; if `size` is given, it is appended. */
export function bzImage(payload: Uint8Array, size?: number, version = 0x20f): Uint8Array {
  const sectors = 3;
  const start = (sectors + 1) * 512;
  const tail = size === undefined ? 0 : 4;
  const out = new Uint8Array(start + 16 + payload.length + tail);
  const view = new DataView(out.buffer);
  out[0x1f1] = sectors;
  view.setUint32(0x202, 0x53726448, true);
  view.setUint16(0x206, version, true);
  view.setUint32(0x248, 16, true);
  view.setUint32(0x24c, payload.length + tail, true);
  out.set(payload, start + 16);
  if (size !== undefined) view.setUint32(start + 16 + payload.length, size, true);
  return out;
}
