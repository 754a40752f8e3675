// Bad networks: a UDP relay that loses and reorders packets, a TCP relay whose connections can be cut, an HTTP proxy that
// keeps requests to itself.

import dgram from 'node:dgram';
import http from 'node:http';
import net from 'node:net';

/** Loses `loss` (0..1) of the packets and holds back every `reorder`th for 30 ms, each way; the same ones every time. */
export class UdpRelay {
  passed = 0;
  dropped = 0;
  #sockets = [];
  #ports = new Map();
  #chance = 12345;

  constructor({ loss = 0, reorder = 0 } = {}) {
    Object.assign(this, { loss, reorder });
  }

  /** The port that stands for `port` at `address`. */
  async through(address, port) {
    const name = `${address} ${port}`;
    if (!this.#ports.has(name)) this.#ports.set(name, this.#open(address, port));
    return this.#ports.get(name);
  }

  async #open(address, port) {
    const kind = net.isIPv6(address) ? 'udp6' : 'udp4';
    const front = dgram.createSocket(kind);
    const back = dgram.createSocket(kind);
    this.#sockets.push(front, back);
    let peer = null;
    front.on('message', (packet, from) => {
      peer = from;
      this.#pass(packet, (late) => back.send(late, port, address));
    });
    back.on('message', (packet) => this.#pass(packet, (late) => peer && front.send(late, peer.port, peer.address)));
    await Promise.all([front, back].map((socket) => new Promise((done) => socket.bind(0, address, done))));
    return front.address().port;
  }

  #pass(packet, send) {
    this.#chance = (this.#chance * 1103515245 + 12345) % 2147483648;
    if (this.#chance / 2147483648 < this.loss) {
      this.dropped += 1;
      return;
    }
    this.passed += 1;
    if (this.reorder && this.passed % this.reorder === 0) setTimeout(() => this.#sockets.length && send(packet), 30);
    else send(packet);
  }

  close() {
    for (const socket of this.#sockets.splice(0)) socket.close();
  }
}

/** `where` ("host:port") may change at any time; null refuses. */
export class TcpRelay {
  #server;
  #open = new Set();

  static async to(where) {
    const self = new TcpRelay();
    self.where = where;
    self.#server = net.createServer((socket) => self.#join(socket));
    await new Promise((done) => self.#server.listen(0, '127.0.0.1', done));
    return self;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}/`;
  }

  cut() {
    for (const socket of this.#open) socket.destroy();
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #join(near) {
    if (!this.where) {
      near.destroy();
      return;
    }
    const [host, port] = this.where.split(':');
    const far = net.connect(Number(port), host);
    for (const [socket, other] of [[near, far], [far, near]]) {
      this.#open.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#open.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  }
}

/** Requests (and WebSockets) whose "METHOD /path?query" matches `holds` wait, unanswered, until `release`. */
export class HttpRelay {
  asked = []; // "METHOD /path?query" of every request
  holds = null;
  #server = http.createServer((request, response) => this.#ask(request, response));
  #where;
  #go = () => {};
  #released = new Promise((done) => (this.#go = done));

  static async to(where, holds) {
    const self = new HttpRelay();
    const [host, port] = where.split(':');
    Object.assign(self, { holds });
    self.#where = { host, port: Number(port) };
    self.#server.on('upgrade', (request, near) => self.#join(request, near));
    await new Promise((done) => self.#server.listen(0, '127.0.0.1', done));
    return self;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}/`;
  }

  /** Nothing is held any more, and what was held goes on. */
  release() {
    this.holds = null;
    this.#go();
  }

  close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #pass({ method, url }) {
    const name = `${method} ${url}`;
    this.asked.push(name);
    if (this.holds?.test(name)) await this.#released;
  }

  async #ask(request, response) {
    const { method, url: path, headers } = request;
    response.on('error', () => {});
    await this.#pass(request);
    const far = http.request({ ...this.#where, method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    far.on('error', () => response.destroy());
    request.pipe(far);
  }

  async #join(request, near) {
    near.on('error', () => {});
    await this.#pass(request);
    const far = net.connect(this.#where);
    far.on('error', () => near.destroy());
    near.on('close', () => far.destroy());
    const { method, url, rawHeaders } = request;
    const headers = rawHeaders.map((part, index) => (index % 2 ? `${part}\r\n` : `${part}: `)).join('');
    far.write(`${method} ${url} HTTP/1.1\r\n${headers}\r\n`);
    near.pipe(far).pipe(near);
  }
}
