/**
 * x86 instructions decoded and encoded by iced-x86 (icedland), as WebAssembly. The package's only build is one for Node;
 * scripts/build.mjs makes of it a module that needs nothing of Node, so that the core runs in a browser, too.
 */
export * from './generated/iced.js';
