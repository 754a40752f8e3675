// A link over a WebSocket: events as JSON, sound as base64 in them. The fall-back where UDP is blocked.

import { Trouble } from './troubles.js';

const CONNECT_MS = 10_000; // browsers wait for minutes
const STALLED = 400_000; // bytes waiting to leave: some six seconds of microphone, so nothing is getting through

export class WebSocketLink extends EventTarget {
  kind = 'websocket';
  #socket;
  #sound;
  #refuse = () => {};
  #late = 0; // timer of the connection
  #chunk = ({ detail }) => this.#append(detail);

  constructor(sound) {
    super();
    this.#sound = sound;
  }

  /** Resolves when it is open. Raises Trouble: "lost" when it is refused (a browser is not told why) or closed meanwhile. */
  open({ url, key }) {
    url.protocol = url.protocol.replace('http', 'ws');
    const protocols = ['realtime', ...(key ? [`openai-insecure-api-key.${key}`] : [])];
    return new Promise((resolve, reject) => {
      this.#refuse = reject;
      try {
        this.#socket = new WebSocket(url, protocols);
      } catch {
        reject(new Trouble('wrong-key')); // a key that cannot be a subprotocol
        return;
      }
      this.#late = setTimeout(() => {
        reject(new Trouble('unreachable'));
        this.close();
      }, CONNECT_MS);
      this.#socket.onopen = () => {
        clearTimeout(this.#late);
        this.#sound.addEventListener('chunk', this.#chunk);
        this.#sound.send(true);
        resolve();
      };
      this.#socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
      this.#socket.onclose = ({ code, reason }) => this.#over({ code, reason });
    });
  }

  send(event) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(event));
  }

  close() {
    this.#socket?.close(1000);
    this.#over({ code: 1000, reason: '' });
  }

  /** The microphone needs nothing here: chunks come from whichever is in use. */
  replaceTrack() {}

  async statistics() {
    return { buffered: this.#sound.playing.queued };
  }

  #append(pcm) {
    if (this.#socket.bufferedAmount > STALLED) {
      this.#socket.close();
      this.#over({ code: 1006, reason: 'stalled' });
      return;
    }
    this.send({ type: 'input_audio_buffer.append', audio: toBase64(pcm) });
  }

  #take(event) {
    switch (event.type) {
      case 'response.output_audio.delta':
        this.#sound.play(event.item_id, fromBase64(event.delta));
        return;
      case 'response.output_audio.done':
        this.#sound.endOfPlay();
        break;
      case 'input_audio_buffer.speech_started': // certain, or the agent was silent: what it has not said is dropped
        this.cut();
        break;
    }
    this.dispatchEvent(new CustomEvent('event', { detail: event }));
  }

  /** Stops the agent's sound at once, and tells the server how much of it was heard. */
  cut() {
    const cut = this.#sound.flush();
    if (!cut?.item) return;
    const place = { item_id: cut.item, content_index: 0, audio_end_ms: cut.played };
    this.send({ type: 'conversation.item.truncate', ...place });
  }

  #over(why) {
    clearTimeout(this.#late);
    this.#refuse(new Trouble('lost'));
    this.#sound.removeEventListener('chunk', this.#chunk);
    this.#sound.send(false);
    if (this.#socket) this.#socket.onclose = this.#socket.onmessage = null;
    this.#sound.endOfPlay();
    this.dispatchEvent(new CustomEvent('over', { detail: why }));
  }
}

function toBase64(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)));
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}
