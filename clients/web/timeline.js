// The conversation as it sounds: your level above the line, the agent's below, and over them who had the floor, where the
// agent was held, went on, or was interrupted. Drawn with uPlot (vendor/uplot.js, a global).

const WINDOW_S = 30;
const STEP_S = 0.18; // one bar
const MARKS = {
  interrupted: { label: 'interrupted', color: '--cut' },
  held: { label: 'held', color: '--held' },
  resumed: { label: 'went on', color: '--went-on' },
};

export class Timeline {
  #plot;
  #box;
  #log;
  #started = null; // context time of 0
  #now = 0;
  #peaks = { mic: 0, agent: 0 };
  #rows = [[], [], []]; // seconds, you, agent
  #spans = { user: [], agent: [], held: [] }; // {from, to}
  #marks = []; // {at, what}
  #offset = Infinity; // page time minus the session's clock, seconds; the least one seen is the truest
  #frame = 0;
  #counts = { interrupted: 0, held: 0, resumed: 0 };
  #counters;

  constructor({ box, log, counts }) {
    this.#box = box;
    this.#log = log;
    this.#counters = counts;
    this.#make();
    new ResizeObserver(() => this.#plot.setSize(this.#size())).observe(box);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#remake());
  }

  level(who, level, at) {
    this.#started ??= at - this.#now;
    const now = at - this.#started;
    this.#now = Math.max(this.#now, now);
    this.#peaks[who] = Math.max(this.#peaks[who], level);
    const times = this.#rows[0];
    if (times.length && now - times.at(-1) < STEP_S) return;
    times.push(now);
    this.#rows[1].push(shown(this.#peaks.mic));
    this.#rows[2].push(-shown(this.#peaks.agent));
    this.#peaks = { mic: 0, agent: 0 };
    if (times.length > (2 * WINDOW_S) / STEP_S) this.#rows = this.#rows.map((row) => row.slice(-WINDOW_S / STEP_S));
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** An event voiceagent.floor. */
  floor({ at_ms, what }) {
    this.#offset = Math.min(this.#offset, this.#now - at_ms / 1000);
    const at = Math.min(this.#now, at_ms / 1000 + this.#offset);
    const { user, agent, held } = this.#spans;
    if (what === 'user_started' || what === 'user_resumed') open(user, at);
    else if (what === 'user_paused' || what === 'turn_committed' || what === 'turn_dropped') close(user, at);
    else if (what === 'reply_speaking') open(agent, at);
    else if (what === 'reply_finished' || what === 'reply_cancelled' || what === 'interrupted') close(agent, at);
    if (what === 'held') open(held, at);
    else if (what === 'resumed' || what === 'interrupted' || what === 'reply_cancelled') close(held, at);
    if (!(what in MARKS)) return;
    this.#marks = [...this.#marks.slice(-60), { at, what }];
    this.#counts[what] += 1;
    this.#tell(at, what);
  }

  /** A new session's clock begins anew; what hangs open is closed. */
  newSession() {
    this.#offset = Infinity;
    for (const spans of Object.values(this.#spans)) close(spans, this.#now);
  }

  clear() {
    this.#started = null;
    this.#now = 0;
    this.#rows = [[], [], []];
    this.#spans = { user: [], agent: [], held: [] };
    this.#marks = [];
    this.#offset = Infinity;
    this.#counts = { interrupted: 0, held: 0, resumed: 0 };
    this.#log.replaceChildren();
    this.#count();
    this.#draw();
  }

  #tell(at, what) {
    const line = document.createElement('li');
    const time = document.createElement('time');
    time.textContent = clock(at);
    line.className = what;
    line.append(time, ` ${MARKS[what].label}`);
    this.#log.prepend(line);
    while (this.#log.childElementCount > 12) this.#log.lastElementChild.remove();
    this.#count();
  }

  #count() {
    for (const [what, element] of Object.entries(this.#counters)) element.textContent = this.#counts[what];
  }

  #draw() {
    this.#frame = 0;
    const end = Math.max(WINDOW_S, this.#now);
    this.#plot.batch(() => {
      this.#plot.setData(this.#rows, false);
      this.#plot.setScale('x', { min: end - WINDOW_S, max: end });
    });
  }

  #size() {
    return { width: Math.max(200, this.#box.clientWidth), height: 250 };
  }

  #remake() {
    this.#plot.destroy();
    this.#make();
    this.#draw();
  }

  #make() {
    const bars = uPlot.paths.bars({ size: [0.6, 6, 1], radius: 0.5 });
    const lane = (color) => ({ fill: css(color), stroke: css(color), width: 0, paths: bars, points: { show: false } });
    const grid = { stroke: css('--line'), width: 1 };
    this.#plot = new uPlot(
      {
        ...this.#size(),
        padding: [4, 16, 0, 16],
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false }, y: { range: [-1.12, 1.12] } },
        axes: [
          {
            stroke: css('--faint'),
            font: '11px system-ui',
            size: 26,
            space: 64,
            grid: { show: false },
            ticks: { ...grid, size: 4 },
            values: (_, splits) => splits.map(clock),
          },
          { show: false },
        ],
        series: [{}, lane('--you'), lane('--agent')],
        hooks: { drawClear: [(plot) => this.#spansUnder(plot)], draw: [(plot) => this.#marksOver(plot)] },
      },
      this.#rows,
      this.#box,
    );
  }

  /** Who has the floor, and where the agent is held, as bands behind the sound. */
  #spansUnder({ ctx, bbox, valToPos }) {
    const gap = 2 * devicePixelRatio;
    const middle = valToPos(0, 'y', true);
    const half = bbox.height / 2 - gap;
    const paint = (spans, color, top) => {
      ctx.fillStyle = css(color);
      for (const { from, to } of spans) {
        const left = Math.max(bbox.left, valToPos(from, 'x', true));
        const right = Math.min(bbox.left + bbox.width, valToPos(to ?? this.#now, 'x', true));
        if (right > left) rounded(ctx, left, top, right - left, half, 6 * devicePixelRatio);
      }
    };
    ctx.save();
    paint(this.#spans.user, '--you-soft', middle - half - gap);
    paint(this.#spans.agent, '--agent-soft', middle + gap);
    paint(this.#spans.held, '--held-soft', middle + gap);
    ctx.fillStyle = css('--line');
    ctx.fillRect(bbox.left, middle - devicePixelRatio / 2, bbox.width, devicePixelRatio);
    ctx.restore();
  }

  /** Interruptions as a line across, holds and resumptions as dots, with a label where there is room. */
  #marksOver({ ctx, bbox, valToPos }) {
    const px = devicePixelRatio;
    ctx.save();
    ctx.font = `600 ${11 * px}px system-ui`;
    ctx.textBaseline = 'middle';
    ctx.textAlign = 'left';
    const free = { top: -Infinity, bottom: -Infinity };
    for (const { at, what } of this.#marks) {
      const x = valToPos(at, 'x', true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      const row = what === 'interrupted' ? 'top' : 'bottom';
      const y = row === 'top' ? bbox.top + 10 * px : bbox.top + bbox.height - 10 * px;
      ctx.fillStyle = css(MARKS[what].color);
      if (row === 'top') ctx.fillRect(x - px, bbox.top, 2 * px, bbox.height);
      this.#label(ctx, { x, y, text: what === 'held' ? '' : MARKS[what].label, free, row });
    }
    ctx.restore();
  }

  #label(ctx, { x, y, text, free, row }) {
    const px = devicePixelRatio;
    const color = ctx.fillStyle;
    const width = text && x > free[row] ? ctx.measureText(text).width + 12 * px : 0;
    if (width) {
      rounded(ctx, x, y - 9 * px, width, 18 * px, 9 * px);
      ctx.fillStyle = css('--card');
      ctx.fillText(text, x + 6 * px, y + 0.5 * px);
      free[row] = x + width + 3 * px;
    } else {
      rounded(ctx, x - 3.5 * px, y - 3.5 * px, 7 * px, 7 * px, 4 * px);
    }
    ctx.fillStyle = color;
  }
}

function open(spans, at) {
  if (spans.length && spans.at(-1).to === null) return;
  spans.push({ from: at, to: null });
  if (spans.length > 200) spans.shift();
}

function close(spans, at) {
  const last = spans.at(-1);
  if (last && last.to === null) last.to = Math.max(last.from, at);
}

/** A level (root mean square) as a height 0..1: -50 dB is nothing, -8 dB is all. */
function shown(level) {
  const db = 20 * Math.log10(Math.max(level, 1e-6));
  return Math.max(0, Math.min(1, (db + 50) / 42));
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function rounded(ctx, x, y, width, height, radius) {
  ctx.beginPath();
  ctx.roundRect(x, y, width, height, Math.min(radius, width / 2));
  ctx.fill();
}
