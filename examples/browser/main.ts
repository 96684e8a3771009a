// npm run browser [-- PORT]: a Xen PV guest in a browser's tab, served on loopback.
import { serve } from './server.js';

const { url } = await serve(Number(process.argv[2] ?? 8080));
console.log(`stillpoint: open ${url} in a browser`);
