// Where each turn's time went: one row a turn, from the end of the user's voice to the agent's first sound in this page.
// Stages overlap, because a reply is begun before it is certain that the turn is over: so bars, not a stack.

const SHOWN = 7;
const STAGES = [
  { name: 'end of turn', key: 'end', from: 'speech_ended', to: 'committed' },
  { name: 'ASR', key: 'asr', from: 'speech_stopped', to: 'transcribed' },
  { name: 'LLM', key: 'llm', from: 'started', to: 'first_chunk' },
  { name: 'TTS', key: 'tts', from: 'first_chunk', to: 'first_audio' },
];

/**
 * The stages of a turn as {name, key, from, to} in ms after the voice ended; those with a mark missing are left out.
 * `roundTrip` of the network is halved for the way there; the way back ends at the first sound.
 */
export function stages({ marks, playout, roundTrip = 0 }) {
  const up = roundTrip / 2;
  const found = STAGES.filter(({ from, to }) => marks[from] !== undefined && marks[to] >= marks[from]);
  const bars = found.map(({ name, key, from, to }) => ({ name, key, from: up + marks[from], to: up + marks[to] }));
  const sent = marks.first_sent;
  if (playout === null || sent === undefined) return bars;
  return [...bars, { name: 'network and playout', key: 'net', from: up + sent, to: 2 * up + sent + playout }];
}

export class Waterfall {
  #body;
  #axis;
  #empty;
  #turns = [];

  constructor({ body, axis, empty }) {
    this.#body = body;
    this.#axis = axis;
    this.#empty = empty;
  }

  add(turn) {
    const bars = stages(turn);
    if (!bars.length) return;
    const total = turn.heard ?? turn.marks.first_sent ?? Math.max(...bars.map(({ to }) => to));
    this.#turns = [...this.#turns, { ...turn, bars, total }].slice(-SHOWN);
    this.#draw();
  }

  clear() {
    this.#turns = [];
    this.#draw();
  }

  #draw() {
    const longest = Math.max(500, ...this.#turns.map(({ total, bars }) => Math.max(total, ...bars.map(({ to }) => to))));
    const step = longest > 4000 ? 2000 : longest > 2000 ? 1000 : longest > 800 ? 500 : 250;
    const end = Math.ceil((longest * 1.02) / step) * step;
    this.#axis.replaceChildren(...this.#ticks(step, end));
    this.#body.replaceChildren(...this.#turns.map((turn) => this.#row(turn, end)));
    this.#empty.hidden = this.#turns.length > 0;
  }

  #ticks(step, end) {
    const ticks = [];
    for (let ms = 0; ms <= end; ms += step) {
      const tick = document.createElement('span');
      tick.textContent = ms === 0 ? '0' : ms >= 1000 ? `${ms / 1000} s` : `${ms}`;
      tick.style.left = `${(ms / end) * 100}%`;
      ticks.push(tick);
    }
    return ticks;
  }

  /** A line where the page heard the answer begin: by the microphone's level, not by the server's account. */
  #ear(heard, end) {
    if (heard === null) return [];
    const line = document.createElement('i');
    line.className = 'ear';
    line.style.left = `${(heard / end) * 100}%`;
    return [line];
  }

  #row({ turn, bars, total, heard }, end) {
    const row = document.createElement('tr');
    const name = document.createElement('th');
    name.scope = 'row';
    name.textContent = turn;
    const cell = document.createElement('td');
    const track = document.createElement('div');
    track.className = 'track';
    for (const { name: stage, key, from, to } of bars) {
      const bar = document.createElement('span');
      bar.className = `bar ${key}`;
      bar.style.left = `${(from / end) * 100}%`;
      bar.style.width = `${Math.max(0.6, ((to - from) / end) * 100)}%`;
      bar.title = `${stage}: ${Math.round(to - from)} ms`;
      track.append(bar);
    }
    track.append(...this.#ear(heard, end));
    track.setAttribute('aria-hidden', 'true');
    const words = document.createElement('span');
    words.className = 'unseen';
    words.textContent = bars.map(({ name: stage, from, to }) => `${stage} ${Math.round(to - from)} ms`).join(', ');
    cell.append(track, words);
    const sum = document.createElement('td');
    sum.className = 'sum';
    sum.textContent = `${Math.round(total)} ms`;
    sum.title = heard === null ? 'measured at the server' : 'measured in this page';
    row.append(name, cell, sum);
    return row;
  }
}
