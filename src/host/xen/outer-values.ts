/** The outer values of the helper's domain, read from its home in the xenstore of dom0 with a domU's rights. */
import type { XenstoreClient } from '../../xenstore/client.js';
import type { OuterDevice } from '../host.js';

export interface OuterValues {
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  readonly storePort: number;
  readonly storeFrame: number;
  readonly consolePort: number;
  readonly consoleFrame: number;
  readonly devices: readonly OuterDevice[];
}

const KINDS = ['vbd', 'vif'];
/** Nodes of a front end that belong to its host: the rings, their events, the other end, the state; and the address. */
const OF_HOST =
  /^(mac|backend(-id)?|state|ring-ref\d*|ring-page-order|(tx|rx)-ring-ref|event-channel(-[tr]x)?|queue-\d+)$/;
/** A domain of a hostile host may be shown any number of devices, nodes and bytes. */
const MAX_DEVICES = 64;
const MAX_NODES = 64;
const MAX_VALUE = 256;
/** A domain that is moved again and again is read as it is found. */
const MAX_READINGS = 8;

export class OuterReader {
  constructor(private readonly xs: XenstoreClient) {}

  /** A node, by its path below the home or from the root; "" if there is none or it may not be read. */
  async text(path: string): Promise<string> {
    try {
      return (await this.xs.read(path)).slice(0, MAX_VALUE);
    } catch (error) {
      if (this.missing(error)) return '';
      throw error;
    }
  }

  async number(path: string): Promise<number> {
    const text = await this.text(path);
    return /^\d{1,15}$/.test(text) ? Number(text) : 0;
  }

  async names(path: string): Promise<string[]> {
    try {
      return await this.xs.list(path);
    } catch (error) {
      if (this.missing(error)) return [];
      throw error;
    }
  }

  private missing(error: unknown): boolean {
    const { code } = error as { code?: string };
    return code === 'ENOENT' || code === 'EACCES';
  }

  /** The values of one place: if the domain is moved while they are read, they are read again there. */
  async all(): Promise<OuterValues> {
    for (let left = MAX_READINGS; ; left--) {
      const values = await this.once();
      if (left === 0 || (await this.number('domid')) === values.domid) return values;
    }
  }

  private async once(): Promise<OuterValues> {
    const domid = await this.number('domid');
    const vm = await this.text('vm');
    const [name, uuid, storePort, storeFrame, consolePort, consoleFrame, devices] = await Promise.all([
      this.text('name'),
      vm === '' ? '' : this.text(`${vm}/uuid`),
      this.number('store/port'),
      this.number('store/ring-ref'),
      this.number('console/port'),
      this.number('console/ring-ref'),
      this.devices(),
    ]);
    const known = uuid === '' ? vm.replace(/^\/vm\//, '') : uuid;
    return { domid, name, uuid: known, storePort, storeFrame, consolePort, consoleFrame, devices };
  }

  async devices(): Promise<OuterDevice[]> {
    const found: OuterDevice[] = [];
    for (const kind of KINDS)
      for (const id of await this.names(`device/${kind}`))
        if (/^\d{1,10}$/.test(id) && found.length < MAX_DEVICES)
          found.push({ kind, devid: Number(id), nodes: await this.front(`device/${kind}/${id}`) });
    return found;
  }

  private async front(path: string): Promise<Record<string, string>> {
    const nodes: Record<string, string> = {};
    for (const name of (await this.names(path)).filter((name) => OF_HOST.test(name))) {
      if (Object.keys(nodes).length >= MAX_NODES) break;
      if (!name.startsWith('queue-')) nodes[name] = await this.text(`${path}/${name}`);
      else
        for (const inner of (await this.names(`${path}/${name}`)).filter((inner) => OF_HOST.test(inner)))
          nodes[`${name}/${inner}`] = await this.text(`${path}/${name}/${inner}`);
    }
    const { backend = '' } = nodes;
    if (backend.startsWith('/')) nodes['backend-state'] = await this.text(`${backend}/state`);
    return nodes;
  }
}
