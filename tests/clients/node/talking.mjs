// What the Node client programs share: a microphone in real time, a record of what came, the report.

import { readFileSync, writeFileSync } from 'node:fs';

const FRAME_MS = 20;
const FRAME = FRAME_MS * 24 * 2; // bytes: 24 kHz mono int16

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Everything the server sent, in order, and the facts that the SDK made of it.
export class Record {
  events = [];
  facts = {};
  #waiting = new Set();
  #failure;

  add(event) {
    this.events.push(event);
    for (const look of this.#waiting) look();
  }

  // The conversation cannot go on.
  fail(error) {
    this.#failure ??= error;
    for (const look of this.#waiting) look();
  }

  // Event number `count` of a type (of responses: with this status).
  until(type, { count = 1, status } = {}) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = this.events.filter((event) => event.type === type && (!status || event.response.status === status));
        if (!this.#failure && found.length < count) return;
        this.#waiting.delete(look);
        if (this.#failure) reject(this.#failure);
        else resolve(found[count - 1]);
      };
      this.#waiting.add(look);
      look();
    });
  }
}

// 20 ms of sound every 20 ms: what is to be said, and silence in between.
export class Microphone {
  #pending = Buffer.alloc(0);
  #timer;

  constructor(send, sounds) {
    this.send = send;
    this.sounds = sounds;
    this.due = performance.now();
    this.#tick();
  }

  say(name) {
    this.#pending = Buffer.concat([this.#pending, readFileSync(this.sounds[name])]);
  }

  stop() {
    clearTimeout(this.#timer);
  }

  #tick() {
    const frame = Buffer.alloc(FRAME);
    this.#pending.copy(frame, 0, 0, FRAME);
    this.#pending = this.#pending.subarray(FRAME);
    this.send(frame);
    this.due += FRAME_MS;
    this.#timer = setTimeout(() => this.#tick(), Math.max(0, this.due - performance.now()));
  }
}

export const spoken = {
  // One spoken question, one spoken answer.
  async ask(record, mic) {
    mic.say('question');
    await record.until('conversation.item.input_audio_transcription.completed');
    await record.until('response.done');
  },
  // Speak over a long story; ask something else.
  async barge_in(record, mic) {
    mic.say('story');
    await record.until('response.output_audio.delta');
    await pause(2500);
    mic.say('interruption');
    await record.until('response.done', { status: 'cancelled' });
    await record.until('conversation.item.truncated');
    await record.until('conversation.item.retrieved');
    await record.until('response.done', { status: 'completed' });
  },
  // Cough, grunt and agree while a short rhyme is told.
  async backchannel(record, mic) {
    mic.say('rhyme');
    await record.until('response.output_audio.delta');
    for (const sound of ['cough', 'grunt', 'yeah']) {
      await pause(1200);
      mic.say(sound);
    }
    await record.until('response.done');
  },
  // Ask what only the client's own function knows.
  async tool(record, mic) {
    mic.say('weather');
    await record.until('response.done', { count: 2 });
  },
};

export const userSays = (text) => ({ type: 'message', role: 'user', content: [{ type: 'input_text', text }] });

// Hold the conversations of the order in argv, `at_once` of them side by side, and write the report.
export async function main(hold) {
  const order = JSON.parse(readFileSync(process.argv[2], 'utf8'));
  const report = {};
  const one = async (name) => {
    const record = new Record();
    let fault = null;
    const limit = setTimeout(() => record.fail(new Error('timed out')), order.limit_s * 1000);
    try {
      await hold(order, name, record);
    } catch (error) {
      fault = error.stack;
    }
    clearTimeout(limit);
    report[name] = { fault, events: record.events, facts: record.facts };
  };
  const waiting = [...order.conversations];
  const line = async () => {
    while (waiting.length) await one(waiting.shift());
  };
  await Promise.all(Array.from({ length: order.at_once }, line));
  writeFileSync(order.report, JSON.stringify(report));
}
