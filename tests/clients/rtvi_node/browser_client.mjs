// Holds the conversations of the order in argv in headless Chromium, one page each, a few at a time, and writes the report.

import { build } from 'esbuild';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import puppeteer from 'puppeteer-core';

const order = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const sounds = Object.fromEntries(
  Object.entries(order.sounds).map(([name, file]) => [name, readFileSync(file).toString('base64')]),
);

const bundled = await build({
  entryPoints: [new URL(order.page, import.meta.url).pathname],
  bundle: true,
  write: false,
  format: 'esm',
  logLevel: 'error',
});
const script = bundled.outputFiles[0].contents;
const server = createServer((request, response) => {
  const [type, body] = request.url === '/page.js' ? ['text/javascript', script] : ['text/html', '<script type="module" src="/page.js"></script>'];
  response.writeHead(200, { 'Content-Type': `${type}; charset=utf-8` }).end(body);
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const browser = await puppeteer.launch({
  executablePath: order.chromium,
  headless: true,
  args: [
    '--no-sandbox',
    '--use-fake-ui-for-media-stream',
    '--use-fake-device-for-media-stream',
    '--autoplay-policy=no-user-gesture-required',
    '--disable-features=WebRtcHideLocalIpsWithMdns',
    '--disable-background-timer-throttling',
    '--disable-backgrounding-occluded-windows',
    '--disable-renderer-backgrounding',
  ],
});

const report = {};
const one = async (name) => {
  const page = await browser.newPage();
  const log = [];
  page.on('console', (message) => log.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => log.push(`error: ${error}`));
  let fault = null;
  await page.goto(`http://127.0.0.1:${server.address().port}/`, { waitUntil: 'load' });
  await page.waitForFunction('window.hold');
  const limit = new Promise((_, reject) => setTimeout(() => reject(new Error('timed out')), order.limit_s * 1000));
  try {
    await Promise.race([page.evaluate((name, how) => window.hold(name, how), name, { ...order, sounds }), limit]);
  } catch (error) {
    fault = error.stack;
  }
  const record = await page.evaluate('({ events: window.record?.events ?? [], facts: window.record?.facts ?? {} })');
  report[name] = { fault, ...record, facts: { ...record.facts, log } };
};
// A few at a time: the browser and the server share a machine with whatever else it does.
const waiting = [...order.conversations];
const next = async () => {
  while (waiting.length) await one(waiting.shift());
};
await Promise.all([next(), next()]);
writeFileSync(order.report, JSON.stringify(report));
await browser.close();
server.close();
process.exit(0);
