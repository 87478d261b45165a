'use strict';
// What Node serves: each path, and by which process.
const http = require('node:http');
const { serve } = require('./fdt-worker');

serve(() => http.createServer((request, answer) => {
  request.resume();
  request.on('end', () => answer.end(`${request.url} from process ${process.pid}\n`));
}));
