// Plays a script to the `player` of worklets.js, block by block, in no browser: node player.mjs RATE '[...]'.
// Steps: {"item", "ms"} is a chunk of a steady level, {"play": ms} lets that much time pass; {"end"} and {"flush"} are the player's own.
// Reports for each "play": {sound (ms that were not silent), item, played, queued} (as the player told last).

import fs from 'node:fs';
import vm from 'node:vm';

const WIRE_RATE = 24000;
const LEVEL = 8000; // of 32768
const BLOCK = 128;

const [rate, script] = process.argv.slice(2);
const sampleRate = Number(rate);
const told = [];
const classes = {};
class AudioWorkletProcessor {
  port = { postMessage: (message) => told.push(message) };
}
const world = { sampleRate, currentTime: 0, AudioWorkletProcessor, registerProcessor: (name, type) => (classes[name] = type) };
const source = new URL('../../../clients/web/worklets.js', import.meta.url);
vm.runInNewContext(fs.readFileSync(source, 'utf8'), world);
const player = new classes.player();

function play(ms) {
  const heard = [];
  for (const last = world.currentTime + ms / 1000; world.currentTime < last - 1e-9; world.currentTime += BLOCK / sampleRate) {
    const block = new Float32Array(BLOCK);
    player.process([], [[block]]);
    heard.push(...block);
  }
  const loud = heard.filter((sample) => Math.abs(sample) > 0.01).length;
  const { item, played, queued } = told.at(-1) ?? {};
  return { sound: Math.round((1000 * loud) / sampleRate), item, played, queued };
}

const heard = [];
for (const step of JSON.parse(script)) {
  if (step.play) {
    heard.push(play(step.play));
  } else if (step.item) {
    const pcm = new Int16Array((WIRE_RATE * step.ms) / 1000).fill(LEVEL).buffer;
    player.port.onmessage({ data: { item: step.item, pcm } });
  } else {
    player.port.onmessage({ data: step });
  }
}
process.stdout.write(JSON.stringify(heard));
