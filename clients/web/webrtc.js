// A link over WebRTC: the microphone and the agent as Opus, events on the data channel "oai-events", as OpenAI's clients do.

import { Trouble } from './troubles.js';

const CONNECT_MS = 4000; // after which UDP is taken to be blocked
const ANSWER_MS = 30_000; // after which an offer that is not answered is withdrawn
const GATHER_MS = 1000; // for STUN and TURN servers, before the offer is sent with what is there
const DISCONNECTED_MS = 3000; // without an answer to ICE's checks, after which the connection is given up
const NOT_FOUND = 'session_not_found'; // error code of a resume token that opens nothing any more

/** WebRTC cannot work here (blocked, or not offered by this server); the fall-back may. */
export class NoWebRtc extends Error {}

export class WebRtcLink extends EventTarget {
  kind = 'webrtc';
  #peer = null;
  #channel = null;
  #sound;
  #call = null; // URL of the call
  #key;
  #over = false;
  #patience = 0;
  #last = { delay: 0, emitted: 0 };

  constructor(sound) {
    super();
    this.#sound = sound;
  }

  /**
   * Resolves when the data channel is open. `relayOnly`: through a TURN server or not at all. Raises Trouble, NoWebRtc.
   */
  async open({ url, key, session, iceServers = [], relayOnly = false, connectMs = CONNECT_MS }) {
    this.#key = key;
    if (!window.RTCPeerConnection) throw new NoWebRtc('not in this browser');
    try {
      this.#peer = new RTCPeerConnection({ iceServers, iceTransportPolicy: relayOnly ? 'relay' : 'all' });
    } catch (error) {
      throw new NoWebRtc(error.message); // a server in a form that this browser does not take
    }
    this.#peer.ontrack = ({ streams, track }) => this.#sound.hear(streams[0] ?? new MediaStream([track]));
    this.#peer.addTrack(this.#sound.track, this.#sound.stream);
    this.#channel = this.#peer.createDataChannel('oai-events');
    const opened = this.#opened(connectMs); // or failed, which no step of the negotiation may outlast
    this.#peer.onconnectionstatechange = () => this.#watch();
    try {
      await Promise.all([opened, this.#negotiate(url, session, iceServers)]);
    } catch (error) {
      this.close();
      throw error instanceof Trouble ? error : new NoWebRtc(error.message);
    }
  }

  send(event) {
    if (this.#channel?.readyState === 'open') this.#channel.send(JSON.stringify(event));
  }

  close() {
    if (this.#call) {
      fetch(this.#call, { method: 'DELETE', headers: this.#headers(), keepalive: true }).catch(() => {});
      this.#call = null;
    }
    this.#end({ code: 1000, reason: '' });
  }

  /** What was not heard yet is dropped by the server. */
  cut() {
    this.send({ type: 'output_audio_buffer.clear' });
  }

  async replaceTrack(track) {
    await this.#peer?.getSenders().find((sender) => sender.track?.kind === 'audio' || !sender.track)?.replaceTrack(track);
  }

  /** Round trip and jitter buffer in ms, packets lost, of the last second where the browser tells. */
  async statistics() {
    const found = {};
    for (const report of (await this.#peer.getStats()).values()) {
      if (report.type === 'inbound-rtp' && report.kind === 'audio') {
        const emitted = report.jitterBufferEmittedCount - this.#last.emitted;
        if (emitted > 0) found.jitter = ((report.jitterBufferDelay - this.#last.delay) / emitted) * 1000;
        this.#last = { delay: report.jitterBufferDelay, emitted: report.jitterBufferEmittedCount };
        Object.assign(found, { lost: report.packetsLost, concealed: report.concealedSamples });
      } else if (report.type === 'candidate-pair' && report.nominated && report.currentRoundTripTime !== undefined) {
        found.roundTrip = report.currentRoundTripTime * 1000;
      }
    }
    return found;
  }

  #watch() {
    const state = this.#peer.connectionState;
    clearTimeout(this.#patience);
    const lost = () => this.#end({ code: 1006, reason: 'ice' });
    if (state === 'failed') lost();
    else if (state === 'disconnected') this.#patience = setTimeout(lost, DISCONNECTED_MS);
  }

  #headers() {
    return this.#key ? { Authorization: `Bearer ${this.#key}` } : {};
  }

  /** Until an address at a relay is found, or nothing more can be: a relay of the server's lets in only who is named. */
  #gathered() {
    const peer = this.#peer;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, GATHER_MS);
      const look = ({ candidate } = {}) => {
        if (peer.iceGatheringState !== 'complete' && candidate?.type !== 'relay') return;
        clearTimeout(timer);
        resolve();
      };
      peer.addEventListener('icecandidate', look);
      peer.addEventListener('icegatheringstatechange', () => look());
      look();
    });
  }

  async #negotiate(url, session, iceServers) {
    await this.#peer.setLocalDescription();
    if (iceServers.length) await this.#gathered();
    if (this.#over) return;
    const sdp = await this.#offer(url, session);
    if (this.#over) this.close(); // too late: the server need not wait for us
    else await this.#peer.setRemoteDescription({ type: 'answer', sdp });
  }

  async #offer(url, session) {
    const form = new FormData();
    form.append('sdp', new Blob([this.#peer.localDescription.sdp], { type: 'application/sdp' }));
    form.append('session', new Blob([JSON.stringify(session)], { type: 'application/json' }));
    const signal = AbortSignal.timeout(ANSWER_MS);
    const response = await fetch(url, { method: 'POST', headers: this.#headers(), body: form, signal });
    if (!response.ok) {
      const trouble = Trouble.ofResponse(response, Boolean(this.#key));
      if (trouble) throw trouble;
      const { error } = await response.json().catch(() => ({}));
      if (error?.code === NOT_FOUND) throw new Trouble('forgotten');
      throw new NoWebRtc(`the server answers ${response.status}`);
    }
    const location = response.headers.get('location');
    if (location) this.#call = new URL(location, url);
    return response.text();
  }

  #opened(connectMs) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new NoWebRtc('no connection in time')), connectMs);
      this.#channel.onopen = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#channel.onmessage = ({ data }) => this.dispatchEvent(new CustomEvent('event', { detail: JSON.parse(data) }));
      this.#channel.onclose = () => this.#end({ code: 1006, reason: 'channel' });
      this.addEventListener('over', () => clearTimeout(timer));
      this.addEventListener('over', () => reject(new NoWebRtc('it failed')));
    });
  }

  #end(why) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#patience);
    this.#peer?.close();
    this.#sound.hear(null);
    this.dispatchEvent(new CustomEvent('over', { detail: why }));
  }
}
