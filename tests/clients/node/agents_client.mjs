// `@openai/agents-realtime` as a caller: RealtimeSession over OpenAIRealtimeWebSocket with their default settings.
// The SDK truncates, retrieves, calls the tool and keeps the history by itself; this program only speaks and watches.

import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession, tool } from '@openai/agents-realtime';
import { z } from 'zod';

import { main, Microphone, pause, spoken, userSays } from './talking.mjs';

const weather = (facts) =>
  tool({
    name: 'get_weather',
    description: 'The weather in a city.',
    parameters: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      facts.called.push({ city });
      return 'It is sunny.';
    },
  });

// The messages the SDK remembers: role and words.
const history = (items) =>
  items
    .filter((item) => item.type === 'message')
    .map((item) => [item.role, item.content.map((part) => part.transcript ?? part.text ?? '').join(' ')]);

// Without a voice: an answer in text, one out of band, one that is cancelled.
async function write(session, record) {
  session.sendMessage('What is the capital of France?');
  await record.until('response.done');
  session.transport.requestResponse({
    conversation: 'none',
    metadata: { topic: 'aside' },
    input: [userSays('Please tell me a short rhyme.')],
  });
  await record.until('response.done', { count: 2 });
  session.transport.sendEvent({ type: 'conversation.item.create', item: userSays('Please tell me a story.') });
  session.transport.requestResponse({ output_modalities: ['audio'] });
  await record.until('response.output_audio.delta');
  await pause(1000);
  session.interrupt();
  await record.until('response.done', { count: 3 });
}

await main(async (order, name, record) => {
  const facts = Object.assign(record.facts, { heard: 0, called: [], interrupted: 0, errors: [], history: [] });
  const url = `${order.base.replace('http', 'ws')}/realtime?model=ada`;
  const agent = new RealtimeAgent({ name: 'Ada', instructions: 'You are Ada.', tools: [weather(facts)] });
  const session = new RealtimeSession(agent, {
    transport: new OpenAIRealtimeWebSocket({ url }),
    config: name === 'write' ? { outputModalities: ['text'] } : {},
    tracingDisabled: true,
  });
  session.on('transport_event', (event) => record.add(event));
  session.on('audio', (event) => (facts.heard += event.data.byteLength));
  session.on('audio_interrupted', () => (facts.interrupted += 1));
  session.on('error', (event) => facts.errors.push(String(event.error?.message ?? JSON.stringify(event.error))));
  session.on('history_updated', (items) => (facts.history = history(items)));
  await session.connect({ apiKey: order.key });
  await record.until('session.updated');
  let mic;
  try {
    if (name === 'write') {
      await write(session, record);
    } else {
      mic = new Microphone((pcm) => session.sendAudio(Uint8Array.from(pcm).buffer), order.sounds);
      await spoken[name](record, mic);
    }
  } finally {
    mic?.stop();
    session.close();
  }
});
