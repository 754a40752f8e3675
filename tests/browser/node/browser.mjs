// A real Chromium, or Firefox, with the page in it, and the eyes and ears of a test: what was said on the console, which hosts were asked,
// what the page's loudspeaker was given. Used by scenarios.mjs.

import puppeteer from 'puppeteer-core';

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--autoplay-policy=no-user-gesture-required',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
  '--disable-background-timer-throttling',
  '--disable-renderer-backgrounding',
];
const MICROPHONE = ['--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream'];

// Its microphone is then a tone, allowed without asking. Nothing else differs from a new profile.
const FIREFOX = { 'media.navigator.streams.fake': true, 'media.navigator.permission.disabled': true };

/** `wav`: what the microphone hears from the moment it is opened, once or again and again. `microphone`: "yes", "none", "denied". */
export async function launch({ firefox = null, wav = null, again = false, microphone = 'yes', size = { width: 1280, height: 860 } } = {}) {
  if (firefox) {
    const how = { browser: 'firefox', executablePath: firefox, extraPrefsFirefox: FIREFOX };
    return puppeteer.launch({ ...how, headless: true, protocolTimeout: 30_000, defaultViewport: size });
  }
  const flags = {
    yes: [...MICROPHONE, ...(wav ? [`--use-file-for-fake-audio-capture=${wav}${again ? '' : '%noloop'}`] : [])],
    none: ['--use-fake-ui-for-media-stream'],
    denied: ['--use-fake-device-for-media-stream', '--deny-permission-prompts'],
  }[microphone];
  return puppeteer.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    headless: true,
    protocolTimeout: 30_000,
    defaultViewport: size,
    args: [...FLAGS, ...flags],
  });
}

export class Visitor {
  errors = []; // console errors and uncaught exceptions
  hosts = new Set();
  bytes = 0; // of all responses, as they came over the wire
  frames = []; // events received over WebSockets
  sent = []; // events sent over them

  /**
   * Opens the page. `route`: a UDP relay (relays.mjs) that WebRTC has to go through. `only`: the kind of the server's
   * candidates ("host", "relay") that the page is told of, null for all.
   */
  static async visit(browser, url, { route = null, only = null, features = [] } = {}) {
    const self = new Visitor();
    self.browser = browser;
    self.page = await browser.newPage();
    if (features.length) await self.page.emulateMediaFeatures(features);
    if ((await browser.version()).includes('Chrome')) await self.#watchWire();
    self.#watch();
    await self.page.exposeFunction('routed', async (address, port) => (route ? route.through(address, port) : port));
    await self.page.evaluateOnNewDocument(tap, only);
    await self.page.goto(url, { waitUntil: 'networkidle0' });
    return self;
  }

