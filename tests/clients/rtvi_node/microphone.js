// In the page: a microphone that says what the test wants, in place of the machine's. Everything else is the browser's.

export class Microphone {
  #context = new AudioContext({ sampleRate: 24000 });
  #out = this.#context.createMediaStreamDestination();

  constructor(sounds) {
    this.sounds = sounds; // name -> base64 of 24 kHz mono int16
    const silence = new ConstantSourceNode(this.#context, { offset: 0 });
    silence.connect(this.#out);
    silence.start();
    navigator.mediaDevices.getUserMedia = async () => this.#out.stream.clone();
  }

  // Returns when the sound is over.
  async say(name) {
    const bytes = Uint8Array.from(atob(this.sounds[name]), (char) => char.charCodeAt(0));
    const pcm = new Int16Array(bytes.buffer);
    const buffer = this.#context.createBuffer(1, pcm.length, 24000);
    buffer.getChannelData(0).set(Float32Array.from(pcm, (sample) => sample / 32768));
    const source = new AudioBufferSourceNode(this.#context, { buffer });
    source.connect(this.#out);
    await this.#context.resume();
    source.start();
    await new Promise((done) => (source.onended = done));
  }
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Everything that happened, in order, with the page's clock.
export class Record {
  events = [];
  facts = {};
  #looks = new Set();

  add(type, data) {
    this.events.push({ type, at: performance.now(), data: data === undefined ? null : JSON.parse(JSON.stringify(data)) });
    for (const look of this.#looks) look();
  }

  // Event number `count` of a type that came after event number `after`.
  until(type, { count = 1, after = 0 } = {}) {
    return new Promise((resolve) => {
      const look = () => {
        const found = this.events.slice(after).filter((event) => event.type === type);
        if (found.length < count) return;
        this.#looks.delete(look);
        resolve(found[count - 1]);
      };
      this.#looks.add(look);
      look();
    });
  }
}

// The loudness of what an analyser hears, every 20 ms, as [milliseconds, RMS].
export function levels(record, analyser) {
  const wave = new Float32Array(analyser().fftSize);
  record.facts.levels = [];
  return setInterval(() => {
    analyser().getFloatTimeDomainData(wave);
    const recent = wave.subarray(-480);
    const power = recent.reduce((sum, sample) => sum + sample * sample, 0) / recent.length;
    record.facts.levels.push([performance.now(), Math.sqrt(power)]);
  }, 20);
}
