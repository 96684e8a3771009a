/** The operations on nodes that a client of any xenstored has, on the store itself or inside a transaction. */
import {
  XS_DIRECTORY,
  XS_DIRECTORY_PART,
  XS_GET_PERMS,
  XS_MKDIR,
  XS_READ,
  XS_RM,
  XS_SET_PERMS,
  XS_WRITE,
} from '../xen/xs-wire.js';
import { XenstoreError } from './core/errno.js';
import { bytesFromOctets, octetsFromBytes, octetsFromText, textFromOctets } from './core/octets.js';

export type Value = string | Uint8Array;

/** Texts as the payload of a request: UTF-8, each followed by a NUL. */
export const strings = (...parts: readonly string[]): string =>
  parts.map((p) => `${octetsFromText(p)}\0`).join('');
/** Splits a payload into its NUL-terminated strings. */
export const split = (list: string): string[] => list.split('\0').slice(0, -1);
const octets = (value: Value): string =>
  typeof value === 'string' ? octetsFromText(value) : octetsFromBytes(value, 0, value.length);

/** Sends one request and resolves with the reply's payload as an octet string. `what` is used in error messages. */
export type Ask = (type: number, body: string, what: string) => Promise<string>;

/** The operations on nodes, on the store itself or as a transaction sees it. */
export class XenstoreView {
  constructor(protected readonly ask: Ask) {}

  /** Reads the value as text. Rejects with ENOENT, EACCES or EINVAL. */
  async read(path: string): Promise<string> {
    return textFromOctets(await this.ask(XS_READ, strings(path), `read ${path}`));
  }

  async readBytes(path: string): Promise<Uint8Array> {
    return bytesFromOctets(await this.ask(XS_READ, strings(path), `read ${path}`));
  }

  /** Whether the node exists and may be read. */
  async exists(path: string): Promise<boolean> {
    try {
      await this.ask(XS_READ, strings(path), `read ${path}`);
      return true;
    } catch (error) {
      if (error instanceof XenstoreError && (error.code === 'ENOENT' || error.code === 'EACCES'))
        return false;
      throw error;
    }
  }

  /** Writes the node. It creates the node and missing nodes above it. */
  async write(path: string, value: Value): Promise<void> {
    await this.ask(XS_WRITE, strings(path) + octets(value), `write ${path}`);
  }

  async mkdir(path: string): Promise<void> {
    await this.ask(XS_MKDIR, strings(path), `mkdir ${path}`);
  }

  /**
   * Removes the node and all nodes below it. It is not an error if the node does not exist, but a missing parent
   * gives ENOENT.
   */
  async remove(path: string): Promise<void> {
    await this.ask(XS_RM, strings(path), `remove ${path}`);
  }

  /** The names of the children, oldest first, even if they do not fit into one reply. */
  async list(path: string): Promise<string[]> {
    try {
      return split(await this.ask(XS_DIRECTORY, strings(path), `list ${path}`));
    } catch (error) {
      if (!(error instanceof XenstoreError) || error.code !== 'E2BIG') throw error;
      return this.listInParts(path);
    }
  }

  /** The permissions as "n0", "r5", "b3", "w7". The owner's entry is first. */
  async getPermissions(path: string): Promise<string[]> {
    return split(await this.ask(XS_GET_PERMS, strings(path), `get permissions ${path}`));
  }

  async setPermissions(path: string, permissions: readonly string[]): Promise<void> {
    await this.ask(XS_SET_PERMS, strings(path, ...permissions), `set permissions ${path}`);
  }

  /** Lists more names than fit into one reply: part by part, and from the start again if the node changes meanwhile. */
  private async listInParts(path: string): Promise<string[]> {
    for (let list = '', generation = ''; ; ) {
      const part = await this.ask(
        XS_DIRECTORY_PART,
        strings(path, String(octetsFromText(list).length)),
        `list ${path}`,
      );
      const end = part.indexOf('\0');
      const now = part.slice(0, end);
      if (list !== '' && now !== generation) {
        list = '';
        continue;
      }
      generation = now;
      list += part.slice(end + 1);
      // The last name is followed by an empty one.
      if (list.endsWith('\0\0')) return split(list.slice(0, -1));
      if (list === '\0') return [];
    }
  }
}
