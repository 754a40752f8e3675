// In the page: Pipecat's JavaScript client holds one conversation. `hold` is called by browser_client.mjs.

import { PipecatClient, RTVIEvent } from '@pipecat-ai/client-js';
import { SmallWebRTCTransport, WavMediaManager as WebRTCMedia } from '@pipecat-ai/small-webrtc-transport';
import { WavMediaManager, WebSocketTransport } from '@pipecat-ai/websocket-transport';

import { Microphone, Record, levels, pause } from './microphone.js';

const WEATHER = {
  type: 'function',
  name: 'get_weather',
  description: 'The weather in a city.',
  parameters: { type: 'object', properties: { city: { type: 'string' } } },
};

const conversations = {
  // One spoken question, one spoken answer.
  async ask(client, record, mic) {
    await mic.say('question');
    await record.until('botStoppedSpeaking');
  },
  // Speak over a long story, asked for in writing; ask something else.
  async barge_in(client, record, mic) {
    await client.sendText('Please tell me a long story.');
    await record.until('botStartedSpeaking');
    await pause(2500);
    record.add('interrupting');
    await mic.say('interruption');
    await record.until('botStartedSpeaking', { count: 2 });
    await record.until('botStoppedSpeaking', { count: 2 });
  },
  // Cough, grunt and agree while a short rhyme is told, which is asked for in writing.
  async backchannel(client, record, mic) {
    await client.sendText('Please tell me a short rhyme.');
    await record.until('botStartedSpeaking');
    for (const sound of ['cough', 'grunt', 'yeah']) {
      await pause(1200);
      await mic.say(sound);
    }
    await record.until('botStoppedSpeaking');
  },
  // Ask what only the client's own function knows.
  async tool(client, record, mic) {
    client.registerFunctionCallHandler('get_weather', async ({ arguments: args }) => {
      record.facts.called = args;
      return { weather: 'sunny' };
    });
    await mic.say('weather');
    await record.until('botStoppedSpeaking');
  },
  // Type; be answered aloud, in writing, and not at all.
  async write(client, record) {
    await client.sendText('Please tell me a long story.');
    await record.until('botStartedSpeaking');
    await pause(1000);
    await client.sendText('What is the capital of France?', { audio_response: false });
    await record.until('botLlmStopped', { count: 2 });
    await client.sendText('Remember the capital.', { run_immediately: false });
    record.facts.pong = await client.sendClientRequest('ping', { still: 'there' });
  },
  // Connect anew in the middle, as the client does when its connection fails.
  async anew(client, record, mic, transport) {
    await mic.say('question');
    await record.until('botStoppedSpeaking');
    await transport.attemptReconnection(true);
    await pause(1500);
    record.listen(transport.pc.getReceivers()[0].track); // of which the client says nothing
    await client.sendText('What is the capital of France?'); // this client stops its microphone with the old connection
    await record.until('botStoppedSpeaking', { count: 2 });
  },
  // The client's own messages, good and bad; then it sends the agent away.
  async messages(client, record) {
    record.facts.updated = await client.sendClientRequest('session.update', { instructions: 'Be brief.' });
    const reason = (refused) => refused.data?.error;
    record.facts.unknown = await client.sendClientRequest('nonsense', {}).then(() => 'answered', reason);
    record.facts.wrong = await client.sendClientRequest('session.update', { tools: 7 }).then(() => 'answered', reason);
    client.sendDTMF('1');
    await record.until('messageError', { count: 3 });
    client.disconnectBot();
    await record.until('disconnected');
  },
};

const transports = {
  // The sizes are those of Pipecat's default recorder: 512 bytes at a time, 16 kHz.
  websocket: () => {
    const mediaManager = new WavMediaManager(512, 16000);
    return { transport: new WebSocketTransport({ mediaManager }), analyser: () => mediaManager._wavStreamPlayer.analyser };
  },
  webrtc: (record) => {
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 2048 });
    record.listen = (track) => {
      const stream = new MediaStream([track]);
      const audio = new Audio();
      audio.srcObject = stream;
      audio.play();
      context.createMediaStreamSource(stream).connect(analyser);
    };
    return { transport: new SmallWebRTCTransport({ mediaManager: new WebRTCMedia() }), analyser: () => analyser };
  },
};

window.hold = async (name, { endpoint, key, sounds, transport: kind }) => {
  const record = (window.record = new Record());
  const mic = new Microphone(sounds);
  const { transport, analyser } = transports[kind](record);
  const client = new PipecatClient({ transport, enableMic: true, enableCam: false });
  for (const event of Object.values(RTVIEvent)) client.on(event, (data) => record.add(event, safe(event, data)));
  if (record.listen) client.on(RTVIEvent.TrackStarted, (track, who) => who?.local || record.listen(track));
  record.facts.ready = await client.startBotAndConnect({
    endpoint,
    headers: new Headers({ Authorization: `Bearer ${key}` }),
    requestData: { transport: kind, session: { type: 'realtime', tools: [WEATHER] } },
  });
  const measuring = levels(record, analyser);
  await conversations[name](client, record, mic, transport);
  await pause(300);
  clearInterval(measuring);
  await client.disconnect();
};

// Tracks and devices are no data.
const safe = (event, data) => (/track|device|mic|cam|speaker(Updated)?$/i.test(event) ? null : data);
