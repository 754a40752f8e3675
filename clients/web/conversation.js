// One conversation as a listener sees it: who said what, how much of it was heard, who has the floor. It reads the server's
// events and knows neither page nor connection. With servers that lack the voiceagent.* events it makes do with the stock ones.

const MAX_ENTRIES = 400;

/**
 * entry: {id, role: "user" | "agent", text, heard (characters of text that were heard), final, cut (interrupted), typed}
 * Events: "entry" {entry}, "gone" {entry}, "phase" {phase}, "floor" (as the server's), "turn" (as the server's),
 * "session" {session, resumed}, "problem" {message}.
 */
export class Conversation extends EventTarget {
  entries = new Map();
  session = null;
  phase = 'idle'; // listening, user, thinking, speaking, held
  listens = true; // false while the button of push-to-talk is up: to the server, the silence sent then begins a turn
  replying = null; // response id

  receive(event) {
    const read = READERS[event.type];
    if (read) read(this, event);
  }

  /** Items to make a new session go on where the old one was lost: {type: "conversation.item.create"} events. */
  recalled(limit = 40) {
    const told = [...this.entries.values()].filter((entry) => entry.final && heardText(entry));
    return told.slice(-limit).map((entry) => {
      const kind = entry.role === 'user' ? 'input_text' : 'output_text';
      const role = entry.role === 'user' ? 'user' : 'assistant';
      const item = { id: entry.id, type: 'message', role, content: [{ type: kind, text: heardText(entry) }] };
      return { type: 'conversation.item.create', item };
    });
  }

  clear() {
    this.entries.clear();
    this.session = this.replying = null;
    this.enter('idle');
  }

  /** Nothing more will come for what is under way: the connection is gone. */
  settle() {
    for (const entry of this.entries.values()) {
      if (entry.final) continue;
      if (entry.role === 'user' && !entry.typed) this.drop(entry.id);
      else this.put(entry.id, entry.role, { final: true, cut: entry.heard < entry.text.length });
    }
    this.replying = null;
  }

  put(id, role, change) {
    const entry = this.entries.get(id) ?? { id, role, text: '', heard: 0, final: false, cut: false, typed: false };
    Object.assign(entry, change);
    entry.heard = Math.min(entry.heard, entry.text.length);
    this.entries.set(id, entry);
    if (this.entries.size > MAX_ENTRIES) this.drop(this.entries.keys().next().value);
    this.emit('entry', { entry });
  }

  drop(id) {
    const entry = this.entries.get(id);
    if (!entry) return;
    this.entries.delete(id);
    this.emit('gone', { entry });
  }

  enter(phase) {
    if (phase === this.phase) return;
    this.phase = phase;
    this.emit('phase', { phase });
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

export function heardText(entry) {
  return (entry.role === 'user' ? entry.text : entry.text.slice(0, entry.heard)).trim();
}

function itemText(item) {
  return (item.content ?? []).map((part) => part.text ?? part.transcript ?? '').join(' ').trim();
}

const TRANSCRIPTION = 'conversation.item.input_audio_transcription';

const READERS = {
  'session.created'(self, { session }) {
    const resumed = session.voiceagent?.resumed === true;
    self.session = session;
    self.extended = session.voiceagent?.events === true;
    self.replying = null;
    self.emit('session', { session, resumed });
    self.enter('listening');
  },

  'session.updated'(self, { session }) {
    self.session = session;
  },

  'conversation.item.added'(self, { item }) {
    const text = itemText(item);
    if (item.type !== 'message' || !text || self.entries.get(item.id)?.final) return;
    if (item.role === 'user') self.put(item.id, 'user', { text, heard: text.length, final: true });
    else if (item.role === 'assistant') self.put(item.id, 'agent', { text, heard: text.length, final: true });
  },

  [`${TRANSCRIPTION}.delta`](self, { item_id, delta }) {
    if (self.extended) return;
    const text = (self.entries.get(item_id)?.text ?? '') + delta;
    self.put(item_id, 'user', { text, heard: text.length });
  },

  [`${TRANSCRIPTION}.completed`](self, { item_id, transcript }) {
    if (transcript.trim()) self.put(item_id, 'user', { text: transcript, heard: transcript.length, final: true });
    else self.drop(item_id);
  },

  'voiceagent.user.caption'(self, { item_id, text, final }) {
    if (final && !text.trim()) self.drop(item_id);
    else self.put(item_id, 'user', { text, heard: text.length, final });
  },

  'voiceagent.agent.caption'(self, { item_id, response_id, heard, text, done }) {
    if (!text) return;
    const cut = done && heard.length < text.trimEnd().length;
    self.put(item_id, 'agent', { text, heard: heard.length, final: done, cut, response: response_id });
  },

  'response.created'(self, { response }) {
    self.replying = response.id;
    if (self.phase !== 'user') self.enter('thinking');
  },

  'response.output_audio_transcript.delta'(self, { item_id, delta }) {
    if (self.phase === 'thinking') self.enter('speaking');
    if (self.extended) return;
    const text = (self.entries.get(item_id)?.text ?? '') + delta;
    self.put(item_id, 'agent', { text, heard: text.length });
  },

  'response.output_text.delta'(self, { item_id, delta }) {
    const text = (self.entries.get(item_id)?.text ?? '') + delta;
    self.put(item_id, 'agent', { text, heard: text.length });
  },

  'response.done'(self, { response }) {
    if (self.replying === response.id) self.replying = null;
    if (self.phase === 'thinking') self.enter('listening');
    if (response.status === 'failed') {
      self.emit('problem', { message: response.status_details?.error?.message ?? 'The agent could not answer.' });
    }
    if (self.extended) return;
    for (const { id } of response.output) {
      const cut = response.status === 'cancelled';
      if (self.entries.has(id)) self.put(id, 'agent', { final: true, cut });
    }
    self.enter('listening');
  },

  'input_audio_buffer.speech_started'(self) {
    self.enter('user');
  },

  'input_audio_buffer.speech_stopped'(self) {
    if (self.phase === 'user') self.enter('thinking');
  },

  'voiceagent.floor'(self, event) {
    const byVoice = event.what === 'user_started' || event.what === 'user_resumed';
    if (byVoice && !self.listens) return;
    const phase = FLOOR[event.what];
    if (phase) self.enter(phase(self.phase));
    if (event.what === 'turn_dropped' && event.item_id && !self.entries.get(event.item_id)?.final) self.drop(event.item_id);
    self.emit('floor', event);
  },

  'voiceagent.turn'(self, event) {
    self.emit('turn', event);
  },

  error(self, { error }) {
    if (HARMLESS.has(error.code)) return;
    self.emit('problem', { message: error.message });
  },
};

const whileSilent = (next) => (phase) => (phase === 'speaking' || phase === 'held' ? phase : next);

const FLOOR = {
  user_started: whileSilent('user'),
  user_resumed: whileSilent('user'),
  turn_committed: whileSilent('thinking'),
  turn_dropped: whileSilent('listening'),
  held: () => 'held',
  resumed: () => 'speaking',
  interrupted: () => 'user',
  reply_speaking: () => 'speaking',
  reply_finished: (phase) => (phase === 'user' ? phase : 'listening'),
  reply_cancelled: (phase) => (phase === 'user' ? phase : 'listening'),
};

// Answers to what the page asks on suspicion: cancel or cut what may be over already.
const HARMLESS = new Set(['response_cancel_not_active', 'item_retrieve_invalid_item_id', 'item_not_found']);
