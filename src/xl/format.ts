/** Columns as xl's printf has them. */

export const left = (value: string | number, width: number): string => String(value).padEnd(width);
export const right = (value: string | number, width: number): string => String(value).padStart(width);
export const seconds = (value: number, width: number): string => right(value.toFixed(1), width);

/** `value` as libxl's JSON generator (yajl) prints it: indented by four blanks, an empty object on three lines. */
export function yajl(value: unknown, indent = ''): string {
  const deeper = `${indent}    `;
  if (Array.isArray(value)) {
    const items = value.map((one) => `${deeper}${yajl(one, deeper)}`);
    return `[\n${items.join(',\n')}\n${indent}]`;
  }
  if (typeof value === 'object' && value !== null) {
    const items = Object.entries(value)
      .filter(([, one]) => one !== undefined)
      .map(([name, one]) => `${deeper}${JSON.stringify(name)}: ${yajl(one, deeper)}`);
    return `{\n${items.join(',\n')}\n${indent}}`;
  }
  return JSON.stringify(value);
}

/** A time as `xl uptime` prints it; `short` leaves the seconds out. */
export function uptimeText(total: number, short: boolean): string {
  const whole = Math.floor(total);
  const two = (value: number): string => String(value).padStart(2, '0');
  const days = Math.floor(whole / 86_400);
  const time = `${right(Math.floor(whole / 3600) % 24, 2)}:${two(Math.floor(whole / 60) % 60)}${short ? '' : `:${two(whole % 60)}`}`;
  return days === 0 ? time : `${days} day${days === 1 ? '' : 's'}, ${time}`;
}

/** KiB of "512", "512m", "1g" and the like; undefined if it is no size. */
export function sizeKib(text: string): number | undefined {
  const found = /^\s*([+-]?\d{1,15})([bkmgt]?)$/i.exec(text);
  if (found === null) return undefined;
  const value = Number(found[1]);
  const unit = found[2].toLowerCase();
  if (unit === 'b') return Math.floor(value / 1024);
  return value * 1024 ** { k: 0, m: 1, '': 1, g: 2, t: 3 }[unit as 'k' | 'm' | '' | 'g' | 't'];
}
