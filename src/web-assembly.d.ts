/* What is used of WebAssembly, for all of the product: neither the language's declarations nor Node's have it. */

declare namespace WebAssembly {
  // biome-ignore lint/complexity/noBannedTypes: any function that numbers go in and out of
  type ImportValue = Function | Global | Memory | Table | number;
  type ModuleImports = Record<string, ImportValue>;
  type Imports = Record<string, ModuleImports>;
  type Exports = Record<string, Exclude<ImportValue, number>>;

  class Module {
    constructor(bytes: Uint8Array<ArrayBuffer>);
    private readonly module: never;
  }
  class Instance {
    constructor(module: Module, imports?: Imports);
    readonly exports: Exports;
  }
  class Memory {
    /** In pages of 64 KiB. */
    constructor(size: { initial: number; maximum?: number; shared?: boolean });
    readonly buffer: ArrayBuffer;
    grow(pages: number): number;
  }
  class Table {
    constructor(size: { element: 'anyfunc'; initial: number; maximum?: number });
    readonly length: number;
    get(index: number): unknown;
    set(index: number, value?: unknown): void;
    grow(by: number): number;
  }
  class Global {
    /** Of the type i32, as the core's all are. */
    value: number;
    private constructor();
  }
  function compile(bytes: Uint8Array<ArrayBuffer>): Promise<Module>;
  function instantiate(module: Module, imports?: Imports): Promise<Instance>;
}
