// The page: makes the parts and tells each what the others said. Everything that decides is in the other files.

import { Captions } from './captions.js';
import { Connection } from './connection.js';
import { Conversation } from './conversation.js';
import * as controls from './controls.js';
import { Latency } from './latency.js';
import { Sound } from './sound.js';
import { Talking } from './talking.js';
import { Timeline } from './timeline.js';
import { Trouble } from './troubles.js';
import { Waterfall } from './waterfall.js';

const { $ } = controls;
const choice = new URLSearchParams(location.search);

const sound = new Sound();
const conversation = new Conversation();
const connection = new Connection(sound, {
  connectMs: Number(choice.get('connect_ms')) || undefined,
  relayOnly: choice.has('relay'),
});
const talking = new Talking({ connection, conversation, sound });
const captions = new Captions({ list: $('captions'), live: $('spoken'), empty: $('captions-empty') });
const counts = { interrupted: $('count-interrupted'), held: $('count-held'), resumed: $('count-resumed') };
const timeline = new Timeline({ box: $('timeline'), log: $('events'), counts });
const waterfall = new Waterfall({ body: $('waterfall'), axis: $('waterfall-axis'), empty: $('waterfall-empty') });
let latency = new Latency();
let heard = []; // voice-to-voice of every turn, ms
let key = '';
let roundTrip; // of the network, ms
let unsaid = []; // messages typed before there was a connection
let spoken = true; // the last talk was begun with a microphone
let opening = false; // sound is being opened, and no connection yet
let countdown = 0;

// --- beginning and ending ---------------------------------------------------------------------------------------------

async function begin({ microphone = true } = {}) {
  if (document.body.dataset.state !== 'idle') return;
  controls.showTrouble('');
  controls.showState('connecting');
  spoken = microphone;
  opening = true;
  try {
    if (!(await sound.open(microphone ? $('microphone').value : null))) return; // ended meanwhile
  } catch (error) {
    finish(error instanceof Trouble ? error : new Trouble('unsupported', { detail: error.message }));
    return;
  }
  opening = false;
  controls.fillPickers();
  fresh();
  connection.prefer = microphone ? $('transport').value : 'websocket';
  await connection.start({ key });
}

function fresh() {
  conversation.clear();
  captions.clear();
  timeline.clear();
  waterfall.clear();
  latency = new Latency();
  latency.addEventListener('turn', ({ detail }) => showTurn(detail));
  heard = [];
  $('latest').textContent = '–';
  $('median').textContent = '';
}

function finish(trouble) {
  clearInterval(countdown);
  opening = false;
  conversation.settle();
  conversation.enter('idle');
  sound.close();
  talking.pushToTalk(false);
  showPushing(false);
  controls.showState('idle');
  controls.badge('offline');
  for (const who of ['mic', 'agent']) controls.showLevel(who, 0);
  const asks = trouble?.kind === 'key' || trouble?.kind === 'wrong-key';
  controls.askForKey(asks);
  if (!asks) $('words').value = [...unsaid.splice(0), $('words').value].join(' ').trim();
  const tone = trouble?.kind === 'ended' ? 'calm' : 'alarm';
  controls.showTrouble(trouble && trouble.kind !== 'key' ? trouble.message : '', { tone });
  controls.announce(trouble ? '' : 'The conversation is over.');
}

$('talk').addEventListener('click', () => {
  if (document.body.dataset.state === 'idle') begin();
  else end();
});

function end() {
  connection.stop();
  if (opening) finish(null);
}

window.addEventListener('pagehide', end); // so that the server need not wait for us

$('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  key = $('key').value.trim();
  controls.askForKey(false);
  begin({ microphone: spoken });
});

// --- the connection ---------------------------------------------------------------------------------------------------

const LINKS = { webrtc: 'WebRTC', websocket: 'WebSocket' };

connection.addEventListener('state', ({ detail }) => {
  clearInterval(countdown);
  controls.showState(detail.state);
  if (detail.state === 'open') {
    controls.showTrouble('');
    controls.badge(LINKS[connection.link.kind]);
    document.body.dataset.link = connection.link.kind;
    controls.announce('Connected. Speak now.');
  } else {
    controls.badge(detail.state === 'waiting' ? 'waiting' : 'connecting');
  }
  if (detail.state === 'waiting') wait(detail);
});

connection.addEventListener('stopped', ({ detail }) => finish(detail.trouble));
connection.addEventListener('event', ({ detail }) => conversation.receive(detail));

function wait({ trouble, seconds }) {
  conversation.settle();
  timeline.newSession();
  const until = performance.now() + seconds * 1000;
  controls.showTrouble(`${trouble.message} Trying again.`, { tone: 'calm', action: 'Try now' });
  const tell = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    $('status').textContent = left > 0 ? `Trying again in ${left} s` : 'Trying again…';
  };
  tell();
  countdown = setInterval(tell, 500);
}