  async #watchWire() {
    const network = await this.page.createCDPSession();
    await network.send('Network.enable');
    network.on('Network.loadingFinished', ({ encodedDataLength }) => (this.bytes += encodedDataLength));
    network.on('Network.webSocketFrameReceived', ({ response }) => this.frames.push(JSON.parse(response.payloadData)));
    network.on('Network.webSocketFrameSent', ({ response }) => {
      if (response.opcode === 1) this.sent.push(JSON.parse(response.payloadData));
    });
  }

  #watch() {
    this.page.on('request', (request) => this.hosts.add(new URL(request.url()).host));
    this.page.on('pageerror', (error) => this.errors.push(String(error)));
    this.page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warn') this.errors.push(message.text());
    });
  }

  /** Waits until `test(argument)` holds in the page. */
  async until(test, argument = null, seconds = 20) {
    try {
      await this.page.waitForFunction(test, { timeout: seconds * 1000, polling: 50 }, argument);
    } catch (error) {
      throw new Error(`never: ${test} ${JSON.stringify(argument)}; the page: ${JSON.stringify(await this.facts())}`, { cause: error });
    }
  }

  state(state, seconds) {
    return this.until((wanted) => document.body.dataset.state === wanted, state, seconds);
  }

  /** A caption of `role` that is final and holds `words` (any case). `from`: captions before this one do not count. */
  caption(role, words, { from = 0, seconds = 20 } = {}) {
    return this.until(
      ({ role, words, from }) =>
        [...document.querySelectorAll('#captions li')]
          .slice(from)
          .some((line) => line.matches(`.${role}.final`) && line.innerText.toLowerCase().includes(words)),
      { role, words, from },
      seconds,
    );
  }

  async type(words) {
    await this.page.type('#words', words);
    await this.page.keyboard.press('Enter');
  }

  /** What a person sees, and what the loudspeaker was given (sum of squares; and what WebRTC counted). */
  seen() {
    return this.page.evaluate(async () => {
      const text = (id) => document.getElementById(id).innerText.trim();
      const lines = [...document.querySelectorAll('#captions li')].map((line) => ({
        role: line.classList.contains('user') ? 'user' : 'agent',
        final: line.classList.contains('final'),
        text: line.querySelector('p').innerText.trim(),
        struck: line.querySelector('del')?.innerText.trim() ?? '',
      }));
      const received = { energy: 0, lost: 0, concealed: 0, jitter: 0 };
      for (const peer of window.tapped.peers) {
        for (const report of (await peer.getStats()).values()) {
          if (report.type !== 'inbound-rtp' || report.kind !== 'audio') continue;
          received.energy += report.totalAudioEnergy;
          received.lost += report.packetsLost;
          received.concealed += report.concealedSamples;
          received.jitter = (1000 * report.jitterBufferDelay) / Math.max(1, report.jitterBufferEmittedCount);
        }
      }
      return {
        state: document.body.dataset.state,
        phase: document.body.dataset.phase,
        link: document.body.dataset.link ?? null,
        trouble: document.getElementById('trouble').hidden ? '' : text('trouble-text'),
        status: text('status'),
        spoken: document.getElementById('spoken').textContent,
        lines,
        played: window.tapped.energy(),
        received,
        counts: ['interrupted', 'held', 'resumed'].map((name) => Number(text(`count-${name}`))),
        turns: [...document.querySelectorAll('#waterfall tr')].map((row) => ({
          stages: row.querySelector('.unseen').textContent,
          total: row.querySelector('.sum').innerText,
          measured: row.querySelector('.sum').title,
        })),
        statistics: text('statistics'),
      };
    });
  }

  /** How WebRTC's packets go: kind of our candidate, the server's port; ICE servers, and the ports that the answer named. */
  path() {
    return this.page.evaluate(async () => {
      const peer = window.tapped.peers.at(-1);
      const reports = await peer.getStats();
      const pair = [...reports.values()].find((report) => report.type === 'candidate-pair' && report.nominated);
      return {
        local: reports.get(pair.localCandidateId).candidateType,
        port: reports.get(pair.remoteCandidateId).port,
        servers: peer.getConfiguration().iceServers,
        offered: [...peer.remoteDescription.sdp.matchAll(/^a=candidate:\S+ 1 \S+ \S+ \S+ (\d+)/gm)].map(([, port]) => Number(port)),
      };
    });
  }

  /** Everything for the report. */
  async facts() {
    const { errors, bytes } = this;
    return { ...(await this.seen()), errors, bytes, hosts: [...this.hosts] };
  }
}

/**
 * Runs in the page before its own scripts: counts what goes to the loudspeaker, keeps the peers, reroutes their packets; keeps the
 * microphone's tracks, which after `prompt()` come only when the user has said so: `allow()`.
 */
function tap(only) {
  const analysers = [];
  let sum = 0;
  const buffer = new Float32Array(1024);
  setInterval(() => {
    for (const analyser of analysers) {
      analyser.getFloatTimeDomainData(buffer);
      for (const sample of buffer) sum += sample * sample;
    }
  }, 20);
  window.tapped = { peers: [], energy: () => sum, tracks: [] };

  const devices = navigator.mediaDevices;
  const getUserMedia = devices?.getUserMedia.bind(devices);
  if (devices) {
    devices.getUserMedia = async (...options) => {
      await window.tapped.prompted;
      const stream = await getUserMedia(...options);
      window.tapped.tracks.push(...stream.getTracks());
      return stream;
    };
  }
  window.tapped.prompt = () => {
    window.tapped.prompted = new Promise((allow) => (window.tapped.allow = allow));
  };

  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode) {
      const analyser = target.context.createAnalyser();
      analyser.fftSize = 1024;
      connect.call(this, analyser);
      analysers.push(analyser);
    }
    return connect.call(this, target, ...rest);
  };

  window.RTCPeerConnection = class extends window.RTCPeerConnection {
    constructor(...options) {
      super(...options);
      window.tapped.peers.push(this);
    }

    async setRemoteDescription(description) {
      const told = (line) => !only || !line.startsWith('a=candidate:') || line.includes(` typ ${only}`);
      const lines = description.sdp.split('\r\n').filter(told).map(async (line) => {
        const parts = line.split(' ');
        if (!line.startsWith('a=candidate:')) return line;
        parts[5] = await window.routed(parts[4], Number(parts[5]));
        return parts.join(' ');
      });
      return super.setRemoteDescription({ ...description, sdp: (await Promise.all(lines)).join('\r\n') });
    }
  };
}
