'use strict';
// A worker of fdt on Node: this one file, Node 18 or newer, and nothing else.
//
//     const http = require('node:http');
//     require('./fdt-worker').serve(() => http.createServer(answer));
//
// It serves the listeners that systemd passes, says READY=1 and STOPPING=1 by systemd-notify(1), drains on SIGTERM, and speaks the
// control protocol, version 1, by which `fdtctl status` counts connections and `fdtctl drain` cuts them: see ANOTHER PROGRAM AS
// WORKER in fdt-worker(8). What Node cannot do: it knows no SO_PEERCRED, so who may ask on the control socket is a matter of the
// permissions of its directory alone, which let in root and group fdt; and it has no datagrams on unix sockets, so that systemd is
// told by another process, which takes NotifyAccess=all.
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const { promisify } = require('node:util');

const PROTOCOL = 1;
const LONGEST = 64 << 10; // of a request on the control socket, in bytes
const EXCHANGE = 10_000; // milliseconds that one may take

// listeners are the descriptors that systemd passes, as sd_listen_fds(3) has it.
function listeners() {
  if (process.env.LISTEN_PID !== String(process.pid)) {
    throw new Error('systemd has passed no listeners: LISTEN_PID is not this process');
  }
  return Array.from({ length: Number(process.env.LISTEN_FDS) }, (_, i) => 3 + i);
}

// notify tells systemd, as sd_notify(3) has it.
function notify(...what) {
  return promisify(execFile)('systemd-notify', what);
}

// milliseconds is what a duration of the control protocol, such as 1m30s or 250ms, is.
function milliseconds(duration) {
  const units = { h: 3.6e6, m: 6e4, s: 1e3, ms: 1, us: 1e-3, 'µs': 1e-3, ns: 1e-6 };
  const part = /(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)/g;
  if (duration !== '0' && duration.replace(part, '') !== '') {
    throw new Error(`within: ${JSON.stringify(duration)} is not a duration such as 5s`);
  }
  let sum = 0;
  for (const [, number, unit] of duration.matchAll(part)) sum += Number(number) * units[unit];
  return sum;
}

class Worker {
  // make returns a new http.Server or net.Server that does not listen yet; it is called for each listener. Of a net.Server's
  // connections the program itself says, by busy(socket) and idle(socket), when one has a request in hand; at first it has not.
  // While the worker drains, a connection without one is ended after silence, in milliseconds. Node sets the length of the kernel's
  // queue anew, for all workers: backlog is listen.NAME.backlog of fdt.yaml(5).
  constructor(make, { silence = 2000, backlog = 4096 } = {}) {
    Object.assign(this, { make, silence, backlog, accepted: 0, draining: false, since: new Date() });
    this.servers = [];
    this.sockets = new Map(); // to requests in hand, and since when there is none
    this.answers = new Set();
  }

