// In the page: OpenAI's Agents SDK holds one conversation over WebRTC. `hold` is called by browser_client.mjs.

import { OpenAIRealtimeWebRTC, RealtimeAgent, RealtimeSession } from '@openai/agents-realtime';

import { Microphone, Record, levels, pause } from './microphone.js';

const conversations = {
  // One spoken question, one spoken answer.
  async ask(record, mic) {
    await mic.say('question');
    await record.until('output_audio_buffer.stopped');
  },
  // Speak over a long story; ask something else.
  async barge_in(record, mic) {
    await mic.say('story');
    await record.until('output_audio_buffer.started');
    await pause(2500);
    record.add('interrupting');
    await mic.say('interruption');
    await record.until('output_audio_buffer.started', { count: 2 });
    await record.until('output_audio_buffer.stopped');
  },
};

window.hold = async (name, { url, key, sounds }) => {
  const record = (window.record = new Record());
  const mic = new Microphone(sounds);
  const audioElement = new Audio();
  const transport = new OpenAIRealtimeWebRTC({ audioElement });
  const session = new RealtimeSession(new RealtimeAgent({ name: 'Test', instructions: 'Be brief.' }), { transport });
  session.on('transport_event', (event) => record.add(event.type, event));
  session.on('error', (error) => record.add('sdk_error', String(error.error?.message ?? JSON.stringify(error.error))));
  await session.connect({ apiKey: key, url });
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 2048 });
  context.createMediaStreamSource(audioElement.srcObject).connect(analyser);
  const measuring = levels(record, () => analyser);
  await conversations[name](record, mic);
  await pause(300);
  clearInterval(measuring);
  record.facts.history = session.history.map((item) => [
    item.role,
    item.status,
    (item.content ?? []).map((part) => part.transcript ?? part.text ?? '').join(''),
  ]);
  session.close();
};
