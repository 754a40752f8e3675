// Feeds server events (JSON lines on stdin) to the parser of @openai/agents-realtime, which calls what it refuses
// "generic", and ignores it. Prints what is refused; exit status 1 then.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const main = createRequire(import.meta.url).resolve('@openai/agents-realtime');
const { parseRealtimeEvent, realtimeServerEventSchema } = await import(
  pathToFileURL(join(dirname(main), 'openaiRealtimeEvents.mjs'))
);

let refused = 0;
for (const line of readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
  if (parseRealtimeEvent({ data: line }).isGeneric) {
    refused += 1;
    console.log(line.slice(0, 2000), realtimeServerEventSchema.safeParse(JSON.parse(line)).error?.message);
  }
}
process.exitCode = refused ? 1 : 0;
