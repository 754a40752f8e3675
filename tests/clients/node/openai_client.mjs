// The `openai` package for Node as a caller: OpenAIRealtimeWS, which speaks TLS and nothing else.

import OpenAI from 'openai';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';

import { main, Microphone, pause, spoken, userSays } from './talking.mjs';

// Without a voice: an answer in text, one out of band, one that is cancelled.
async function write(realtime, record) {
  realtime.send({ type: 'conversation.item.create', item: userSays('What is the capital of France?') });
  realtime.send({ type: 'response.create', response: { output_modalities: ['text'] } });
  await record.until('response.done');
  realtime.send({
    type: 'response.create',
    response: {
      conversation: 'none',
      metadata: { topic: 'aside' },
      output_modalities: ['text'],
      input: [userSays('Please tell me a short rhyme.')],
    },
  });
  await record.until('response.done', { count: 2 });
  realtime.send({ type: 'conversation.item.create', item: userSays('Please tell me a story.') });
  realtime.send({ type: 'response.create' });
  await record.until('response.output_audio.delta');
  await pause(1000);
  realtime.send({ type: 'response.cancel' });
  await record.until('response.done', { count: 3 });
}

await main(async (order, name, record) => {
  const facts = Object.assign(record.facts, { heard: 0, errors: [] });
  const client = new OpenAI({ apiKey: order.key, baseURL: order.base });
  const realtime = await OpenAIRealtimeWS.create(client, { model: 'ada' });
  realtime.on('error', (error) => {
    facts.errors.push(String(error));
    record.fail(error);
  });
  realtime.on('event', (event) => record.add(event));
  realtime.on('response.output_audio.delta', (event) => (facts.heard += Buffer.from(event.delta, 'base64').length));
  await record.until('session.created');
  let mic;
  try {
    if (name === 'write') {
      await write(realtime, record);
    } else {
      const append = (pcm) => realtime.send({ type: 'input_audio_buffer.append', audio: pcm.toString('base64') });
      mic = new Microphone(append, order.sounds);
      await spoken[name](record, mic);
    }
  } finally {
    mic?.stop();
    realtime.close();
  }
});