  serve() {
    process.on('SIGTERM', () => this.drain());
    process.on('SIGINT', () => this.drain());
    process.on('SIGQUIT', () => this.drain(0));
    const opening = listeners().map((fd) => this.#listen(fd));
    if (process.env.FDT_CONTROL) opening.push(this.#control(process.env.FDT_CONTROL));
    return Promise.all(opening).then(() => notify('--ready', '--status=serving'));
  }

  #listen(fd) {
    const server = this.make();
    server.on('connection', (socket) => {
      this.accepted++;
      this.sockets.set(socket, { requests: 0, idle: Date.now() });
      socket.on('close', () => {
        this.sockets.delete(socket);
        this.#end();
      });
    });
    if (server instanceof http.Server) {
      server.prependListener('request', (request, answer) => {
        if (this.draining) answer.setHeader('Connection', 'close');
        this.busy(request.socket);
        this.answers.add(answer);
        answer.on('close', () => {
          this.answers.delete(answer);
          this.idle(request.socket);
        });
      });
    }
    this.servers.push(server);
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ fd, backlog: this.backlog }, resolve);
    });
  }

  busy(socket) {
    const s = this.sockets.get(socket);
    if (s) s.requests++;
  }

  idle(socket) {
    const s = this.sockets.get(socket);
    if (s && --s.requests === 0) s.idle = Date.now();
  }

  // drain stops to accept, and lets connections end; those that are left after within milliseconds are cut.
  drain(within) {
    if (!this.draining) {
      this.draining = true;
      this.since = new Date();
      // Not http.Server's own, which also ends idle connections at once, on which a request may be on its way.
      for (const server of this.servers) net.Server.prototype.close.call(server);
      notify('STOPPING=1', `--status=draining ${this.sockets.size}`).catch((err) => console.error(`<4>systemd cannot be told: ${err.message}`));
      for (const answer of this.answers) if (!answer.headersSent) answer.setHeader('Connection', 'close');
      this.ending = setInterval(() => this.#hush(), 100);
      this.#end();
    }
    if (within !== undefined) setTimeout(() => this.#cut(), within).unref();
  }

  // hush ends connections on which nothing is asked any more.
  #hush() {
    for (const [socket, s] of this.sockets) {
      if (s.requests === 0 && Date.now() - s.idle >= this.silence && socket.bytesRead === s.seen) socket.destroySoon();
      s.seen = socket.bytesRead;
    }
  }

  #cut() {
    for (const socket of this.sockets.keys()) socket.destroy();
  }

  // end ends the process by leaving it nothing to do.
  #end() {
    if (!this.draining || this.sockets.size > 0) return;
    clearInterval(this.ending);
    for (const server of this.servers) if (server instanceof http.Server) server.close(); // its timers
    this.control?.close();
    process.exitCode = 0;
  }

  // status is what the control socket tells of this worker.
  status() {
    const [generation, slot] = path.basename(process.env.FDT_CONTROL, '.sock').split('-').map(Number);
    let busy = 0;
    for (const s of this.sockets.values()) if (s.requests > 0) busy++;
    return {
      protocol: PROTOCOL, generation, slot, pid: process.pid, state: this.draining ? 'draining' : 'serving', since: this.since.toISOString(),
      open: this.sockets.size, busy, idle: this.sockets.size - busy, accepted: this.accepted, memory: process.memoryUsage.rss(),
    };
  }

  #control(at) {
    fs.rmSync(at, { force: true }); // of a process that has died
    this.control = net.createServer((socket) => {
      let line = '';
      socket.setEncoding('utf8');
      socket.setTimeout(EXCHANGE, () => socket.destroy());
      socket.on('error', () => {}); // who asked has left
      socket.on('data', (text) => {
        line += text;
        if (line.includes('\n')) {
          socket.pause();
          socket.end(JSON.stringify(this.#answer(line)) + '\n');
        } else if (line.length > LONGEST) {
          socket.end(JSON.stringify({ error: 'the request is too long' }) + '\n');
        }
      });
    });
    return new Promise((resolve, reject) => {
      this.control.once('error', reject);
      this.control.listen(at, () => {
        fs.chmodSync(at, 0o660);
        resolve();
      });
    });
  }

  #answer(line) {
    try {
      const question = JSON.parse(line);
      switch (question.op) {
        case 'status':
          return { reply: this.status() };
        case 'drain':
          this.drain(question.within ? milliseconds(question.within) : undefined);
          return { reply: null };
        default:
          return { error: `unknown operation ${JSON.stringify(question.op)}`, code: 'unknown_op' };
      }
    } catch (err) {
      return { error: err.message };
    }
  }
}

// serve runs a Worker; the process ends when that has drained.
function serve(make, options) {
  const worker = new Worker(make, options);
  worker.serve().catch((err) => {
    console.error(`<3>fdt-worker: ${err.message}`);
    process.exit(1);
  });
  return worker;
}

module.exports = { serve, Worker };
