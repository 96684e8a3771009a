// What every MMX instruction except EMMS does to the x87 state: TOP becomes 0 and all registers become valid. A
// register that is written gets an exponent of all ones. SDM volume 1, 9.5.
import { FSW, FTW } from './state';

export function enterMmx(cpu: usize): void {
  store<u16>(cpu + FSW, load<u16>(cpu + FSW) & 0xc7ff);
  store<u8>(cpu + FTW, 0xff);
}
