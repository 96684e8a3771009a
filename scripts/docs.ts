// npm run docs: writes those pages of docs/ that are made from the source.
import { writeFileSync } from 'node:fs';
import { POINT_DESCRIPTIONS } from '../src/helper/points/all.js';
import { ROWS, rowsOf } from '../src/helper/points/rows.js';
import { configurationDoc } from './lib/configuration-doc.js';
import { migrationPointsDoc, streamDoc } from './lib/docs.js';
import { protocolDoc } from './lib/protocol-doc.js';
import { ROOT } from './lib/root.js';
import { STREAM_LIMITS, STREAM_PARTS } from './lib/stream-contents.js';

process.chdir(ROOT);
writeFileSync('docs/configuration.md', configurationDoc());
writeFileSync('docs/migration-points.md', migrationPointsDoc(POINT_DESCRIPTIONS, ROWS, rowsOf));
writeFileSync('docs/protocol.md', protocolDoc());
writeFileSync('docs/stream.md', streamDoc(STREAM_PARTS, STREAM_LIMITS));
