// Voice-to-voice as the page hears it: the end of the user's voice at the microphone to the agent's first sound. Levels come
// with the audio context's time, so both ends are on one clock. The server's marks of the same turn are joined to it here:
// its account arrives with the first packet of the answer, so what lies between that and the sound is buffering and playing.

const BLOCK_S = 0.02;
const LEAST = 0.006; // root mean square below which nothing is voice (-44 dB)
const DROP = 0.03; // below the speaker's own level by more than this (30 dB), a sound is the room's
const AUDIBLE = 0.003;
const SILENT_S = 0.25; // of the agent before a sound of it is a beginning
const MATCH_S = 1.5; // between the server's account and the sound it is about

export class Latency extends EventTarget {
  #floor = LEAST / 4; // of the microphone's noise
  #own = 0; // level of this speaker's loud syllables
  #voiced = 0; // blocks in a row
  #voiceEnd = null;
  #agentEnd = -Infinity;
  #onsets = []; // {at, ms}
  #turns = []; // {at, event}

  /** A level of "mic" or "agent" at `at`, seconds. */
  level(who, level, at) {
    if (who === 'mic') this.#mic(level, at);
    else this.#agent(level, at);
  }

  /** The server's account of a turn, heard of at `at`. Event "turn" follows: the account with `heard` (ms, voice to voice; null:
   * not measured) and `playout` (ms from the first packet to the first sound). */
  turn(event, at) {
    this.#turns.push({ at, event });
    this.#join(at);
  }

  #mic(level, at) {
    const voice = level > Math.max(LEAST, 4 * this.#floor, DROP * this.#own);
    this.#own = Math.max(level, 0.9995 * this.#own);
    this.#floor = voice ? this.#floor * 1.002 : 0.95 * this.#floor + 0.05 * level;
    this.#voiced = voice ? this.#voiced + 1 : 0;
    if (this.#voiced >= 2) this.#voiceEnd = at;
    this.#join(at);
  }

  #agent(level, at) {
    if (level < AUDIBLE) return;
    const began = at - BLOCK_S;
    if (began - this.#agentEnd > SILENT_S && this.#voiceEnd !== null) {
      const ms = (began - this.#voiceEnd) * 1000;
      this.#onsets = [...this.#onsets.slice(-4), { at: began, ms }];
      this.#join(at);
    }
    this.#agentEnd = at;
  }

  #join(now) {
    while (this.#turns.length) {
      const { at, event } = this.#turns[0];
      const onset = this.#onsets.find((candidate) => Math.abs(candidate.at - at) < MATCH_S);
      if (!onset && now - at < MATCH_S) return;
      this.#turns.shift();
      this.#onsets = this.#onsets.filter((candidate) => candidate !== onset);
      const spoken = onset && onset.ms > 0 && event.marks.speech_ended !== undefined;
      const heard = spoken ? Math.round(onset.ms) : null;
      const playout = spoken ? Math.max(0, Math.round((onset.at - at) * 1000)) : null;
      this.dispatchEvent(new CustomEvent('turn', { detail: { ...event, heard, playout } }));
    }
  }
}
