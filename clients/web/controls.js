// The parts of the page that are neither captions nor charts: buttons, pickers, meters, messages. No decisions: they tell
// app.js through callbacks, and show what they are given.

import { devices } from './sound.js';

export const $ = (id) => document.getElementById(id);

const PHASES = {
  idle: 'Press Talk to begin',
  listening: 'Listening',
  user: 'Listening to you',
  thinking: 'Thinking…',
  speaking: 'Speaking – interrupt any time',
  held: 'Waiting for you to go on',
};

export function showState(state) {
  document.body.dataset.state = state;
  const busy = state !== 'idle';
  $('talk-label').textContent = busy ? 'End the conversation' : 'Talk';
  for (const id of ['mute', 'push', 'hold', 'silence']) $(id).disabled = state !== 'open';
  if (state === 'connecting') $('status').textContent = 'Connecting…';
  if (state === 'idle') showPhase('idle');
}

export function showPhase(phase) {
  document.body.dataset.phase = phase;
  const muted = $('mute').getAttribute('aria-pressed') === 'true' && phase === 'listening';
  $('status').textContent = muted ? 'You are muted' : PHASES[phase];
}

/** `text` for everybody; it goes by itself only when replaced. "" takes it away. `action` is what its button says. */
export function showTrouble(text, { tone = 'alarm', action = 'Dismiss' } = {}) {
  $('trouble-dismiss').textContent = action;
  $('trouble').hidden = !text;
  $('trouble').dataset.tone = tone;
  $('trouble-text').textContent = text;
}

export function announce(text) {
  $('announced').textContent = text;
}

export function badge(text) {
  $('badge-text').textContent = text;
}

export function askForKey(asked) {
  $('key-form').hidden = !asked;
  if (asked) $('key').focus();
}

const shownAt = { mic: 0, agent: 0 };

/** A level (root mean square) on a meter and the ring of the talk button, 25 times a second at most. */
export function showLevel(who, level) {
  const now = performance.now();
  if (level && now - shownAt[who] < 40) return;
  shownAt[who] = now;
  const db = 20 * Math.log10(Math.max(level, 1e-6));
  const height = Math.max(0, Math.min(1, (db + 55) / 45));
  $(who === 'mic' ? 'meter-mic' : 'meter-agent').style.transform = `scaleX(${height.toFixed(3)})`;
  const agentHasIt = ['speaking', 'held'].includes(document.body.dataset.phase);
  if (agentHasIt === (who === 'agent')) $('halo').style.transform = `scale(${(1.04 + 0.3 * height).toFixed(3)})`;
}

/** Fills the pickers with what there is now; keeps the choice. */
export async function fillPickers() {
  const { microphones, speakers } = await devices();
  fill($('microphone'), microphones, 'Microphone');
  fill($('speaker'), speakers, 'Speaker');
  $('speaker').disabled = !('setSinkId' in HTMLMediaElement.prototype);
}

function fill(select, choices, kind) {
  const chosen = select.value;
  const options = choices.map(({ id, label }, index) => new Option(label || `${kind} ${index + 1}`, id));
  select.replaceChildren(new Option('Default', ''), ...options);
  select.value = choices.some(({ id }) => id === chosen) ? chosen : '';
}

export function toggle(button, on) {
  button.setAttribute('aria-pressed', String(on));
}

/** Pressed and let go, by pointer or by Space and Enter. `up` is always called once after `down`. */
export function holdable(button, { down, up }) {
  let held = false;
  const begin = () => {
    if (held || button.disabled) return;
    held = true;
    button.classList.add('down');
    down();
  };
  const end = () => {
    if (!held) return;
    held = false;
    button.classList.remove('down');
    up();
  };
  button.addEventListener('pointerdown', (event) => {
    button.setPointerCapture(event.pointerId);
    begin();
  });
  for (const type of ['pointerup', 'pointercancel', 'blur']) button.addEventListener(type, end);
  button.addEventListener('keydown', (event) => {
    if (event.key !== ' ' && event.key !== 'Enter') return;
    event.preventDefault();
    begin();
  });
  button.addEventListener('keyup', end);
  button.addEventListener('contextmenu', (event) => event.preventDefault());
}