setInterval(async () => {
  const link = connection.link;
  if (document.body.dataset.state !== 'open' || !link) return;
  const { roundTrip: trip, jitter, buffered, lost, concealed } = await link.statistics().catch(() => ({}));
  const parts = [LINKS[link.kind]];
  roundTrip = trip;
  if (trip !== undefined) parts.push(`${Math.round(trip)} ms`);
  if (link === connection.link) controls.badge(parts.join(' · '));
  const rows = { 'round trip': trip, 'jitter buffer': jitter, buffered };
  const told = Object.entries(rows).filter(([, ms]) => ms !== undefined);
  const lines = told.map(([name, ms]) => `${name}: ${Math.round(ms)} ms`);
  if (lost !== undefined) lines.push(`packets lost: ${lost}`, `samples concealed: ${concealed}`);
  $('statistics').textContent = lines.join('\n');
}, 1000);

// --- the conversation -------------------------------------------------------------------------------------------------

conversation.addEventListener('session', ({ detail }) => {
  timeline.newSession();
  talking.begin(detail.resumed);
  if (unsaid.length) talking.say(...unsaid.splice(0));
});
conversation.addEventListener('entry', ({ detail }) => captions.show(detail.entry));
conversation.addEventListener('gone', ({ detail }) => captions.remove(detail.entry));
conversation.addEventListener('phase', ({ detail }) => controls.showPhase(detail.phase));
conversation.addEventListener('problem', ({ detail }) => controls.showTrouble(detail.message));
conversation.addEventListener('floor', ({ detail }) => timeline.floor(detail));
conversation.addEventListener('turn', ({ detail }) => latency.turn(detail, sound.context?.currentTime ?? 0));

function showTurn(turn) {
  waterfall.add({ ...turn, roundTrip });
  if (turn.marks.speech_ended === undefined) return;
  const ms = turn.heard ?? turn.marks.first_sent;
  if (ms === undefined) return;
  heard = [...heard.slice(-99), ms];
  const middle = [...heard].sort((a, b) => a - b)[Math.floor(heard.length / 2)];
  $('latest').textContent = `${Math.round(ms)} ms`;
  $('median').textContent = heard.length > 1 ? `median ${Math.round(middle)} ms` : '';
}

sound.addEventListener('level', ({ detail: { who, level, at } }) => {
  controls.showLevel(who, level);
  if (document.body.dataset.state === 'idle') return;
  timeline.level(who, level, at);
  latency.level(who, level, at);
});

// --- what a user does -------------------------------------------------------------------------------------------------

$('mute').addEventListener('click', () => {
  const muted = $('mute').getAttribute('aria-pressed') !== 'true';
  controls.toggle($('mute'), muted);
  talking.mute(muted);
  controls.showPhase(conversation.phase);
});

$('push').addEventListener('click', () => {
  talking.pushToTalk(!talking.pushing);
  showPushing(talking.pushing);
});

function showPushing(on) {
  controls.toggle($('push'), on);
  $('hold').hidden = !on;
  $('mute').hidden = on;
}

controls.holdable($('hold'), { down: () => talking.press(), up: () => talking.release() });

$('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('words').value.trim();
  if (!text) return;
  $('words').value = '';
  if (document.body.dataset.state === 'open') {
    talking.say(text);
  } else {
    unsaid.push(text);
    begin({ microphone: false });
  }
});

$('silence').addEventListener('click', () => talking.interrupt());
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  if ($('settings').open) $('settings').open = false;
  else if (document.body.dataset.state === 'open') talking.interrupt();
});

$('trouble-dismiss').addEventListener('click', () => {
  if (document.body.dataset.state === 'waiting') connection.again();
  else controls.showTrouble('');
});
$('microphone').addEventListener('change', () => useMicrophone($('microphone').value));
$('speaker').addEventListener('change', () => sound.useSpeaker($('speaker').value));
sound.addEventListener('microphone', ({ detail }) => connection.link?.replaceTrack(detail));
sound.addEventListener('unplugged', () => useMicrophone(''));
navigator.mediaDevices?.addEventListener?.('devicechange', () => controls.fillPickers());
document.addEventListener('click', ({ target }) => {
  if (!$('settings').contains(target)) $('settings').open = false;
});

async function useMicrophone(id) {
  if (!sound.context) return;
  try {
    await sound.useMicrophone(id);
  } catch (error) {
    controls.showTrouble(error.message);
  }
}

if (['webrtc', 'websocket'].includes(choice.get('transport'))) $('transport').value = choice.get('transport');
controls.fillPickers();
