// Microphone, speaker, and the two level meters of the page. One AudioContext for all of it, made in the user's click and
// kept until the end of the talk, so that a reconnection costs no permission and no gap.

import { Trouble } from './troubles.js';

const PROCESSING = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const RESUME_MS = 1000; // Firefox never starts a context where there is no loudspeaker; WebRTC and captions do without
const MONO = { numberOfInputs: 1, channelCount: 1, channelCountMode: 'explicit' };

export class Sound extends EventTarget {
  context = null;
  stream = null; // of the microphone
  playing = { item: null, played: 0, queued: 0 }; // what the player has really played, in ms
  muted = false;
  #element = document.createElement('audio'); // plays WebRTC's stream
  #sink = '';
  #remote = null;
  #source = null;

  /** Opens context and microphone (null: none, "": the default), in a user's gesture. False: closed meanwhile. Raises Trouble. */
  async open(deviceId) {
    if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) throw new Trouble('unsupported');
    const context = (this.context = new AudioContext({ latencyHint: 'interactive' }));
    try {
      await this.#begin(context, deviceId);
    } catch (error) {
      if (context !== this.context) return false;
      this.close();
      throw error;
    }
    return context === this.context;
  }

  async #begin(context, deviceId) {
    const resumed = context.resume().catch(() => {}); // it was closed
    await context.audioWorklet.addModule(new URL('worklets.js', import.meta.url));
    if (context !== this.context) return;
    this.capture = new AudioWorkletNode(context, 'capture', { ...MONO, numberOfOutputs: 0 });
    this.capture.port.onmessage = ({ data }) => this.#captured(data);
    this.player = new AudioWorkletNode(context, 'player', { numberOfInputs: 0, outputChannelCount: [1] });
    this.player.port.onmessage = ({ data }) => this.#played(data);
    this.player.connect(context.destination);
    if (deviceId !== null) await this.useMicrophone(deviceId);
    await Promise.race([resumed, new Promise((done) => setTimeout(done, RESUME_MS))]);
    await this.useSpeaker(this.#sink);
  }

  close() {
    release(this.stream);
    this.#element.srcObject = null;
    this.context?.close().catch(() => {}); // not waited for, for the same reason
    this.context = this.stream = null;
    this.playing = { item: null, played: 0, queued: 0 };
  }

  get track() {
    return this.stream?.getAudioTracks()[0] ?? null;
  }

  /** Uses this microphone from now on. Raises Trouble; then the old one goes on. Allowed after `close`, it is let go. */
  async useMicrophone(deviceId) {
    const { context } = this;
    const audio = deviceId ? { ...PROCESSING, deviceId: { exact: deviceId } } : PROCESSING;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      if (context !== this.context) return;
      if (error.name === 'OverconstrainedError' && deviceId) return this.useMicrophone(''); // it was unplugged
      throw Trouble.ofMicrophone(error);
    }
    if (context !== this.context) return release(stream);
    this.#source?.disconnect();
    release(this.stream);
    this.stream = stream;
    this.#source = this.context.createMediaStreamSource(stream);
    this.#source.connect(this.capture);
    this.track.enabled = !this.muted;
    this.track.onended = () => this.dispatchEvent(new CustomEvent('unplugged'));
    this.dispatchEvent(new CustomEvent('microphone', { detail: this.track }));
  }

  /** Plays on this output where the browser can choose; "" is its default. */
  async useSpeaker(deviceId) {
    this.#sink = deviceId;
    await this.#element.setSinkId?.(deviceId).catch(() => {});
    await this.context?.setSinkId?.(deviceId).catch(() => {});
  }

  mute(muted) {
    this.muted = muted;
    if (this.track) this.track.enabled = !muted; // silence goes on being sent: the server's clock is the audio
  }

  /** Whether 24 kHz chunks are wanted (a WebSocket's microphone), given as events "chunk". */
  send(wanted) {
    this.capture?.port.postMessage({ send: wanted });
  }

  // --- what is heard over a WebSocket -------------------------------------------------------------------------------

  play(item, pcm) {
    if (this.playing.queued) this.playing.queued += 1;
    else this.playing = { item, played: 0, queued: 1 };
    this.player.port.postMessage({ item, pcm }, [pcm]);
  }

  /** No more is coming for now: what is there is played without waiting for more. */
  endOfPlay() {
    this.player?.port.postMessage({ end: true });
  }

  /** Stops at once. Returns {item, played} when something was cut, null when nothing was left to play. */
  flush() {
    const { item, played, queued } = this.playing;
    this.player?.port.postMessage({ flush: true }); // always: `queued` may be out of date
    if (!queued) return null;
    this.playing = { item, played, queued: 0 };
    return { item, played };
  }

  // --- what is heard over WebRTC ------------------------------------------------------------------------------------

  /** Plays and measures a remote stream; null ends it. */
  hear(stream) {
    if (this.#remote) {
      const { source, meter } = this.#remote;
      source.disconnect();
      meter.port.onmessage = null; // silence would go on being reported, between the levels of what comes next
      meter.port.postMessage({ over: true });
      this.#remote = null;
    }
    this.#element.srcObject = stream;
    if (!stream) return;
    this.#element.play().catch(() => {});
    const meter = new AudioWorkletNode(this.context, 'capture', { ...MONO, numberOfOutputs: 0 });
    meter.port.onmessage = ({ data }) => this.#level('agent', data);
    const source = this.context.createMediaStreamSource(stream);
    source.connect(meter);
    this.#remote = { source, meter };
  }

  #captured(message) {
    if (message.pcm) this.dispatchEvent(new CustomEvent('chunk', { detail: message.pcm }));
    else this.#level('mic', message);
  }

  #played(message) {
    this.playing = { item: message.item, played: message.played, queued: message.queued };
    if (!this.#remote) this.#level('agent', message);
  }

  #level(who, { level, at }) {
    this.dispatchEvent(new CustomEvent('level', { detail: { who, level, at } }));
  }
}

function release(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}

/** Microphones and speakers as {id, label}; labels are empty until the microphone was allowed once. */
export async function devices() {
  const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  const of = (kind) =>
    all
      .filter((device) => device.kind === kind && device.deviceId && device.deviceId !== 'default')
      .map(({ deviceId, label }) => ({ id: deviceId, label }));
  return { microphones: of('audioinput'), speakers: of('audiooutput') };
}
