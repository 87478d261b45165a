// The pool of node-postgres: who retries on 57P01 sees no other error. Runs until its input ends.
'use strict'
const { Pool } = require('pg')

const pool = new Pool({ max: 3 })
pool.on('error', () => {}) // an idle connection was told goodbye, and is out of the pool

const account = Number(process.env.ACCOUNT)
let enough = false
let made = 0
let retried = 0

async function transact() {
  const c = await pool.connect()
  let broken
  try {
    await c.query('BEGIN')
    await c.query('CALL deposit($1, 1)', [account])
    await c.query('CALL deposit($1, -1)', [account + 1])
    await c.query('COMMIT')
  } catch (e) {
    broken = e
    throw e
  } finally {
    c.release(broken)
  }
}

async function work() {
  while (!enough) {
    try {
      await transact()
      made++
    } catch (e) {
      if (e.code !== '57P01') throw e
      retried++
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

process.stdin.on('end', () => { enough = true }).resume()
console.log('ready')
Promise.all([work(), work(), work(), work()]).then(() => pool.end()).then(() => console.log(`${made} ${retried}`))
