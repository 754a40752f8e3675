// Scenarios of scenarios.mjs about what is given up, put off or begun again: requests without an answer, permissions that come
// too late, messages that were typed before there was a connection.

import { Visitor } from './browser.mjs';
import { HttpRelay, TcpRelay } from './relays.mjs';

const LIVE = () => window.tapped.tracks.filter(({ readyState }) => readyState === 'live').length;
const HELD = {
  readyz: { holds: /readyz/ },
  models: { holds: /v1\/models/ },
  ice_servers: { holds: /ice_servers/ },
  calls: { holds: /^POST .*realtime\/calls/ },
  websocket: { holds: /realtime\?/, query: '?transport=websocket' },
};

const typed = (visitor) =>
  visitor.sent.map((event) => event.item?.content[0].text ?? event.type).filter((what) => /Ada|Bob|^response.create$/.test(what));
const words = (visitor) => visitor.page.$eval('#words', ({ value }) => value);
const arrives = async (test, seconds = 20) => {
  for (let left = seconds * 20; left > 0 && !test(); left--) await new Promise((done) => setTimeout(done, 50));
  if (!test()) throw new Error(`never: ${test}`);
};

/** Talk, and end it while a request has no answer; then once more, with answers. */
async function unanswered(browser, base, { holds, query = '' }) {
  const relay = await HttpRelay.to(new URL(base).host, holds);
  const visitor = await Visitor.visit(browser, `${relay.url}${query}`);
  const held = () => relay.asked.some((name) => holds.test(name));
  await visitor.page.click('#talk');
  await arrives(held);
  await visitor.page.click('#talk');
  await visitor.state('idle', 10);
  const facts = { live: await visitor.page.evaluate(LIVE), trouble: (await visitor.seen()).trouble };
  const before = relay.asked.length;
  relay.release();
  if (holds === HELD.calls.holds) await arrives(() => relay.asked.some((name) => name.startsWith('DELETE')));
  await visitor.page.click('#talk');
  await visitor.state('open');
  const asked = relay.asked.slice(before).filter((name) => /realtime\?|^POST|^DELETE/.test(name));
  await visitor.page.click('#talk');
  await visitor.state('idle');
  await visitor.page.close();
  relay.close();
  return { ...facts, asked: asked.map((name) => name.replace(/\?.*|call_.*|rtc_.*/, '')) };
}

async function firstAsked({ page }) {
  await page.evaluate(() => window.tapped.prompt());
  await page.click('#talk');
}

async function askedAgain(visitor) {
  await visitor.page.click('#talk');
  await visitor.state('open');
  await visitor.page.evaluate(() => window.tapped.prompt());
  await visitor.page.select('#microphone', '');
}

/** End the talk, then allow what was asked; and then a whole talk. */
async function allowedLate(visitor, begin) {
  const { page } = visitor;
  await begin(visitor);
  await page.click('#talk');
  await visitor.state('idle', 10);
  const before = await page.evaluate(() => window.tapped.tracks.length);
  await page.evaluate(() => window.tapped.allow());
  await visitor.until((many) => window.tapped.tracks.length > many, before);
  const after = { ...(await visitor.facts()), live: await page.evaluate(LIVE) };
  const sessions = () => visitor.frames.filter(({ type }) => type === 'session.created').length;
  const ended = sessions();
  await page.click('#talk');
  await visitor.state('open');
  const during = await page.evaluate(LIVE);
  await page.click('#talk');
  await visitor.state('idle');
  return { ...after, during, sessions: sessions() - ended };
}

export const ENDINGS = {
  /** The conversation is ended while it waits for this or that. */
  async ending(browser, { base }) {
    const facts = {};
    for (const [name, request] of Object.entries(HELD)) {
      facts[name] = await unanswered(browser, base, request).catch((error) => ({ failed: error.message }));
    }
    return facts;
  },

  /** An answer to the offer that does not come: the WebSocket takes over; the late answer is hung up on. */
  async slow_answer(browser, { base }) {
    const relay = await HttpRelay.to(new URL(base).host, HELD.calls.holds);
    const visitor = await Visitor.visit(browser, `${relay.url}?connect_ms=800`);
    await visitor.page.click('#talk');
    await visitor.state('open');
    await visitor.type('My name is Ada');
    await visitor.caption('agent', 'ada');
    const facts = await visitor.facts();
    relay.release();
    await arrives(() => relay.asked.some((name) => name.startsWith('DELETE')));
    relay.close();
    return facts;
  },

  /** Requests and a WebSocket that nobody answers are given up, and tried again. */
  async silent_server(browser, { base }) {
    const wait = async ({ holds, query = '' }) => {
      const relay = await HttpRelay.to(new URL(base).host, holds);
      const visitor = await Visitor.visit(browser, `${relay.url}${query}`);
      await visitor.page.evaluate(() => document.getElementById('talk').click()); // in the background, too
      await visitor.state('waiting', 30);
      const { trouble } = await visitor.seen();
      relay.release();
      await visitor.state('open', 20);
      relay.close();
      return trouble;
    };
    return { models: await wait(HELD.models), websocket: await wait(HELD.websocket) };
  },

  /** The conversation is ended while the browser asks for the microphone, at its beginning and in the middle. */
  async late_permission(browser, { base }) {
    const facts = {};
    for (const [name, begin] of Object.entries({ beginning: firstAsked, middle: askedAgain })) {
      const visitor = await Visitor.visit(browser, `${base}?transport=websocket`);
      facts[name] = await allowedLate(visitor, begin).catch((error) => ({ failed: error.message }));
      await visitor.page.close();
    }
    return facts;
  },

  /** Typed first, and then the server wants a key: no microphone, and nothing is lost. */
  async typed_key(browser, { base, key }) {
    const visitor = await Visitor.visit(browser, base);
    await visitor.type('My name is Ada');
    for (const attempt of ['wrong', key]) {
      await visitor.until(() => !document.getElementById('key-form').hidden);
      await visitor.page.$eval('#key', (field) => (field.value = ''));
      await visitor.page.type('#key', attempt);
      await visitor.page.keyboard.press('Enter');
    }
    await visitor.caption('agent', 'ada');
    return { ...(await visitor.facts()), tracks: await visitor.page.evaluate(() => window.tapped.tracks.length) };
  },

  /** Typed while the connection is lost; and what was typed where no connection came of it. */
  async typed_early(browser, { base }) {
    const relay = await TcpRelay.to(new URL(base).host);
    const visitor = await Visitor.visit(browser, `${relay.url}?transport=websocket`);
    await visitor.page.click('#talk');
    await visitor.state('open');
    const { where } = relay;
    const lose = async () => {
      relay.where = null;
      relay.cut();
      await visitor.state('waiting');
    };
    await lose();
    await visitor.type('My name is Ada');
    await visitor.type('His name is Bob');
    relay.where = where;
    await visitor.state('open');
    await visitor.caption('agent', 'bob');
    const facts = { ...(await visitor.seen()), order: typed(visitor), left: await words(visitor) };
    await lose();
    await visitor.type('Her name is Eve');
    await visitor.page.click('#talk');
    await visitor.state('idle');
    relay.close();
    return { ...facts, unsent: await words(visitor) };
  },

  /** Its modules in a document of another folder. */
  async elsewhere(browser, { base }) {
    const visitor = await Visitor.visit(browser, `${base}vendor/LICENSE.txt`);
    return visitor.page.evaluate(async (from) => {
      const { Sound } = await import(from);
      const sound = new Sound();
      const opened = await sound.open(null).catch(String);
      sound.close();
      return { opened };
    }, `${base}sound.js`);
  },
};
