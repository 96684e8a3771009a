// node scripts/docs.mjs: writes the pages of docs/ that are made from the source. Needs dist/ (npm run build).
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { STREAM_LIMITS, STREAM_PARTS } from '../dist/control/stream-contents.js';
import { POINT_DESCRIPTIONS } from '../dist/helper/points/all.js';
import { ROWS, rowsOf } from '../dist/helper/points/rows.js';
import { migrationPointsDoc, streamDoc } from './lib/docs.mjs';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
writeFileSync('docs/migration-points.md', migrationPointsDoc(POINT_DESCRIPTIONS, ROWS, rowsOf));
writeFileSync('docs/stream.md', streamDoc(STREAM_PARTS, STREAM_LIMITS));
