// What a user can do in a conversation, as events of the protocol: interrupt, type, push to talk. Called by app.js.

const TAIL_MS = { webrtc: 250, websocket: 60 }; // the end of the voice that is still under way when the button is let go

export class Talking {
  pushing = false; // push-to-talk is on
  #connection;
  #conversation;
  #sound;
  #detection = null; // the turn detection that push-to-talk replaced
  #muted = false;
  #tail = 0; // timer: the button was let go a moment ago

  constructor({ connection, conversation, sound }) {
    this.#connection = connection;
    this.#conversation = conversation;
    this.#sound = sound;
  }

  /** A session began. `resumed`: the server remembers; otherwise it is told what was said before, and how turns are taken. */
  begin(resumed) {
    if (!resumed) for (const event of this.#conversation.recalled()) this.#connection.send(event);
    this.#detection = this.#conversation.session.audio?.input?.turn_detection ?? this.#detection;
    if (this.pushing) this.#detect(null);
  }

  /** Silences the agent at once. */
  interrupt() {
    if (this.#conversation.replying) this.#connection.send({ type: 'response.cancel' });
    this.#connection.link?.cut();
  }

  /** Several are answered together. */
  say(...texts) {
    this.interrupt();
    for (const text of texts) {
      const id = `item_${crypto.getRandomValues(new Uint32Array(3)).join('')}`.slice(0, 32);
      this.#conversation.put(id, 'user', { text, heard: text.length, final: true, typed: true });
      const item = { id, type: 'message', role: 'user', content: [{ type: 'input_text', text }] };
      this.#connection.send({ type: 'conversation.item.create', item });
    }
    this.#connection.send({ type: 'response.create' });
  }

  mute(muted) {
    this.#muted = muted;
    if (!this.pushing) this.#sound.mute(muted);
  }

  pushToTalk(on) {
    if (on === this.pushing) return;
    this.pushing = on;
    this.#conversation.listens = !on;
    this.#sound.mute(on || this.#muted);
    this.#detect(on ? null : this.#detection);
    if (!on) return;
    this.#connection.send({ type: 'input_audio_buffer.clear' }); // what is being said now would never end
    if (this.#conversation.phase === 'user') this.#conversation.enter('listening');
  }

  press() {
    if (this.#tail) return this.#again(); // let go for a moment only
    this.interrupt();
    this.#connection.send({ type: 'input_audio_buffer.clear' });
    this.#sound.mute(false);
    this.#conversation.listens = true;
    this.#conversation.enter('user');
  }

  #again() {
    clearTimeout(this.#tail);
    this.#tail = 0;
  }

  release() {
    this.#tail = setTimeout(() => {
      this.#tail = 0;
      if (!this.pushing) return;
      this.#sound.mute(true);
      this.#conversation.listens = false;
      this.#connection.send({ type: 'input_audio_buffer.commit' });
      this.#connection.send({ type: 'response.create' });
      this.#conversation.enter('thinking');
    }, TAIL_MS[this.#connection.link?.kind] ?? 0);
  }

  #detect(turn_detection) {
    const session = { type: 'realtime', audio: { input: { turn_detection } } };
    this.#connection.send({ type: 'session.update', session });
  }
}
