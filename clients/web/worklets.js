// The two audio worklets: `capture` (microphone in, 24 kHz int16 chunks and levels out) and `player` (24 kHz int16 in,
// sound out, with the position that was really played). Both report their level every 20 ms with the context's time, so
// that what the page measures between them is exact to a block.

const WIRE_RATE = 24000;
const BLOCK_S = 0.02;
const LONGEST_S = 0.2; // that the player waits before it begins

/** Streaming windowed-sinc resampler. `push` takes and gives Float32Array; delay is `half` input samples. */
class Resampler {
  constructor(from, to) {
    const cutoff = Math.min(1, to / from) * 0.94;
    this.step = from / to;
    this.half = Math.ceil(12 / cutoff);
    this.phases = 128;
    this.table = [];
    for (let phase = 0; phase <= this.phases; phase++) {
      const row = new Float32Array(2 * this.half);
      for (let tap = 0; tap < row.length; tap++) {
        const x = tap - this.half + 1 - phase / this.phases;
        const sinc = x === 0 ? 1 : Math.sin(Math.PI * cutoff * x) / (Math.PI * cutoff * x);
        const window = Math.abs(x) >= this.half ? 0 : 0.5 + 0.5 * Math.cos((Math.PI * x) / this.half);
        row[tap] = cutoff * sinc * window;
      }
      this.table.push(row);
    }
    this.reset();
  }

  reset() {
    this.rest = new Float32Array(this.half - 1);
    this.at = this.half - 1;
  }

  push(samples) {
    if (this.step === 1) return samples;
    const input = new Float32Array(this.rest.length + samples.length);
    input.set(this.rest);
    input.set(samples, this.rest.length);
    const count = Math.max(0, Math.ceil((input.length - this.half - this.at) / this.step));
    const output = new Float32Array(count);
    for (let n = 0; n < count; n++) {
      const position = this.at + n * this.step;
      const whole = Math.floor(position);
      const row = this.table[Math.round((position - whole) * this.phases)];
      const start = whole - this.half + 1;
      let sum = 0;
      for (let tap = 0; tap < row.length; tap++) sum += input[start + tap] * row[tap];
      output[n] = sum;
    }
    const next = this.at + count * this.step;
    const keep = Math.max(0, Math.floor(next) - this.half + 1);
    this.rest = input.slice(keep);
    this.at = next - keep;
    return output;
  }
}

/** Root mean square of a signal, reported once a block. */
class Level {
  constructor(report) {
    this.report = report;
    this.size = Math.round(BLOCK_S * sampleRate);
    this.sum = 0;
    this.count = 0;
  }

  push(samples, length) {
    if (samples) for (let n = 0; n < length; n++) this.sum += samples[n] * samples[n];
    this.count += length;
    if (this.count < this.size) return;
    this.report(Math.sqrt(this.sum / this.count), currentTime + length / sampleRate);
    this.sum = 0;
    this.count = 0;
  }
}

/**
 * Messages in: {send: boolean}, {over: true} (it is not needed any more).
 * Messages out: {level, at} and, while `{send: true}`, {pcm: ArrayBuffer} of 20 ms.
 */
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.level = new Level((level, at) => this.port.postMessage({ level, at }));
    this.resampler = new Resampler(sampleRate, WIRE_RATE);
    this.chunk = new Int16Array(WIRE_RATE * BLOCK_S);
    this.filled = 0;
    this.sending = false;
    this.over = false;
    this.port.onmessage = ({ data }) => {
      this.sending = data.send ?? false;
      this.over = data.over ?? false;
    };
  }

  process([input]) {
    const samples = input[0];
    this.level.push(samples, samples ? samples.length : 128);
    if (this.sending) for (const sample of this.resampler.push(samples ?? new Float32Array(128))) this.add(sample);
    return !this.over;
  }

  add(sample) {
    this.chunk[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(sample * 32767)));
    if (this.filled < this.chunk.length) return;
    const pcm = this.chunk.slice().buffer;
    this.port.postMessage({ pcm }, [pcm]);
    this.filled = 0;
  }
}

/**
 * Messages in: {item, pcm: ArrayBuffer}, {end: true} (no more is coming for now), {flush: true}.
 * Messages out, every 20 ms: {level, at, item, played, queued}: `played` ms of `item`, `queued` ms waiting.
 */
class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.level = new Level((level, at) => this.tell(level, at));
    this.resampler = new Resampler(WIRE_RATE, sampleRate);
    this.queue = []; // {item, samples}
    this.offset = 0; // into the first of the queue
    this.queued = 0; // samples
    this.item = null;
    this.played = 0; // samples of `item`
    this.waiting = true; // for enough to begin
    this.target = 0.06; // seconds to have before beginning; grows with every gap
    this.gain = 1;
    this.fading = false; // to be dropped
    this.ended = false; // no more is coming: running out is no gap
    this.port.onmessage = ({ data }) => this.take(data);
  }

  take({ item, pcm, end, flush }) {
    if (flush) {
      if (this.waiting || !this.gain) this.drop(); // silent: there is nothing to fade
      else this.fading = true;
    } else if (end) {
      this.ended = true;
      this.waiting = !this.queue.length;
    } else {
      if (this.fading) this.drop();
      this.ended = false;
      const samples = this.resampler.push(Float32Array.from(new Int16Array(pcm), (value) => value / 32768));
      this.queue.push({ item, samples });
      this.queued += samples.length;
      if (this.queued >= this.target * sampleRate) this.waiting = false;
    }
  }

  process(_, [[output]]) {
    for (let n = 0; n < output.length; n++) output[n] = this.next();
    this.level.push(output, output.length);
    return true;
  }

  next() {
    if (this.waiting) return 0;
    const first = this.queue[0];
    if (first.item !== this.item) {
      this.item = first.item;
      this.played = 0;
    }
    const sample = first.samples[this.offset++] ?? 0;
    this.played++;
    this.queued--;
    if (this.offset >= first.samples.length) this.shift();
    return this.faded(sample);
  }

  shift() {
    this.queue.shift();
    this.offset = 0;
    if (this.queue.length) return;
    this.queued = 0;
    this.waiting = true;
    if (!this.ended && !this.fading) this.target = Math.min(LONGEST_S, this.target * 1.5);
  }

  /** Forgets what was not played. */
  drop() {
    this.queue = [];
    this.offset = this.queued = this.gain = 0;
    this.waiting = true;
    this.fading = false;
    this.resampler.reset();
  }

  faded(sample) {
    if (!this.fading) {
      this.gain = Math.min(1, this.gain + 1 / 128);
      return sample * this.gain;
    }
    this.gain -= 1 / 128; // a cut without a click
    if (this.gain > 0) return sample * this.gain;
    this.drop();
    return 0;
  }

  tell(level, at) {
    const ms = 1000 / sampleRate;
    const played = Math.round(this.played * ms);
    this.port.postMessage({ level, at, item: this.item, played, queued: Math.round(this.queued * ms) });
  }
}

registerProcessor('capture', Capture);
registerProcessor('player', Player);
