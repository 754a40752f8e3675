// Keeps one conversation connected: WebRTC first, WebSocket where that cannot work, again by itself when it is lost, and
// with the resume token so that the server goes on where it was. Knows nothing of what is said.

import { Trouble } from './troubles.js';
import { NoWebRtc, WebRtcLink } from './webrtc.js';
import { WebSocketLink } from './websocket.js';

const BACKOFF_S = [0.3, 1, 2, 4, 8];
const ASK_MS = 10_000; // for what is asked before a link is opened
const SESSION = { type: 'realtime', voiceagent: { events: true } };

/**
 * Events: "state" {state: "connecting" | "open" | "waiting", trouble?, seconds?}, "event" (of the server), "stopped" {trouble}.
 * `prefer` is "auto", "webrtc" or "websocket". `relayOnly`: WebRTC goes through a TURN server or not at all.
 */
export class Connection extends EventTarget {
  link = null;
  #base;
  #sound;
  #wanted = false;
  #wake = () => {};
  #asking = new AbortController(); // of the attempt to connect
  #token = null;
  #noWebRtc = false;

  constructor(sound, { base = new URL('v1/', document.baseURI), prefer = 'auto', connectMs, relayOnly } = {}) {
    super();
    this.#sound = sound;
    this.#base = base;
    this.prefer = prefer;
    this.connectMs = connectMs;
    this.relayOnly = relayOnly;
    window.addEventListener('online', () => this.#wake());
  }

  /** Runs until `stop`, or until trying again makes no sense. */
  async start({ key }) {
    this.#wanted = true;
    this.#noWebRtc = false;
    for (let attempt = 0; this.#wanted; ) {
      let trouble;
      const asking = (this.#asking = new AbortController());
      setTimeout(() => asking.abort(), ASK_MS);
      try {
        this.#state('connecting', { attempt });
        const { over } = await this.#open(key);
        attempt = 0;
        this.#state('open');
        const why = await over;
        trouble = ended(why);
      } catch (error) {
        if (!(error instanceof Trouble)) throw error;
        trouble = error;
        if (trouble.kind === 'forgotten') this.#token = null;
      }
      this.link = null;
      if (!this.#wanted) break;
      if (!trouble.again) return this.#stopped(trouble);
      const seconds = trouble.retryAfter ?? BACKOFF_S[Math.min(attempt, BACKOFF_S.length - 1)];
      attempt += 1;
      this.#state('waiting', { trouble, seconds });
      await this.#pause(seconds);
    }
    this.#stopped(null);
  }

  stop() {
    this.#wanted = false;
    this.#token = null;
    this.#asking.abort();
    this.link?.close();
    this.#wake();
  }

  /** Tries again now instead of when the time is up. */
  again() {
    this.#wake();
  }

  send(event) {
    this.link?.send(event);
  }

  /** Opens a link, up to the server's first event; `over` is a promise of its end. Raises Trouble. */
  async #open(key) {
    await this.#ask(key);
    if (this.prefer !== 'websocket' && !this.#noWebRtc) {
      try {
        const iceServers = await this.#iceServers(key);
        return await this.#through(new WebRtcLink(this.#sound), 'realtime/calls', key, iceServers);
      } catch (error) {
        if (!(error instanceof NoWebRtc)) throw error;
        if (this.prefer === 'webrtc') throw new Trouble('unreachable', { detail: error.message });
        this.#noWebRtc = true; // for this talk
      }
    }
    try {
      return await this.#through(new WebSocketLink(this.#sound), 'realtime', key);
    } catch (error) {
      if (!(error instanceof Trouble) || error.kind !== 'lost') throw error;
      // It was refused, and browsers do not say why. The server answers and takes the key: so there is no place for us.
      throw this.#token === null ? new Trouble('busy', { retryAfter: 5 }) : new Trouble('forgotten');
    }
  }

  async #through(link, path, key, iceServers) {
    if (!this.#wanted) throw new Trouble('ended');
    const url = new URL(path, this.#base);
    url.searchParams.set('voiceagent_events', '1');
    if (this.#token) url.searchParams.set('resume', this.#token);
    const over = new Promise((resolve) => link.addEventListener('over', ({ detail }) => resolve(detail)));
    const created = new Promise((resolve) => link.addEventListener('event', () => resolve(null), { once: true }));
    link.addEventListener('event', ({ detail }) => this.#receive(detail));
    this.link = link;
    const { connectMs, relayOnly } = this;
    await link.open({ url, key, session: SESSION, iceServers, connectMs, relayOnly });
    if (!this.#wanted) link.close();
    const early = await Promise.race([created, over]);
    if (early) throw ended(early);
    return { over };
  }

  /** Asks over HTTP what a WebSocket would not tell: whether a key is needed, whether the models are loaded. */
  async #ask(key) {
    let ready, models;
    try {
      ready = await this.#get('../readyz');
      models = await this.#get('models', key);
    } catch {
      throw new Trouble('unreachable');
    }
    if (ready.status === 503) throw new Trouble('loading', { retryAfter: Trouble.busy(ready).retryAfter });
    const trouble = Trouble.ofResponse(models, Boolean(key));
    if (trouble) throw trouble;
  }

  /** STUN and TURN servers, with passwords that may have expired since the last time. None where the server names none. */
  async #iceServers(key) {
    try {
      const response = await this.#get('realtime/ice_servers', key);
      return response.ok ? (await response.json()).iceServers : [];
    } catch {
      return []; // what is really wrong shows when the call is made
    }
  }

  #get(path, key) {
    const { signal } = this.#asking;
    return fetch(new URL(path, this.#base), { signal, headers: key ? { Authorization: `Bearer ${key}` } : {} });
  }

  #receive(event) {
    if (event.type === 'session.created') this.#token = event.session.voiceagent?.resume?.token ?? null;
    this.dispatchEvent(new CustomEvent('event', { detail: event }));
  }

  #pause(seconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #state(state, rest = {}) {
    this.dispatchEvent(new CustomEvent('state', { detail: { state, ...rest } }));
  }

  #stopped(trouble) {
    this.#wanted = false;
    this.dispatchEvent(new CustomEvent('stopped', { detail: { trouble } }));
  }
}

/** What the end of a link means. Codes of RFC 6455, 7.4.1: 1000 the session is over, 1008 we misbehaved, 1013 try later. */
function ended({ code, reason }) {
  if (code === 1000 || code === 1008) return new Trouble('ended', { detail: reason });
  if (code !== 1013) return new Trouble('lost');
  return new Trouble('busy', { retryAfter: Number(/in (\d+) s/.exec(reason)?.[1] ?? 5) });
}
