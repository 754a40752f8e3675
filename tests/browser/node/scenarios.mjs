// What the tests do in the page, one function a scenario; each returns facts that test_page.py judges.
// Run as: node scenarios.mjs NAME '{"base": "http://...", "wav": "...", ...}'. On stdout: "ask WORD" when something is wanted
// of the test (answered by a line on stdin), and at last "report JSON".

import readline from 'node:readline';
import { launch, Visitor } from './browser.mjs';
import { ENDINGS } from './endings.mjs';
import { TcpRelay, UdpRelay } from './relays.mjs';

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function ask(word) {
  process.stdout.write(`ask ${word}\n`);
  return (await answers.next()).value;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const lines = (visitor) => visitor.page.$$eval('#captions li', (all) => all.length);

const SCENARIOS = {
  ...ENDINGS,

  /** A spoken question, an interrupted story, a typed question: over whatever the page chooses. */
  async talk(browser, { base, picture }) {
    const visitor = await Visitor.visit(browser, base);
    const firstLoad = visitor.bytes;
    await visitor.page.click('#talk');
    await visitor.caption('agent', 'paris', { seconds: 25 });
    const answered = await visitor.seen();
    await visitor.until(() => document.querySelector('#captions del'), null, 30);
    if (picture) {
      await visitor.until(() => document.querySelectorAll('#waterfall tr').length > 2 && document.body.dataset.phase === 'speaking');
      await visitor.page.screenshot({ path: picture });
      return visitor.facts();
    }
    const from = await lines(visitor);
    await visitor.caption('agent', 'paris', { from: Math.max(0, from - 2), seconds: 20 });
    await visitor.type('Tell me a rhyme');
    await visitor.caption('agent', 'cat', { seconds: 20 });
    const ink = await visitor.page.$eval('#timeline canvas', (canvas) => {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return new Set(new Uint32Array(data.buffer)).size;
    });
    const facts = { ...(await visitor.facts()), answered, firstLoad, ink };
    await visitor.page.click('#talk');
    await visitor.state('idle');
    return { ...facts, after: await visitor.seen() };
  },

  /** So many spoken questions as the page measures turns (of benchmarks/page.py). */
  async measure(browser, { base, query, turns }) {
    const visitor = await Visitor.visit(browser, `${base}${query}`);
    await visitor.page.click('#talk');
    for (let done = 1; done <= turns; done++) {
      await visitor.until((wanted) => document.querySelectorAll('#waterfall tr').length >= wanted, done, 40);
    }
    return visitor.facts();
  },

  /** UDP goes nowhere. */
  async fallback(browser, { base }) {
    const route = new UdpRelay({ loss: 1 });
    const visitor = await Visitor.visit(browser, `${base}?connect_ms=1200`, { route });
    await visitor.page.click('#talk');
    await visitor.caption('agent', 'paris', { seconds: 25 });
    const facts = await visitor.facts();
    route.close();
    return { ...facts, dropped: route.dropped };
  },

  /** One packet in twenty is lost, others come late. */
  async lossy(browser, { base }) {
    const route = new UdpRelay({ loss: 0.05, reorder: 17 });
    const visitor = await Visitor.visit(browser, `${base}?transport=webrtc`, { route });
    await visitor.page.click('#talk');
    await visitor.caption('agent', 'paris', { seconds: 25 });
    const facts = await visitor.facts();
    route.close();
    return { ...facts, dropped: route.dropped, passed: route.passed };
  },

  /** The server is restarted in the middle: the page comes back, and the conversation with it. */
  async restart(browser, { base }) {
    const relay = await TcpRelay.to(new URL(base).host);
    const visitor = await Visitor.visit(browser, relay.url);
    await visitor.page.click('#talk');
    await visitor.state('open');
    await visitor.type('My name is Ada');
    await visitor.caption('agent', 'ada');
    relay.where = await ask('restart');
    await visitor.state('open', 30);
    const from = await lines(visitor);
    await visitor.type('Hello again');
    await visitor.caption('agent', 'hello again', { from });
    const facts = await visitor.facts();
    relay.close();
    return facts;
  },

  /** Only the connection breaks: the server keeps the session for whoever has its token. */
  async cut(browser, { base }) {
    const relay = await TcpRelay.to(new URL(base).host);
    const visitor = await Visitor.visit(browser, `${relay.url}?transport=websocket`);
    await visitor.page.click('#talk');
    await visitor.state('open');
    await visitor.type('My name is Ada');
    await visitor.caption('agent', 'ada');
    const { where } = relay;
    relay.where = null;
    relay.cut();
    await visitor.state('waiting');
    const lost = await visitor.seen();
    const told = visitor.sent.length;
    relay.where = where;
    await visitor.state('open', 20);
    const from = await lines(visitor);
    await visitor.type('Hello again');
    await visitor.caption('agent', 'hello again', { from });
    const facts = await visitor.facts();
    relay.close();
    const sessions = visitor.frames.filter(({ type }) => type === 'session.created').map(({ session }) => session);
    const created = visitor.sent.slice(told).filter(({ type }) => type === 'conversation.item.create').length;
    return { ...facts, lost, sessions, created };
  },

  /** The same over WebRTC, whose packets stop. */
  async vanish(browser, { base }) {
    const route = new UdpRelay();
    const visitor = await Visitor.visit(browser, `${base}?transport=webrtc`, { route });
    await visitor.page.click('#talk');
    await visitor.state('open');
    await visitor.type('My name is Ada');
    await visitor.caption('agent', 'ada');
    route.loss = 1;
    await visitor.until(() => document.body.dataset.state !== 'open', null, 30);
    const lost = await visitor.seen();
    route.loss = 0;
    await visitor.state('open', 20);
    const from = await lines(visitor);
    await visitor.type('Hello again');
    await visitor.caption('agent', 'hello again', { from });
    const facts = await visitor.facts();
    route.close();
    return { ...facts, lost };
  },

  /** WebRTC through a TURN server only; then with a server that is behind its relay, too. */
  async relay(browser, { base }) {
    const facts = {};
    for (const [name, only] of Object.entries({ ours: null, both: 'relay' })) {
      const visitor = await Visitor.visit(browser, `${base}?transport=webrtc&relay`, { only });
      await visitor.page.click('#talk');
      await visitor.state('open');
      await visitor.type('My name is Ada');
      await visitor.caption('agent', 'ada');
      facts[name] = { ...(await visitor.facts()), path: await visitor.path() };
      await visitor.page.click('#talk');
      await visitor.state('idle');
    }
    return facts;
  },

  /** Over WebRTC, and where UDP goes nowhere: sound goes both ways, captions come. For a browser with a tone for a microphone. */
  async both(browser, { base }) {
    const facts = {};
    const sounds = (who) => parseFloat(document.getElementById(`meter-${who}`).style.transform.slice('scaleX('.length)) > 0.1;
    for (const [name, route] of Object.entries({ webrtc: null, websocket: new UdpRelay({ loss: 1 }) })) {
      const visitor = await Visitor.visit(browser, route ? `${base}?connect_ms=1200` : base, { route });
      await visitor.page.click('#talk');
      await visitor.state('open');
      await visitor.until(sounds, 'mic');
      await visitor.type('My name is Ada');
      await visitor.until(sounds, 'agent');
      await visitor.caption('agent', 'ada');
      await visitor.until(() => document.getElementById('statistics').textContent.includes(' ms'));
      const told = await visitor.page.$eval('#statistics', ({ textContent }) => textContent);
      facts[name] = { ...(await visitor.facts()), told };
      await visitor.page.click('#talk');
      await visitor.state('idle');
      route?.close();
    }
    return facts;
  },

  /** Typed and answered, whether or not sound can be played. */
  async soundless(browser, { base }) {
    const visitor = await Visitor.visit(browser, base);
    await visitor.page.click('#talk');
    await visitor.state('open');
    await visitor.type('My name is Ada');
    await visitor.caption('agent', 'ada');
    const facts = await visitor.facts();
    await visitor.page.click('#talk');
    await visitor.state('idle');
    return facts;
  },

  /** No microphone: said so; typing works. */
  async typing(browser, { base }) {
    const visitor = await Visitor.visit(browser, base);
    await visitor.page.click('#talk');
    await visitor.until(() => !document.getElementById('trouble').hidden);
    const told = await visitor.seen();
    await visitor.type('My name is Ada');
    await visitor.caption('agent', 'ada');
    return { ...(await visitor.facts()), told };
  },

  async denied(browser, { base }) {
    const visitor = await Visitor.visit(browser, base);
    await visitor.page.click('#talk');
    await visitor.until(() => !document.getElementById('trouble').hidden);
    return visitor.facts();
  },

  /** A server with a key: asked for only then; a wrong one is refused. */
  async key(browser, { base, key }) {
    const visitor = await Visitor.visit(browser, base);
    const asks = () => visitor.page.$eval('#key-form', (form) => !form.hidden);
    const before = await asks();
    await visitor.page.click('#talk');
    await visitor.until(() => !document.getElementById('key-form').hidden);
    const focused = await visitor.page.evaluate(() => document.activeElement.id);
    await visitor.page.keyboard.type('wrong');
    await visitor.page.keyboard.press('Enter');
    await visitor.until(() => !document.getElementById('trouble').hidden);
    const refused = await visitor.seen();
    await visitor.page.$eval('#key', (field) => (field.value = ''));
    await visitor.page.type('#key', key);
    await visitor.page.keyboard.press('Enter');
    await visitor.state('open');
    const webrtc = (await visitor.seen()).link;
    await visitor.page.click('#talk');
    await visitor.state('idle');
    await visitor.page.select('#transport', 'websocket');
    await visitor.page.click('#talk');
    await visitor.state('open');
    return { ...(await visitor.facts()), before, focused, refused, links: [webrtc, (await visitor.seen()).link] };
  },

  /** All places are taken: said so, tried again, let in when one is free. */
  async busy(browser, { base, transport }) {
    const first = await Visitor.visit(browser, base);
    await first.page.click('#talk');
    await first.state('open');
    const second = await Visitor.visit(browser, `${base}?transport=${transport}`);
    await second.page.click('#talk');
    await second.state('waiting');
    const refused = await second.seen();
    await first.page.bringToFront();
    await first.page.click('#talk');
    await first.state('idle');
    await second.page.bringToFront();
    await second.page.click('#trouble-dismiss'); // "Try now"
    await second.state('open', 20);
    return { ...(await second.facts()), refused };
  },

  /** Everything by keyboard: talk, push to talk, let go. */
  async keyboard(browser, { base }) {
    const visitor = await Visitor.visit(browser, base);
    const { page } = visitor;
    const focus = async (id) => {
      for (let steps = 0; steps < 25; steps++) {
        if ((await page.evaluate(() => document.activeElement.id)) === id) return;
        await page.keyboard.press('Tab');
      }
      throw new Error(`Tab never reaches ${id}`);
    };
    await focus('talk');
    await page.keyboard.press('Enter');
    await visitor.state('open');
    await focus('push');
    await page.keyboard.press('Space');
    await page.keyboard.down('Shift');
    await focus('hold');
    await page.keyboard.up('Shift');
    await visitor.until(() => document.body.dataset.phase === 'listening'); // what was heard before is answered
    const from = await lines(visitor);
    await page.keyboard.down('Space');
    await visitor.until(() => document.getElementById('hold').classList.contains('down'));
    await pause(5000); // a whole round of the microphone
    await page.keyboard.up('Space');
    await visitor.caption('user', 'capital', { from });
    await visitor.caption('agent', 'paris', { from });
    const facts = await visitor.facts();
    await focus('talk');
    await page.keyboard.press('Enter');
    await visitor.state('idle');
    return facts;
  },

  /** A phone in the dark; and what a screen reader is told. */
  async phone(browser, { base }) {
    const dark = [{ name: 'prefers-color-scheme', value: 'dark' }];
    const visitor = await Visitor.visit(browser, base, { features: dark });
    await visitor.page.click('#talk');
    await visitor.state('open');
    await visitor.type('My name is Ada');
    await visitor.caption('agent', 'ada');
    const layout = await visitor.page.evaluate(() => ({
      overflow: document.documentElement.scrollWidth - innerWidth,
      background: getComputedStyle(document.documentElement).backgroundColor,
      small: [...document.querySelectorAll('button, select, input, summary')]
        .filter((element) => element.checkVisibility() && element.getBoundingClientRect().height < 24)
        .map(({ id }) => id),
    }));
    const nameless = [];
    const walk = (node) => {
      const wants = ['button', 'textbox', 'combobox', 'link', 'table'].includes(node.role);
      if (wants && !node.name) nameless.push(node.role);
      for (const child of node.children ?? []) walk(child);
    };
    walk(await visitor.page.accessibility.snapshot());
    return { ...(await visitor.facts()), layout, nameless };
  },
};

const [name, order] = process.argv.slice(2);
const wanted = JSON.parse(order);
const browser = await launch(wanted);
try {
  process.stdout.write(`report ${JSON.stringify(await SCENARIOS[name](browser, wanted))}\n`);
} finally {
  await browser.close();
}
process.exit(0);
